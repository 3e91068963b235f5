package cluster_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// A command above half of the room must be let in when there is room, whatever
// was waiting before it.
func TestABigProposalGetsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		release := make(chan struct{})
		c.groups[at].Go(func(cluster.Now) { <-release }) // nothing moves
		synctest.Wait()
		small := propose(t, c.groups[at], strings.Repeat("s", 1<<20))
		type outcome struct {
			name string
			err  error
		}
		accepted := make(chan outcome, 3)
		done := make(chan answer, 3)
		for i, size := range []int{20 << 20, 12 << 20, 8 << 20} {
			go func() {
				err := c.groups[at].Propose(t.Context(), cluster.Proposal[string]{
					Command: []byte(strings.Repeat("b", size)), Done: func(r string, err error) { done <- answer{r[:min(len(r), 1)], err} },
				})
				accepted <- outcome{[]string{"20", "12", "8"}[i], err}
			}()
			synctest.Wait() // in this order
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := c.groups[at].Propose(ctx, cluster.Proposal[string]{Command: make([]byte, 1<<20)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a small proposal overtook those that wait: %v", err)
		}
		close(release)
		if a := <-small; a.err != nil {
			t.Fatal(a.err)
		}
		for range 3 {
			select {
			case o := <-accepted:
				if o.err != nil {
					t.Errorf("the proposal of %s MiB: %v", o.name, o.err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a proposal waits although there is room")
			}
			if a := <-done; a.err != nil {
				t.Error(a.err)
			}
		}
		var sizes []int
		for _, m := range c.machines[at].commands {
			sizes = append(sizes, len(m)>>20)
		}
		if len(sizes) != 4 || sizes[1] != 20 || sizes[2] != 12 || sizes[3] != 8 {
			t.Errorf("applied in the order %v MiB", sizes)
		}
	})
}

// poison makes a replica's Raft panic: a leader that knows more to be committed
// than there is.
func (c *trio) poison(i int) {
	term, commit := uint64(99), uint64(1<<40)
	from, to := uint64((i+1)%3+1), uint64(i+1)
	c.hosts[i].Receive(from, cluster.Envelope{Group: 7, From: from, To: to}, &pb.Message{
		Type: pb.MsgHeartbeat.Enum(), From: &from, To: &to, Term: &term, Commit: &commit,
	}, i%2 == 0)
}

func TestWhatWaitsIsAnsweredWhenAReplicaFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		release := make(chan struct{})
		c.groups[at].Go(func(cluster.Now) { <-release })
		synctest.Wait()
		c.poison(at) // is taken together with the proposal
		waits := propose(t, c.groups[at], "waits")
		close(release)
		select {
		case a := <-waits:
			if a.err == nil {
				t.Error("a replica that failed confirmed a proposal")
			}
		case <-time.After(time.Minute):
			t.Fatal("nobody answers a proposal that the failed replica had taken")
		}
		if err := <-c.fails; !strings.Contains(err.Error(), "tocommit") {
			t.Errorf("it failed by %v", err)
		}
	})
}

// breaks is a log whose Append panics.
type breaks struct {
	cluster.Log
	on *bool
}

func (b breaks) Append(w cluster.Write, done func(here bool)) (waits bool) {
	if *b.on {
		panic("planted in the log")
	}
	return b.Log.Append(w, done)
}

func TestAPanicOfTheLogEndsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		other := (at + 1) % 3
		if err := c.groups[other].Close(); err != nil {
			t.Fatal(err)
		}
		broken := false
		c.startOn(other, breaks{c.logs[other].Stop(), &broken})
		c.settle(0, 1, 2)
		if err := c.groups[other].Do(t.Context(), func(cluster.Now) { broken = true }); err != nil {
			t.Fatal(err)
		}
		if a := <-propose(t, c.groups[at], "x"); a.err != nil {
			t.Fatal(a.err)
		}
		select {
		case <-c.groups[other].Done():
		case <-time.After(time.Minute):
			t.Fatal("the replica neither runs nor ends")
		}
	})
}

