package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// A lone proposal leaves, and a lone append is written, before the call that brings
// it returns; what is more than a little is the loop's.
func TestALoneMessageIsHandledWhereItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		c.net.onlyAlone(false)
		at := c.leader()
		c.settle(0, 1, 2)
		for n := range 100 {
			// Not the moment of a tick, which is the loop's.
			time.Sleep(7 * time.Millisecond)
			synctest.Wait()
			appends, answers := c.net.count(pb.MsgApp), c.net.count(pb.MsgAppResp)
			a := propose(t, c.groups[at], fmt.Sprint(n))
			appends, answers = c.net.count(pb.MsgApp)-appends, c.net.count(pb.MsgAppResp)-answers
			if appends < 2 || answers < 2 {
				t.Fatalf("proposal %d: %d appends had left and %d answers come when it returned", n, appends, answers)
			}
			if got := <-a; got.err != nil {
				t.Fatal(got.err)
			}
		}
		// Held up, the loop does not hold up others; what comes meanwhile it does itself.
		release := make(chan struct{})
		c.groups[at].Go(func(cluster.Now) { <-release })
		synctest.Wait()
		small, large := propose(t, c.groups[at], "s"), propose(t, c.groups[at], strings.Repeat("l", 1<<20))
		close(release)
		for _, ch := range []<-chan answer{small, large} {
			if a := <-ch; a.err != nil {
				t.Error(a.err)
			}
		}
	})
}

// onlyAlone makes every message come alone, in the sender's turn or later.
func (n *network) onlyAlone(later bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.alone, n.later = true, later
}

// A turn that the loop did not run changes when the loop must wake.
func TestTheLoopWakesForWhatOthersTurnsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 3, 0)
		c.net.onlyAlone(true)
		at := c.leader()
		c.settle(0, 1, 2)
		late := 0
		for range 40 {
			if a := <-propose(t, c.groups[at], "x"); a.err != nil {
				t.Fatal(a.err)
			}
			time.Sleep(6 * time.Millisecond) // more than the news may wait
			synctest.Wait()
			for i := range c.groups {
				if len(c.machines[i].commands) != len(c.machines[at].commands) {
					late++
				}
			}
			time.Sleep(17 * time.Millisecond)
		}
		if late > 0 {
			t.Errorf("%d times a follower did not learn of a commit in time", late)
		}
	})
}

// TestTurnsOfManyGoroutines is for the race detector.
func TestTurnsOfManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		const publishers, each = 8, 200
		var wg sync.WaitGroup
		for p := range publishers {
			wg.Go(func() {
				for n := range each {
					if a := <-propose(t, c.groups[at], fmt.Sprint(p, ".", n)); a.err != nil {
						t.Errorf("publisher %d, %d: %v", p, n, a.err)
						return
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]int{}
		if err := c.groups[at].Do(t.Context(), func(cluster.Now) {
			for _, m := range c.machines[at].commands {
				seen[m]++
			}
		}); err != nil {
			t.Fatal(err)
		}
		for p := range publishers {
			for n := range each {
				if name := fmt.Sprint(p, ".", n); seen[name] != 1 {
					t.Errorf("%s was applied %d times", name, seen[name])
				}
			}
		}
	})
}

// Commands that come together share entries: only the first is alone.
func TestWhatIsProposedTogetherIsWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		c.net.onlyAlone(true)
		at := c.leader()
		c.settle(0, 1, 2)
		applied := func() uint64 {
			s, err := c.groups[at].Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Applied
		}
		before := applied()
		var all []<-chan answer
		for n := range 200 {
			all = append(all, propose(t, c.groups[at], fmt.Sprintf("%0100d", n)))
		}
		for _, a := range all {
			if got := <-a; got.err != nil {
				t.Fatal(got.err)
			}
		}
		if n := applied() - before; n > 100 {
			t.Errorf("200 commands became %d entries", n)
		}
	})
}

