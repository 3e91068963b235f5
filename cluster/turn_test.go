package cluster_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
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