func TestAPanicInUnleadEndsOneReplicaOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		if err := c.groups[at].Do(t.Context(), func(cluster.Now) { c.machines[at].panicAt, c.machines[at].panicUnlead = "boom", true }); err != nil {
			t.Fatal(err)
		}
		if a := <-propose(t, c.groups[at], "boom"); !errors.Is(a.err, cluster.ErrUnknownOutcome) {
			t.Errorf("answered %v", a)
		}
		<-c.fails
		<-c.groups[at].Done()
		if now := c.leader(); now == at {
			t.Error("the failed replica leads")
		}
	})
}

// A log of which Raft cannot make sense is an error, not the end of the process.
func TestALogThatRaftRefusesIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := cluster.OpenHost(cluster.HostOptions{Server: 1, Logger: slog.New(slog.DiscardHandler)})
		defer func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
		m := &tally{}
		_, err := cluster.StartGroup(h, cluster.GroupConfig{
			Options: cluster.Options{Group: 7, ID: 1, Tick: 50 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10}, Name: "test",
		}, noConfig{}, m, m)
		if err == nil {
			t.Fatal("started")
		}
	})
}

// noConfig is a log that ends before what it knows to be committed.
type noConfig struct{ cluster.Log }

func (noConfig) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return &pb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(uint64(5))}, &pb.ConfState{Voters: []uint64{1}}, nil
}
func (noConfig) Pages(func(key, value []byte) error) (uint64, error) { return 0, nil }
func (noConfig) FirstIndex() (uint64, error)                         { return 8, nil }
func (noConfig) LastIndex() (uint64, error)                          { return 9, nil }
func (noConfig) Term(uint64) (uint64, error)                         { return 1, nil }

// What comes for a replica that has stopped is not kept, however long others
// hold on to it.
func TestAStoppedGroupKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		if err := c.groups[at].Close(); err != nil {
			t.Fatal(err)
		}
		c.groups[at].Go(func(cluster.Now) {})
		if n := c.groups[at].Waiting(); n != 0 {
			t.Errorf("%d calls wait for a loop that has ended", n)
		}
		if err := c.hosts[at].ReceiveSnapshot(2, cluster.Envelope{Group: 7, From: 2, To: uint64(at + 1)}, &pb.Message{}, io.LimitReader(nil, 0)); err == nil {
			t.Error("a stopped replica takes a snapshot")
		}
	})
}

func TestHandOverAtAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 3, 0) // no heartbeat when the quorum is checked
		for i := range 25 {
			at := c.leader()
			time.Sleep(600*time.Millisecond + time.Duration(i)*20*time.Millisecond)
			synctest.Wait()
			to := (at + 1) % 3
			if err := c.groups[at].HandOver(t.Context(), map[uint64]int{uint64(to + 1): 5}); err != nil {
				t.Fatal(err)
			}
			if c.groups[at].Leads() {
				t.Fatalf("round %d: leadership was not handed over", i)
			}
		}
	})
}

func TestTwoHandOversAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		done := make(chan error, 2)
		for range 2 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				done <- c.groups[at].HandOver(ctx, map[uint64]int{uint64((at+1)%3 + 1): 1})
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A new leader does not know yet where the others are. It must not let go of
// what one that is away for a moment needs.
func TestANewLeaderKeepsTheLogForThoseWhoAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		for i := range c.groups {
			if err := c.groups[i].Retain(t.Context(), cluster.Retention{Leader: 8 << 10, Follower: 8 << 10, Grain: 256, Unheard: 30 * time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		at := c.leader()
		send := func(n int) {
			for range n {
				if a := <-propose(t, c.groups[at], strings.Repeat("x", 200)); a.err != nil {
					t.Fatal(a.err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		send(200) // far more than is kept
		c.settle(0, 1, 2)
		away, next := (at+1)%3, (at+2)%3
		c.net.isolate(uint64(away+1), true)
		send(5)
		if err := c.groups[at].HandOver(t.Context(), map[uint64]int{uint64(next + 1): 5}); err != nil {
			t.Fatal(err)
		}
		at = c.leader()
		send(10) // for a second: checkpoints are made
		c.net.isolate(uint64(away+1), false)
		c.settle(0, 1, 2)
		if c.net.snaps != 0 {
			t.Errorf("%d snapshots were sent to a replica that lacked 15 entries", c.net.snaps)
		}
		if first := c.first(at); first < 100 {
			t.Errorf("the log begins at %d: nothing is let go", first)
		}
	})
}