// A panic on a goroutine that is not the group's ends the group, and nothing else.
func TestAPanicInDeadlineOnAForeignGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		c.settle(0, 1, 2)
		// The loop asks once after this.
		if err := c.groups[at].Do(t.Context(), func(cluster.Now) { c.machines[at].panicDeadline = 2 }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		propose(t, c.groups[at], "x")
		if err := <-c.fails; err == nil || !strings.Contains(err.Error(), "planted in Deadline") {
			t.Error(err)
		}
		<-c.groups[at].Done()
	})
}

// What comes when the loop has looked for the last time, and still has the turn, is
// not left until the next tick.
func TestWhatComesAtTheEndOfATurnIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		c.settle(0, 1, 2)
		time.Sleep(7 * time.Millisecond) // not the moment of a tick
		synctest.Wait()
		began := time.Now()
		came := make(chan (<-chan answer), 1)
		if err := c.groups[at].Do(t.Context(), func(cluster.Now) {
			c.machines[at].onDeadline = func() { // the loop asks after this
				var wg sync.WaitGroup
				wg.Go(func() { came <- propose(t, c.groups[at], "late") })
				wg.Wait()
			}
		}); err != nil {
			t.Fatal(err)
		}
		if a := <-<-came; a.err != nil || time.Since(began) > 0 {
			t.Errorf("%v, after %v", a.err, time.Since(began))
		}
	})
}

// lazy is a log in which everything that may wait for Work does.
type lazy struct {
	cluster.Log
	left []func()
}

func (l *lazy) Append(w cluster.Write, done func(here bool)) bool {
	if !w.Here || len(w.Entries) == 0 {
		return l.Log.Append(w, done)
	}
	l.Log.Append(w, func(bool) { l.left = append(l.left, func() { done(true) }) })
	return true
}

func (l *lazy) Work() bool {
	if len(l.left) == 0 {
		return false
	}
	l.left[0]()
	l.left = l.left[1:]
	return true
}

// bomb panics, once it is armed, when a new leader is logged.
type bomb struct {
	slog.Handler
	armed *atomic.Bool
}

func (b bomb) Enabled(context.Context, slog.Level) bool { return true }
func (b bomb) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b bomb) WithGroup(string) slog.Handler            { return b }
func (b bomb) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "leader" && b.armed.CompareAndSwap(true, false) {
		panic("planted behind Append")
	}
	return nil
}

type nowhere struct{ cluster.Transport }

func (nowhere) Send(uint64, cluster.Envelope, *pb.Message) bool { return false }

// What was left to Work when a turn panicked is still written: the group ends when
// its log has done everything.
func TestAGroupEndsAlthoughAWriteWaitsForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed atomic.Bool
		h := cluster.OpenHost(cluster.HostOptions{Server: 1, Incarnation: 1, Logger: slog.New(bomb{slog.DiscardHandler, &armed}), Transport: nowhere{}})
		m := &tally{}
		g, err := cluster.StartGroup(h, cluster.GroupConfig{
			Options: cluster.Options{Group: 7, ID: 1, Tick: time.Hour, HeartbeatTicks: 1, ElectionTicks: 10, Rank: 100},
			Name:    "test", Members: []cluster.Member{{Replica: 1, Server: 1}, {Replica: 2, Server: 2}, {Replica: 3, Server: 3}},
		}, &lazy{Log: clustertest.NewMemLog(clustertest.Async, 1, []uint64{1, 2, 3})}, m, m)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // the first tick is over
		synctest.Wait()
		armed.Store(true)
		h.Receive(2, cluster.Envelope{Group: 7, From: 2, To: 1}, &pb.Message{
			Type: pb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(5)),
			Index: new(uint64(0)), LogTerm: new(uint64(0)), Commit: new(uint64(0)),
			Entries: []*pb.Entry{{Index: new(uint64(1)), Term: new(uint64(5))}},
		}, true)
		if armed.Load() {
			t.Error("the turn was not run where the message came")
		}
		<-g.Done()
		if err := g.Err(); err == nil || !strings.Contains(err.Error(), "planted behind Append") {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}
