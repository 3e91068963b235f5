package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// TestSubscribersComeAndGo lets subscribers of standard, shared and dynamic
// durables close and open all the time, with messages in hand that they have not
// acknowledged, while leaders are killed: what one leaves the next must get.
func TestSubscribersComeAndGo(t *testing.T) {
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Durability: "async"}))
	h := harness.NewHistory(t)
	kinds := [][]client.SubscribeOption{
		{client.Durable(harness.Standard)},
		{client.Durable(harness.Shared)},
		{client.Durable(harness.Shared), client.Prefetch(3)},
		{client.Durable("dynamic"), client.Standard()},
		{client.Durable("dynamic-shared"), client.Shared()},
	}
	c := f.Client()
	open := make([]*harness.Consuming, len(kinds))
	for i, options := range kinds {
		open[i] = h.SubscribeCareless(c, "main", 0.1, options...)
	}
	h.Publish(f.Client(), "main", harness.Load{Rate: 1000, Size: 200})
	for round := range 12 {
		harness.Pause(rand.N(100 * time.Millisecond))
		i := rand.IntN(len(kinds))
		if err := open[i].Close(within(t, 30*time.Second)); err != nil {
			t.Errorf("close: %v", err)
		}
		open[i] = h.SubscribeCareless(c, "main", 0.1, kinds[i]...)
		if round%7 == 3 {
			leader := f.Leader("main")
			leader.Kill()
			h.AwaitProgress(30 * time.Second)
			leader.Start()
			leader.Ready()
		}
	}
	// Those who acknowledge everything finish what the others left.
	for i := range kinds {
		if err := open[i].Close(within(t, 30*time.Second)); err != nil {
			t.Errorf("close: %v", err)
		}
		h.Subscribe(c, "main", kinds[i]...)
	}
	h.Finish()
	for _, durable := range []string{harness.Standard, harness.Shared, "dynamic", "dynamic-shared"} {
		f.AwaitPending("main", durable, 0)
	}
	f.AwaitIdentical("main")
}

// TestStandardDurableIsTakenOver opens a second subscriber of a standard durable:
// the first is told, the second gets everything that is not acknowledged.
func TestStandardDurableIsTakenOver(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	h.Subscribe(f.Client(), "main", client.Durable(harness.Shared))
	first := h.SubscribeCareless(f.Client(), "main", 0.5, client.Durable(harness.Standard))
	h.Publish(f.Client(), "main", harness.Load{Rate: 1000, Size: 200})
	h.AwaitProgress(30 * time.Second)
	for range 3 {
		second := h.SubscribeCareless(f.Client(), "main", 0.5, client.Durable(harness.Standard))
		if err := first.ForceClosed(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		h.AwaitProgress(30 * time.Second)
		first = second
	}
	last := h.Subscribe(f.Client(), "main", client.Durable(harness.Standard))
	if err := first.ForceClosed(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	if err := last.Close(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	f.AwaitPending("main", harness.Standard, 0)
}

// TestLargeMessages publishes messages near the limit while leaders are killed.
func TestLargeMessages(t *testing.T) {
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Durability: "async"}))
	h := harness.NewHistory(t)
	h.Subscribe(f.Client(), "main")
	h.Subscribe(f.Client(), "main", client.SubscriberName(harness.Worker))
	h.Publish(f.Client(), "main", harness.Load{Rate: 5, Size: 8<<20 - 100})
	h.Publish(f.Client(), "main", harness.Load{Rate: 200, Size: 100})
	for range 2 {
		h.AwaitProgress(30 * time.Second)
		leader := f.Leader("main")
		leader.Kill()
		h.AwaitProgress(30 * time.Second)
		leader.Start()
		leader.Ready()
	}
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}
