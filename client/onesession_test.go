package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// batchOf makes a batch of messages that are numbered from first on.
func batchOf(first, n int) []*message.Message {
	ms := make([]*message.Message, n)
	for i := range ms {
		ms[i] = text(fmt.Sprint(first + i))
	}
	return ms
}

// TestAnotherPublisherGoesOn publishes batches whose publisher is killed at every
// point, and makes the same batches again.
func TestAnotherPublisherGoesOn(t *testing.T) {
	for stop := range 6 {
		inWorld(t, func(t *testing.T, w *world) {
			first := w.connect()
			p := publisher(t, first, client.WithSession(client.Session{}))
			s := p.Session()
			if s.ID == 0 || s.Last != 0 {
				t.Fatalf("session is %+v", s)
			}
			taken := 0
			w.onBatch = func(*perdurepb.PublishRequest) verdict {
				taken++
				return verdict{silent: taken > stop}
			}
			for i := range 5 {
				f := p.PublishBatchAsync(t.Context(), batchOf(3*i, 3))
				if err := f.Refused(); err != nil {
					t.Fatal(err)
				}
				if i < stop {
					if _, err := f.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			synctest.Wait() // all of them came
			w.with(func() { w.onBatch = nil })
			second := w.connect()
			defer closeAll(t, second)
			q := publisher(t, second, client.WithSession(s))
			last := q.Session().Last
			if last != uint64(min(stop, 5)) || q.Session().ID != s.ID {
				t.Errorf("the session is %+v after %d batches", q.Session(), stop)
			}
			for i := int(last); i < 5; i++ {
				r, err := q.PublishBatchAsync(t.Context(), batchOf(3*i, 3)).Wait(t.Context())
				if err != nil || r.ID != message.ID(3*i+1) {
					t.Errorf("batch %d: %+v, %v", i, r, err)
				}
			}
			wantStored(t, w, numbered(15))
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_ = first.Close(ctx) // what it has on its way does not matter
		})
	}
}

// TestOneSessionOnly finds that a publisher of one session never opens another,
// and that nothing takes the number of what was not stored.
func TestOneSessionOnly(t *testing.T) {
	t.Run("that is unknown", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect()
			defer closeAll(t, c)
			_, err := c.Publisher(t.Context(), "flights", client.WithSession(client.Session{ID: 77, Store: 1}))
			if !errors.Is(err, client.ErrSessionUnknown) {
				t.Errorf("publisher: %v", err)
			}
		})
	})
	t.Run("that ends", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect()
			defer closeAll(t, c)
			p := publisher(t, c, client.WithSession(client.Session{}))
			if _, err := p.PublishBatch(t.Context(), batchOf(0, 2)); err != nil {
				t.Fatal(err)
			}
			w.with(func() { clear(w.store.sessions) })
			w.kill("s1")
			w.lead("s2")
			if _, err := p.PublishBatch(t.Context(), batchOf(2, 2)); !errors.Is(err, client.ErrSessionUnknown) {
				t.Errorf("publish: %v", err)
			}
			wantStored(t, w, numbered(2))
		})
	})
	t.Run("with a batch that is refused", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect(client.WithRetry(client.RetryNever))
			defer closeAll(t, c)
			p := publisher(t, c, client.WithSession(client.Session{}))
			w.onBatch = func(r *perdurepb.PublishRequest) verdict {
				if r.Sequence == 2 {
					return verdict{reason: perdurepb.Reason_REASON_STORE_FULL}
				}
				return verdict{}
			}
			var futures []client.Future
			for i := range 4 {
				futures = append(futures, p.PublishBatchAsync(t.Context(), batchOf(2*i, 2)))
			}
			for i, f := range futures {
				_, err := f.Wait(t.Context())
				if (i == 0) != (err == nil) || i > 0 && (!errors.Is(err, client.ErrStoreFull) || errors.Is(err, client.ErrOutcomeUnknown)) {
					t.Errorf("batch %d: %v", i, err)
				}
			}
			if _, err := p.PublishBatch(t.Context(), batchOf(9, 1)); !errors.Is(err, client.ErrStoreFull) {
				t.Errorf("publish after that: %v", err)
			}
			wantStored(t, w, numbered(2))
		})
	})
}
