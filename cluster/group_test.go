package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/cluster"
)

// leader waits, in fake time, until one replica leads, and returns its number.
func (c *trio) leader() int {
	for range 1000 {
		for i, g := range c.groups {
			if g.Leads() && g.Err() == nil {
				return i
			}
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	c.t.Fatal("no leader after 10 s")
	return -1
}

// first returns the first index of a replica's log.
func (c *trio) first(i int) uint64 {
	s, err := c.groups[i].Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return s.First
}

type answer struct {
	r   string
	err error
}

// propose returns a channel that gets the outcome.
func propose(t *testing.T, g *cluster.Group[string], command string) <-chan answer {
	ch := make(chan answer, 1)
	err := g.Propose(t.Context(), cluster.Proposal[string]{Command: []byte(command), Done: func(r string, err error) { ch <- answer{r, err} }})
	if err != nil {
		ch <- answer{"", err}
	}
	return ch
}

// settle lets time pass until all replicas that run have applied the same.
func (c *trio) settle(among ...int) {
	for range 1000 {
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		var states []cluster.Status
		for _, i := range among {
			s, err := c.groups[i].Status(c.t.Context())
			if err != nil {
				c.t.Fatal(err, c.groups[i].Err())
			}
			states = append(states, s)
		}
		if !slices.ContainsFunc(states, func(s cluster.Status) bool { return s.Applied != states[0].Applied || s.Applied < s.Commit }) {
			for _, s := range states {
				if s.Hash != states[0].Hash {
					c.t.Fatalf("replicas differ at %d: %x and %x", s.Applied, s.Hash, states[0].Hash)
				}
			}
			return
		}
	}
	c.t.Fatal("replicas do not agree after 20 s")
}

func TestProposalsAreAppliedOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				var last <-chan answer
				for i := range 250 {
					last = propose(t, c.groups[at], fmt.Sprintf("%d/%d", w, i))
				}
				if a := <-last; a.err != nil || !strings.HasSuffix(a.r, fmt.Sprintf(":%d/249", w)) {
					t.Errorf("proposer %d: %v", w, a)
				}
			})
		}
		wg.Wait()
		c.settle(0, 1, 2)
		for i, m := range c.machines {
			if len(m.commands) != 1000 {
				t.Errorf("replica %d applied %d commands, want 1000", i, len(m.commands))
			}
			next := map[string]int{}
			for _, cmd := range m.commands {
				w, n, _ := strings.Cut(cmd, "/")
				if n != fmt.Sprint(next[w]) {
					t.Fatalf("replica %d: proposer %s: %s after %d", i, w, n, next[w])
				}
				next[w]++
			}
		}
	})
}

func TestTheHighestRankLeadsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		if at := c.leader(); at != 0 {
			t.Errorf("replica %d leads, rank 0 is replica 0", at)
		}
	})
}

func TestOnlyTheLeaderProposes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		a := <-propose(t, c.groups[(at+1)%3], "x")
		if !errors.Is(a.err, cluster.ErrNotLeader) {
			t.Errorf("a follower answered %v", a)
		}
		if server, _ := c.groups[(at+1)%3].Leader(); server != uint64(at+1) {
			t.Errorf("the follower names server %d, the leader is on %d", server, at+1)
		}
	})
}

func TestAnIsolatedLeaderGivesUpAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		old := c.leader()
		if a := <-propose(t, c.groups[old], "before"); a.err != nil {
			t.Fatal(a.err)
		}
		c.net.isolate(uint64(old+1), true)
		stranded := propose(t, c.groups[old], "stranded")
		if a := <-stranded; !errors.Is(a.err, cluster.ErrUnknownOutcome) {
			t.Errorf("a proposal that cannot be committed ended as %v, want unknown", a)
		}
		now := c.leader()
		if now == old {
			t.Fatal("the isolated leader still leads")
		}
		if a := <-propose(t, c.groups[now], "after"); a.err != nil {
			t.Fatal(a.err)
		}
		c.net.isolate(uint64(old+1), false)
		c.settle(0, 1, 2)
		if got := c.machines[old].commands; !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("the old leader has %v", got)
		}
		if c.machines[old].unlead != 1 {
			t.Errorf("the old leader was told %d times that it does not lead", c.machines[old].unlead)
		}
	})
}

func TestAReplicaFarBehindGetsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		behind := (at + 1) % 3
		c.net.isolate(uint64(behind+1), true)
		for i := range 300 {
			if a := <-propose(t, c.groups[at], fmt.Sprint(i)); a.err != nil {
				t.Fatal(a.err)
			}
		}
		// A silent voter's place in the log is kept for 30 s.
		time.Sleep(40 * time.Second)
		for i := range 10 {
			if a := <-propose(t, c.groups[at], fmt.Sprint("late", i)); a.err != nil {
				t.Fatal(a.err)
			}
			time.Sleep(time.Second)
		}
		if first := c.first(at); first < 300 {
			t.Fatalf("the leader's log still begins at %d", first)
		}
		c.net.isolate(uint64(behind+1), false)
		c.settle(0, 1, 2)
		if n := len(c.machines[behind].commands); n != 310 {
			t.Errorf("the replica that was behind has %d commands, want 310", n)
		}
		if c.first(behind) == 1 {
			t.Error("it caught up without a snapshot; the test is not what it says")
		}
	})
}

func TestARestartedReplicaGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		other := (at + 1) % 3
		for i := range 100 {
			if a := <-propose(t, c.groups[at], fmt.Sprint(i)); a.err != nil {
				t.Fatal(a.err)
			}
			if i == 50 {
				time.Sleep(3 * time.Second) // a checkpoint
			}
		}
		if err := c.groups[other].Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.groups[other].Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
		if a := <-propose(t, c.groups[at], "meanwhile"); a.err != nil {
			t.Fatal(a.err)
		}
		c.logs[other] = c.logs[other].Stop()
		c.start(other)
		c.settle(0, 1, 2)
		if n := len(c.machines[other].commands); n != 101 {
			t.Errorf("after the restart it has %d commands, want 101", n)
		}
	})
}

// Whoever the machine wakes when it begins to lead must find that it leads.
func TestLeadsIsTrueBeforeTheMachineIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		to := (at + 1) % 3
		seen := make(chan bool, 1)
		err := c.groups[to].Do(t.Context(), func(cluster.Now) {
			c.machines[to].onLead = func() { seen <- c.groups[to].Leads() }
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.groups[at].HandOver(t.Context(), map[uint64]int{uint64(to + 1): 5}); err != nil {
			t.Fatal(err)
		}
		if !<-seen {
			t.Error("the machine was told that it leads while Leads said no")
		}
	})
}

func TestHandOverMovesLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		to := (at + 2) % 3
		if err := c.groups[at].HandOver(t.Context(), map[uint64]int{uint64(to + 1): 5}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if now := c.leader(); now != to {
			t.Errorf("replica %d leads, %d should", now, to)
		}
	})
}

func TestAPanicStopsOneReplicaOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		broken := (at + 1) % 3
		if err := c.groups[broken].Do(t.Context(), func(cluster.Now) { c.machines[broken].panicAt = "boom" }); err != nil {
			t.Fatal(err)
		}
		if a := <-propose(t, c.groups[at], "boom"); a.err != nil {
			t.Fatal(a.err)
		}
		if err := <-c.fails; !strings.Contains(err.Error(), "planted") {
			t.Errorf("the failure says %v", err)
		}
		<-c.groups[broken].Done()
		if err := c.groups[broken].Do(t.Context(), func(cluster.Now) {}); !errors.Is(err, cluster.ErrStopped) {
			t.Errorf("a stopped group answers %v", err)
		}
		if a := <-propose(t, c.groups[broken], "x"); !errors.Is(a.err, cluster.ErrStopped) {
			t.Errorf("a stopped group takes a proposal: %v", a)
		}
		if a := <-propose(t, c.groups[at], "on"); a.err != nil {
			t.Errorf("the others do not go on: %v", a.err)
		}
	})
}

func TestProposersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		for i := range c.groups { // nothing is committed
			if i != at {
				c.net.isolate(uint64(i+1), true)
			}
		}
		big := strings.Repeat("x", 1<<20)
		for range 16 {
			propose(t, c.groups[at], big)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := c.groups[at].Propose(ctx, cluster.Proposal[string]{Command: []byte(big)})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the 17th MiB was taken: %v", err)
		}
		if a := <-propose(t, c.groups[at], strings.Repeat("x", cluster.MaxCommand+1)); a.err == nil {
			t.Error("a command over the limit was taken")
		}
	})
}

func TestACommandInTwoPartsIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		ch := make(chan answer, 1)
		err := c.groups[at].Propose(t.Context(), cluster.Proposal[string]{
			Command: []byte("head"), Body: []byte("+body"), Done: func(r string, err error) { ch <- answer{r, err} },
		})
		if err != nil {
			t.Fatal(err)
		}
		if a := <-ch; a.err != nil || a.r != "1:head+body" {
			t.Errorf("got %v", a)
		}
	})
}
