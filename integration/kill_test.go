package integration

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// load starts two publishers to a store, a subscriber of its standard durable
// and two of its shared one.
func load(f *harness.Fleet, h *harness.History, store string) {
	h.Subscribe(f.Client(), store)
	h.Subscribe(f.Client(), store, client.SubscriberName(harness.Worker))
	h.Subscribe(f.Client(), store, client.SubscriberName(harness.Worker))
	h.Publish(f.Client(), store, harness.Load{Rate: 2000, Size: 200})
	h.Publish(f.Client(), store, harness.Load{Rate: 200, Size: 3000})
}

// TestKillLoop kills a random server, again and again, under load: no confirmed
// message may be lost, and nobody may be stuck after any of the kills.
func TestKillLoop(t *testing.T) {
	for _, durability := range []string{"sync", "async"} {
		t.Run(durability, func(t *testing.T) {
			f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Durability: durability}))
			h := harness.NewHistory(t)
			load(f, h, "main")
			leaders := 0
			for range *kills {
				h.AwaitProgress(30 * time.Second)
				leader := f.Leader("main")
				victim := leader
				if rand.IntN(2) == 0 { // half of the kills, and some by chance, meet the leader
					victim = f.Nodes[rand.IntN(len(f.Nodes))]
				}
				if leader == victim {
					leaders++
				}
				victim.Kill()
				h.AwaitProgress(30 * time.Second)
				victim.Start()
				victim.Ready()
				harness.Pause(rand.N(300 * time.Millisecond)) // so that kills meet every state of catching up
			}
			h.Finish()
			f.AwaitPending("main", harness.Standard, 0)
			f.AwaitPending("main", harness.Shared, 0)
			f.AwaitIdentical("main")
			t.Logf("%d kills, %d of them of the leader", *kills, leaders)
		})
	}
}

// TestKillAll ends all servers at once under load: killed twice, then stopped.
// In sync and in async everything that was confirmed is with the operating
// system by then.
func TestKillAll(t *testing.T) {
	f := harness.Start(t, 3, harness.Definition(
		harness.Cluster{Name: "safe", Durability: "sync"}, harness.Cluster{Name: "quick", Durability: "async"}))
	h := harness.NewHistory(t)
	load(f, h, "safe")
	load(f, h, "quick")
	for _, end := range []func(*harness.Node){(*harness.Node).Kill, (*harness.Node).Kill, (*harness.Node).Stop} {
		h.AwaitProgress(30 * time.Second)
		var wg sync.WaitGroup
		began := time.Now()
		for _, n := range f.Nodes {
			wg.Go(func() { end(n) })
		}
		wg.Wait()
		t.Logf("all ended within %v", time.Since(began))
		for _, n := range f.Nodes {
			n.Start()
		}
		for _, n := range f.Nodes {
			n.Ready()
		}
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	for _, store := range []string{"safe", "quick"} {
		f.AwaitPending(store, harness.Standard, 0)
		f.AwaitPending(store, harness.Shared, 0)
		f.AwaitIdentical(store)
	}
}
