package integration

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/integration/harness"
)

// TestSuspendUnderLoad suspends a cluster while clients work, kills its leader
// meanwhile, and then all servers: it stays suspended and nothing is stored. It is
// resumed, and its leader killed again: everybody goes on by himself, and nothing is
// lost.
func TestSuspendUnderLoad(t *testing.T) {
	t.Parallel()
	definition := strings.Replace(harness.Definition(harness.Cluster{Name: "main", Durability: "sync"}),
		"durability: sync", "durability: sync\n    suspend_grace: 100ms", 1)
	f := harness.Start(t, 3, definition)
	h := harness.NewHistory(t)
	load(f, h, "main")
	admin := f.Client().Admin()
	killedMeanwhile := func(what string, do func(context.Context) error) {
		t.Helper()
		leader := f.Leader("main")
		done := make(chan error, 1)
		go func() { done <- do(within(t, time.Minute)) }()
		harness.Pause(rand.N(30 * time.Millisecond)) // so that kills meet every state of it
		leader.Kill()
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		leader.Start()
	}
	for range *kills / 2 {
		h.AwaitProgress(30 * time.Second)
		killedMeanwhile("suspend", func(ctx context.Context) error {
			_, err := admin.SuspendCluster(ctx, "main")
			return err
		})
		last := suspendedAt(f)
		if last == 0 {
			t.Fatal("not suspended after the leader was killed")
		}
		var wg sync.WaitGroup
		for _, n := range f.Nodes {
			wg.Go(n.Kill)
		}
		wg.Wait()
		for _, n := range f.Nodes {
			n.Start()
		}
		for _, n := range f.Nodes {
			harness.Await(t, time.Minute, "server "+n.Name+" to be ready but for the suspended cluster", func(ctx context.Context) error {
				err := n.Readyz(ctx)
				switch {
				case err == nil:
					return errors.New("it does not say that the cluster is suspended")
				case !strings.Contains(err.Error(), "cluster main is suspended") || strings.Contains(err.Error(), "\n"):
					return err
				}
				return nil
			})
		}
		if now := suspendedAt(f); now != last {
			t.Errorf("the last id went from %d to %d while the cluster was suspended", last, now)
		}
		killedMeanwhile("resume", func(ctx context.Context) error { return admin.ResumeCluster(ctx, "main") })
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitPending("main", harness.Shared, 0)
	f.AwaitIdentical("main")
}

// suspendedAt is the last id that the store of cluster main has given, 0 if the
// cluster is not suspended.
func suspendedAt(f *harness.Fleet) uint64 {
	c := f.Cluster("main")
	if !c.Suspended {
		return 0
	}
	return c.Stores[0].LastID
}
