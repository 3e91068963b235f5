package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
)

// TestReusedIDs loses a cluster of which there is a backup, while a subscriber holds
// messages that were published after that was made. It is formed anew, the backup is
// loaded, and ids are given a second time, in the same epoch. What the subscriber
// acknowledges of before, while nobody is there or afterwards, settles none of the
// messages that have these ids now.
func TestReusedIDs(t *testing.T) {
	const backedUp, later = 10, 10
	definition := harness.Definition(harness.Cluster{Name: "flights"})
	f := harness.Start(t, 3, definition)
	ctx := within(t, time.Minute)
	var alone atomic.Bool
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		if alone.Load() {
			return nil, errors.New("cut off")
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	s, err := f.Client(client.WithDialer(dial)).Subscribe(ctx, "flights", client.SubscriberName(harness.Worker), client.Prefetch(500))
	if err != nil {
		t.Fatal(err)
	}
	publishTexts(t, f, "before", backedUp, 1)
	for range backedUp {
		if err := receiveOne(t, ctx, s).AckSync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	file, _, err := f.SaveAnywhere(ctx, &perdurepb.SaveClusterRequest{Cluster: "flights", Online: true})
	if err != nil {
		t.Fatal(err)
	}
	publishTexts(t, f, "lost", later, backedUp+1)
	held := make([]client.Delivery, later)
	for i := range held {
		held[i] = receiveOne(t, ctx, s)
	}
	alone.Store(true)
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(n.Kill)
	}
	wg.Wait()
	for _, n := range f.Nodes {
		n.Wipe()
	}
	for _, d := range held[:3] {
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	waiting, patient := make(chan error, 1), within(t, 2*time.Minute)
	go func() { waiting <- held[3].AckSync(patient) }()
	f.StartAll()
	f.Apply(definition)
	ctx = within(t, time.Minute)
	if _, err := f.LoadAnywhere(ctx, &perdurepb.LoadOpen{Cluster: "flights"}, file); err != nil {
		t.Fatal(err)
	}
	if err := f.Client().Admin().ResumeCluster(ctx, "flights"); err != nil {
		t.Fatal(err)
	}
	publishTexts(t, f, "new", later, backedUp+1) // under the ids that were lost
	alone.Store(false)
	for _, d := range held[4:7] {
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waiting; !errors.Is(err, client.ErrEpochChanged) {
		t.Errorf("who has waited since before is told %v", err)
	}
	for i := range later {
		d := receiveOne(t, within(t, 20*time.Second), s)
		if i == 0 { // there is a stream again
			if err := held[7].Ack(); err != nil {
				t.Error(err)
			}
			if err := held[8].AckSync(ctx); !errors.Is(err, client.ErrEpochChanged) {
				t.Errorf("an acknowledgement of before: %v", err)
			}
		}
		m, err := d.Message()
		if want := fmt.Sprintf("new %d", i); err != nil || string(m.Body) != want || d.ID() != message.ID(backedUp+1+i) {
			t.Fatalf("message %v is %q (%v), want %q", d.ID(), m.Body, err, want)
		}
		if err := d.AckSync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f.AwaitPending("flights", harness.Shared, 0)
	f.AwaitPending("flights", harness.Standard, backedUp+later)
}

// publishTexts publishes messages whose ids begin with first.
func publishTexts(t *testing.T, f *harness.Fleet, what string, n int, first message.ID) {
	t.Helper()
	ctx := within(t, time.Minute)
	p, err := f.Client().Publisher(ctx, "flights")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r, err := p.Publish(ctx, &message.Message{Body: fmt.Appendf(nil, "%s %d", what, i)})
		if err != nil || r.ID != first+message.ID(i) {
			t.Fatalf("message %s %d is %v (%v)", what, i, r.ID, err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func receiveOne(t *testing.T, ctx context.Context, s *client.Subscription) client.Delivery {
	t.Helper()
	d, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
