package cluster_test

import (
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// count returns how many messages of a type were sent so far.
func (n *network) count(kind pb.MessageType) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[kind]
}

func TestALonePublisherCostsOneRoundTripToEachFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrio(t)
		at := c.leader()
		c.settle(0, 1, 2)
		appends, answers := c.net.count(pb.MsgApp), c.net.count(pb.MsgAppResp)
		const n = 200
		for range n {
			if a := <-propose(t, c.groups[at], "x"); a.err != nil {
				t.Fatal(a.err)
			}
		}
		// Heartbeats may ask for one more here and there.
		if got := c.net.count(pb.MsgApp) - appends; got > 2*n+n/10 {
			t.Errorf("%d appends for %d entries and two followers", got, n)
		}
		if got := c.net.count(pb.MsgAppResp) - answers; got > 2*n+n/10 {
			t.Errorf("%d answers for %d entries and two followers", got, n)
		}
	})
}

func TestFollowersLearnOfACommitBeforeTheNextHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTrioWith(t, 3, 0)
		at := c.leader()
		c.settle(0, 1, 2)
		for i := range 50 {
			beats := c.net.count(pb.MsgHeartbeat)
			if a := <-propose(t, c.groups[at], "x"); a.err != nil {
				t.Fatal(a.err)
			}
			time.Sleep(6 * time.Millisecond)
			synctest.Wait()
			if c.net.count(pb.MsgHeartbeat) != beats {
				continue // it would have told them
			}
			for i, g := range c.groups {
				s, err := g.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.Applied < s.Commit || len(c.machines[i].commands) != len(c.machines[at].commands) {
					t.Fatalf("replica %d applied %d commands, the leader %d", i, len(c.machines[i].commands), len(c.machines[at].commands))
				}
			}
			time.Sleep(time.Duration(i) * time.Millisecond) // so that heartbeats fall anywhere
		}
	})
}
