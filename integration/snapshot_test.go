package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// TestFollowerBySnapshot keeps a follower away for longer than the others keep
// their log for it. It comes back by a snapshot: state, and the bodies that
// somebody still wants. Then the others are killed in turn, so that what it got
// has to do.
func TestFollowerBySnapshot(t *testing.T) {
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Durability: "async", Stores: []string{"kept"}}))
	away := f.Other(f.Leader("main"))
	away.Kill()
	h := harness.NewHistory(t)
	// A stream that is consumed: nobody needs to send its bodies again.
	h.Subscribe(f.Client(), "main")
	h.Subscribe(f.Client(), "main", client.SubscriberName(harness.Worker))
	stream := h.Publish(f.Client(), "main", harness.Load{Size: 64 << 10, Limit: 6000}) // 375 MiB
	// And messages in between that nobody has consumed yet.
	kept := h.Publish(f.Client(), "kept", harness.Load{Size: 1000, Rate: 500, Limit: 2000})
	for _, p := range []*harness.Publishing{stream, kept} {
		if err := p.Wait(within(t, 5*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitPending("main", harness.Shared, 0)
	before := f.AwaitState("main", f.Leader("main"), "leader")

	away.Start()
	f.AwaitIdentical("main")
	if got := f.AwaitState("main", away, "follower"); got.Applied < before.Applied {
		t.Errorf("the follower has applied %d of %d entries", got.Applied, before.Applied)
	}
	if !snapshotSent(f) {
		t.Error("the follower was not brought up by a snapshot: the log was kept for it, and this test shows nothing")
	}
	for _, n := range f.Nodes {
		if n != away {
			n.Kill()
			h.Publish(f.Client(), "kept", harness.Load{Size: 1000, Rate: 500, Limit: 200})
			n.Start()
			n.Ready()
		}
	}
	h.Subscribe(f.Client(), "kept")
	h.Subscribe(f.Client(), "kept", client.SubscriberName(harness.Worker))
	h.Finish()
	f.AwaitPending("kept", harness.Standard, 0)
	f.AwaitIdentical("main")
}

// snapshotSent tells whether some server has sent a snapshot.
func snapshotSent(f *harness.Fleet) bool {
	for _, n := range f.Nodes {
		if strings.Contains(n.LogText(), `msg="sending snapshot"`) {
			return true
		}
	}
	return false
}
