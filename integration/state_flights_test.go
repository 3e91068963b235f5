package integration

import (
	"bytes"
	"sync"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/internal/flights"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// TestFlightsSurviveAWipe publishes half of the flights, acknowledges half of them
// on one durable, and saves the cluster. All servers lose everything; the state is
// loaded into what is formed anew, and the other half is published. Both durables
// owe exactly what nobody has acknowledged, under the ids that the messages had.
func TestFlightsSurviveAWipe(t *testing.T) {
	lines, err := flights.Lines()
	if err != nil {
		t.Fatal(err)
	}
	half := len(lines) / 2
	definition := harness.Definition(harness.Cluster{Name: "flights"})
	f := harness.Start(t, 3, definition)
	publishFlights(t, f, lines[:half], 1)
	settled := receiveFlights(t, f, half/2, harness.Worker, nil)
	ctx := within(t, time.Minute)
	if _, err := f.Client().Admin().SuspendCluster(ctx, "flights"); err != nil {
		t.Fatal(err)
	}
	file, _, err := f.SaveAnywhere(ctx, &perdurepb.SaveClusterRequest{Cluster: "flights"})
	if err != nil {
		t.Fatal(err)
	}
	counts := map[message.ID]int{} // of the shared durable: what was given back at the end
	m, _, err := statefile.Verify(bytes.NewReader(file), func(r statefile.Record) error {
		if c, ok := r.(*statefile.Counts); ok {
			for _, e := range c.Ended {
				counts[e.ID] = int(e.Times)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes hold %d messages, state hash %s", len(file), m.Stores[0].Messages, m.StateHash)

	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(n.Kill)
	}
	wg.Wait()
	for _, n := range f.Nodes {
		n.Wipe()
	}
	f.StartAll()
	f.Apply(definition)
	if st := f.Cluster("flights").Stores[0]; st.Messages != 0 || st.LastID != 0 {
		t.Fatalf("after the wipe there are %+v", st)
	}
	ctx = within(t, time.Minute)
	if _, err := f.Client().Admin().SuspendCluster(ctx, "flights"); err != nil {
		t.Fatal(err)
	}
	loaded, err := f.LoadAnywhere(ctx, &perdurepb.LoadOpen{Cluster: "flights"}, file)
	if err != nil || loaded.StateHash != m.StateHash {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	if err := f.Client().Admin().ResumeCluster(ctx, "flights"); err != nil {
		t.Fatal(err)
	}
	f.AwaitPending("flights", harness.Standard, uint64(half))
	f.AwaitPending("flights", harness.Shared, uint64(half-half/2))
	publishFlights(t, f, lines[half:], message.ID(half+1))

	for id := range receiveFlights(t, f, len(lines), "", nil) {
		if id == 0 || int(id) > len(lines) {
			t.Errorf("durable %s had message %v", harness.Standard, id)
		}
	}
	for id := range receiveFlights(t, f, len(lines)-half/2, harness.Worker, counts) {
		if settled[id] {
			t.Errorf("durable %s had message %v again, which was acknowledged before the cluster was saved", harness.Shared, id)
		}
	}
	f.AwaitPending("flights", harness.Standard, 0)
	f.AwaitPending("flights", harness.Shared, 0)
	f.AwaitIdentical("flights")
	for _, d := range f.Cluster("flights").Stores[0].Durables {
		t.Logf("durable %s: %+v", d.Name, d)
	}
}

// publishFlights publishes flights, whose ids must begin with first.
func publishFlights(t *testing.T, f *harness.Fleet, lines [][]byte, first message.ID) {
	t.Helper()
	ctx := within(t, time.Minute)
	p, err := f.Client().Publisher(ctx, "flights")
	if err != nil {
		t.Fatal(err)
	}
	futures := make([]client.Future, len(lines))
	for i, line := range lines {
		m, err := message.FromJSON(line)
		if err != nil {
			t.Fatal(err)
		}
		futures[i] = p.PublishAsync(ctx, m)
	}
	for i, future := range futures {
		if r, err := future.Wait(ctx); err != nil || r.ID != first+message.ID(i) {
			t.Fatalf("flight %d is %v, %v, want id %v", i, r.ID, err, first+message.ID(i))
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// receiveFlights receives and acknowledges so many flights, each once, and checks
// that they are what was published under their ids, and have these counts. Without a
// subscriber's name they come from the standard durable, in order.
func receiveFlights(t *testing.T, f *harness.Fleet, n int, name string, counts map[message.ID]int) map[message.ID]bool {
	t.Helper()
	lines, err := flights.Lines()
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	opts := []client.SubscribeOption{client.Prefetch(500)}
	if name != "" {
		opts = append(opts, client.SubscriberName(name))
	}
	c := f.Client()
	s, err := c.Subscribe(ctx, "flights", opts...)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[message.ID]bool, n)
	for last := message.ID(0); len(got) < n; {
		d, err := s.Receive(ctx)
		if err != nil {
			t.Fatalf("after %d flights: %v", len(got), err)
		}
		want, err := message.FromJSON(lines[d.ID()-1])
		if err != nil {
			t.Fatal(err)
		}
		if have, err := d.Message(); err != nil || !have.Equal(want) || got[d.ID()] || d.DeliveryCount() != counts[d.ID()] || name == "" && d.ID() != last+1 {
			t.Fatalf("flight %v, after %v: %v, %v, delivered %d times before, want %v", d.ID(), last, have, err, d.DeliveryCount(), want)
		}
		got[d.ID()], last = true, d.ID()
		if len(got) == n {
			err = d.AckSync(ctx)
		} else {
			err = d.Ack()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return got
}
