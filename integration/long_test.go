package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
)

// TestConsumedStreamLeavesTheDisk publishes a long stream that a subscriber
// consumes, and looks at the directories: what everybody has consumed must not
// stay. A long stream may take 1 GB at any time. In a short one the engine's own
// buffers weigh more than the stream; so there the servers are killed, which
// empties the buffers, and then most of the stream must be gone.
func TestConsumedStreamLeavesTheDisk(t *testing.T) {
	const size = 16 << 10
	modes, total := []string{"sync"}, int64(300<<20)
	if *streamGB > 0 {
		modes, total = []string{"sync", "async"}, int64(*streamGB)<<30
	}
	for _, durability := range modes {
		t.Run(durability, func(t *testing.T) {
			f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Durability: durability}))
			count := uint64(total / size)
			began := time.Now()
			standard := consumeInOrder(t, f, harness.Standard, size, count)
			shared := consumeInOrder(t, f, harness.Shared, size, count)
			publishNumbered(t, f, size, count)
			most := map[*harness.Node]int64{}
			harness.Await(t, 2*time.Minute+time.Duration(total>>30)*2*time.Minute, "the stream to be consumed", func(context.Context) error {
				for _, n := range f.Nodes {
					most[n] = max(most[n], n.DiskBytes())
				}
				if a, b := standard.Load(), shared.Load(); a < count || b < count {
					return fmt.Errorf("%d and %d of %d messages came", a, b, count)
				}
				return nil
			})
			took := time.Since(began)
			f.AwaitPending("main", harness.Standard, 0)
			f.AwaitPending("main", harness.Shared, 0)
			f.AwaitIdentical("main")
			t.Logf("%d MiB in %v, %.0f MiB/s", total>>20, took.Round(time.Millisecond), float64(total>>20)/took.Seconds())
			for _, n := range f.Nodes {
				t.Logf("%s: at most %d MiB meanwhile, %d MiB at the end", n.Name, most[n]>>20, n.DiskBytes()>>20)
				if *streamGB > 0 && most[n] > 1<<30 {
					t.Errorf("%s used %d MiB meanwhile, more than 1 GiB", n.Name, most[n]>>20)
				}
			}
			if *streamGB == 0 {
				emptied(t, f, total*2/3)
			}
		})
	}
}

// emptied kills all servers, and shows that their files hold little once they
// are back.
func emptied(t *testing.T, f *harness.Fleet, bound int64) {
	t.Helper()
	for _, n := range f.Nodes {
		n.Kill()
	}
	for _, n := range f.Nodes {
		n.Start()
	}
	for _, n := range f.Nodes {
		n.Ready()
	}
	harness.Await(t, 30*time.Second, "the files to be emptied", func(context.Context) error {
		for _, n := range f.Nodes {
			if held := n.FileBytes(); held > bound {
				return fmt.Errorf("those of %s hold %d MiB, more than %d", n.Name, held>>20, bound>>20)
			}
		}
		return nil
	})
}

// publishNumbered publishes count messages that begin with their number, and
// fails the test unless all are confirmed. It returns at once.
func publishNumbered(t *testing.T, f *harness.Fleet, size int, count uint64) {
	t.Helper()
	p, err := f.Client().Publisher(within(t, 10*time.Second), "main")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		m := message.Message{Body: make([]byte, size)}
		for n := range count {
			binary.LittleEndian.PutUint64(m.Body, n)
			p.PublishAsync(context.Background(), &m) // Flush reports the first failure
		}
		if err := p.Flush(context.Background()); err != nil {
			t.Errorf("publish: %v", err)
		}
	}()
}

// consumeInOrder consumes and acknowledges messages, of which each must have the
// number after the one before. It returns how many came.
func consumeInOrder(t *testing.T, f *harness.Fleet, durable string, size int, count uint64) *atomic.Uint64 {
	t.Helper()
	s, err := f.Client().Subscribe(within(t, 10*time.Second), "main", client.Durable(durable))
	if err != nil {
		t.Fatal(err)
	}
	next := new(atomic.Uint64)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		for next.Load() < count {
			batch, err := s.Fetch(ctx, 1024)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("durable %s: %v", durable, err)
				}
				return
			}
			for _, d := range batch {
				body := d.Body()
				if len(body) != size || binary.LittleEndian.Uint64(body) != next.Load() {
					t.Errorf("durable %s: id %v, %d bytes, is not number %d", durable, d.ID(), len(body), next.Load())
					return
				}
				_ = d.Ack() // fails when the subscription has ended, and Fetch says so
				if next.Add(1) == count {
					return // what comes behind is not ours
				}
			}
		}
	}()
	return next
}

// TestRestartWithPending kills all servers while many messages are pending, and
// measures how soon after their start they confirm and deliver again.
func TestRestartWithPending(t *testing.T) {
	const size = 128
	count := uint64(*pendingUp)
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	publishNumbered(t, f, size, count)
	harness.Await(t, time.Minute+time.Duration(count)*time.Millisecond/10, "everything to be pending", func(ctx context.Context) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		d, err := harness.DurableIn(s, "main", harness.Standard)
		if err == nil && d.Pending != count {
			err = fmt.Errorf("%d of %d", d.Pending, count)
		}
		return err
	})
	for _, n := range f.Nodes {
		n.Kill()
	}
	began := time.Now()
	for _, n := range f.Nodes {
		n.Start()
	}
	for _, n := range f.Nodes {
		n.Ready()
	}
	ready := time.Since(began)
	c := f.Client()
	p, err := c.Publisher(within(t, 30*time.Second), "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(within(t, 30*time.Second), &message.Message{Body: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	confirmed := time.Since(began)
	s, err := c.Subscribe(within(t, 30*time.Second), "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	served := time.Since(began)
	t.Logf("%d messages pending: ready after %v, a publish confirmed after %v, a message delivered after %v", count, ready, confirmed, served)
	if served > 5*time.Second {
		t.Errorf("with %d messages pending a restart took %v to serve; it must be below 5 s", count, served)
	}
	if err := s.Close(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	// All of it is there, in order, and the new message behind it.
	next := consumeInOrder(t, f, harness.Standard, size, count)
	harness.Await(t, time.Minute+time.Duration(count)*time.Millisecond/10, "everything to be delivered", func(context.Context) error {
		if n := next.Load(); n < count {
			return fmt.Errorf("%d of %d came", n, count)
		}
		return nil
	})
	for _, n := range f.Nodes {
		t.Logf("%s: %d MiB on disk", n.Name, n.DiskBytes()>>20)
	}
}
