package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// electionTimeout is the default; a follower waits for up to twice as long.
const electionTimeout = 500 * time.Millisecond

// TestPausedLeader stops the leader for longer than its followers wait. Its
// connections stay open: only silence tells. When it goes on it must notice that
// it leads no more before it confirms anything.
func TestPausedLeader(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	for range 2 {
		before := f.Cluster("main")
		paused := f.Node(before.Leader)
		paused.Pause()
		harness.Pause(3 * electionTimeout)
		h.AwaitProgress(30 * time.Second) // with the old leader still silent
		after := f.Cluster("main")
		if after.Leader == before.Leader || after.Term <= before.Term {
			t.Errorf("leader %s of term %d was paused; now %s leads in term %d", before.Leader, before.Term, after.Leader, after.Term)
		}
		paused.Resume()
		f.AwaitState("main", paused, "follower")
		h.AwaitProgress(30 * time.Second)
		if now := f.Cluster("main"); now.Leader != after.Leader || now.Term != after.Term {
			t.Errorf("the old leader's return moved leadership from %s, term %d, to %s, term %d", after.Leader, after.Term, now.Leader, now.Term)
		}
	}
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitPending("main", harness.Shared, 0)
	f.AwaitIdentical("main")
}

// TestPausedFollower shows that a follower that is silent costs nothing but its
// vote.
func TestPausedFollower(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	before := f.Cluster("main")
	paused := f.Other(f.Node(before.Leader))
	paused.Pause()
	harness.Pause(3 * electionTimeout)
	h.AwaitProgress(30 * time.Second)
	paused.Resume()
	f.AwaitState("main", paused, "follower")
	h.AwaitProgress(30 * time.Second)
	if now := f.Cluster("main"); now.Leader != before.Leader || now.Term != before.Term {
		t.Errorf("a paused follower moved leadership from %s, term %d, to %s, term %d", before.Leader, before.Term, now.Leader, now.Term)
	}
	h.Finish()
	f.AwaitIdentical("main")
}

// TestNoElectionUnderLoad publishes as fast as it can through two clusters: load
// alone must never cost a leader its office.
func TestNoElectionUnderLoad(t *testing.T) {
	lasts := 10 * time.Second
	if *minute {
		lasts = time.Minute
	}
	names := []string{"safe", "quick"}
	f := harness.Start(t, 3, harness.Definition(
		harness.Cluster{Name: "safe", Durability: "sync"}, harness.Cluster{Name: "quick", Durability: "async"}))
	h := harness.NewHistory(t)
	for _, name := range names {
		h.Subscribe(f.Client(), name)
		h.Subscribe(f.Client(), name, client.SubscriberName(harness.Worker))
		h.Publish(f.Client(), name, harness.Load{Size: 1024})
	}
	h.AwaitProgress(30 * time.Second)
	before := f.Clusters(names...)
	harness.Pause(lasts)
	after := f.Clusters(names...)
	for _, name := range names {
		if after[name].Term != before[name].Term || after[name].Leader != before[name].Leader {
			t.Errorf("cluster %s went from term %d under %s to term %d under %s without a fault",
				name, before[name].Term, before[name].Leader, after[name].Term, after[name].Leader)
		}
	}
	t.Logf("%d messages of 1 KiB confirmed in about %v", h.Confirmed(), lasts)
	h.Finish()
}

// TestGracefulStop stops each server in turn with SIGTERM, the leader first.
// Leadership moves before the server ends, and no publish fails. How long
// publishers waited is said, not judged: the machine has a part in it.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	h.Subscribe(f.Client(), "main")
	h.Subscribe(f.Client(), "main", client.SubscriberName(harness.Worker))
	p := h.Publish(f.Client(), "main", harness.Load{Rate: 1000, Size: 200})
	for range 3 {
		h.AwaitProgress(30 * time.Second)
		before := f.Cluster("main")
		leader := f.Node(before.Leader)
		leader.Stop()
		if last := lastLeaderLine(leader.LogText(), "main"); !strings.Contains(last, "role=StateFollower") || strings.Contains(last, "leader=0 ") {
			t.Errorf("%s stopped before it knew a new leader; the last it says of leaders is %q", leader.Name, last)
		}
		h.AwaitProgress(30 * time.Second)
		if after := f.Cluster("main"); after.Leader == before.Leader {
			t.Errorf("%s leads still", after.Leader)
		}
		leader.Start()
		leader.Ready()
	}
	h.Finish()
	if n := p.Failed(); n != 0 {
		t.Errorf("%d publishes failed", n)
	}
	t.Logf("longest wait of a publisher over three stops: %v", p.Longest())
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}

// lastLeaderLine is the last thing that a server logs about who leads a group.
func lastLeaderLine(log, group string) (last string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "msg=leader ") && strings.Contains(line, "group="+group+" ") {
			last = line
		}
	}
	return last
}
