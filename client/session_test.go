package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

// TestRejectedBatch rejects a batch for good in the middle of a full window: it
// alone fails, and the others keep their order.
func TestRejectedBatch(t *testing.T) {
	for name, early := range map[string]bool{"while applying": false, "before proposing": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				p := publisher(t, c, client.WithBatchTarget(1))
				w.onBatch = func(r *perdurepb.PublishRequest) verdict {
					if strings.Contains(string(r.Batch), "bad") {
						return verdict{reason: perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, early: early}
					}
					return verdict{}
				}
				var want []string
				var futures []client.Future
				for i := range 200 {
					body := fmt.Sprint(i)
					if i%17 == 5 {
						body = "bad" + body
					} else {
						want = append(want, body)
					}
					futures = append(futures, p.PublishAsync(t.Context(), text(body)))
				}
				for i, f := range futures {
					_, err := f.Wait(t.Context())
					bad := i%17 == 5
					if bad != errors.Is(err, client.ErrMessageTooLarge) || !bad && err != nil {
						t.Errorf("message %d: %v", i, err)
					}
					if errors.Is(err, client.ErrOutcomeUnknown) {
						t.Errorf("message %d: %v is definite", i, err)
					}
				}
				wantStored(t, w, want)
				w.with(func() {
					if len(w.opened) != 1 {
						t.Errorf("%d streams; a rejection needs no new one", len(w.opened))
					}
				})
			})
		})
	}
}

// TestRejectionThatNobodySaw loses the stream together with a rejection, so that
// the client goes on under an attempt that is closed.
func TestRejectionThatNobodySaw(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		first := true
		w.onBatch = func(*perdurepb.PublishRequest) verdict {
			if first {
				first = false
				return verdict{reason: perdurepb.Reason_REASON_STORE_FULL, lose: true}
			}
			return verdict{}
		}
		if _, err := p.Publish(t.Context(), text("0")); err != nil {
			t.Fatal(err)
		}
		wantStored(t, w, numbered(1))
	})
}

func TestStoreFull(t *testing.T) {
	t.Run("is retried", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect()
			defer closeAll(t, c)
			p := publisher(t, c, client.WithBatchTarget(1))
			w.store.full = true
			time.AfterFunc(3*time.Second, func() { w.with(func() { w.store.full = false }) })
			futures := make([]client.Future, 5)
			for i := range futures {
				futures[i] = p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
			}
			for i, f := range futures {
				if _, err := f.Wait(t.Context()); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			wantStored(t, w, numbered(5))
		})
	})
	t.Run("for the retry duration", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect(client.WithRetry(2 * time.Second))
			defer closeAll(t, c)
			p := publisher(t, c)
			w.store.full = true
			began := time.Now()
			_, err := p.Publish(t.Context(), text("lost"))
			if !errors.Is(err, client.ErrStoreFull) || errors.Is(err, client.ErrOutcomeUnknown) {
				t.Errorf("publish into a full store: %v", err)
			}
			if took := time.Since(began); took < 1900*time.Millisecond || took > 2200*time.Millisecond {
				t.Errorf("gave up after %v", took)
			}
			w.with(func() { w.store.full = false })
			if _, err := p.Publish(t.Context(), text("0")); err != nil {
				t.Error(err)
			}
			wantStored(t, w, numbered(1))
		})
	})
	t.Run("not at all", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect(client.WithRetry(client.RetryNever))
			defer closeAll(t, c)
			p := publisher(t, c)
			w.store.full = true
			began := time.Now()
			if _, err := p.Publish(t.Context(), text("lost")); !errors.Is(err, client.ErrStoreFull) {
				t.Errorf("publish into a full store: %v", err)
			}
			if took := time.Since(began); took > time.Millisecond {
				t.Errorf("took %v", took)
			}
			var e *client.Error
			_, err := p.Publish(t.Context(), text("lost"))
			if !errors.As(err, &e) || e.Reason != "STORE_FULL" || !e.Retryable {
				t.Errorf("error is %+v", e)
			}
		})
	})
}

// TestSequenceGap has the server lose count; the session is resumed.
func TestSequenceGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c, client.WithBatchTarget(1))
		batches := 0
		w.onBatch = func(*perdurepb.PublishRequest) verdict {
			batches++
			return verdict{silent: batches == 3} // the next are a gap
		}
		for i := range 20 {
			p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStored(t, w, numbered(20))
	})
}

func TestUnknownSession(t *testing.T) {
	for name, forget := range map[string]func(w *world){
		"found when publishing": func(w *world) { delete(w.store.sessions, 1) },
		"found when opening": func(w *world) {
			delete(w.store.sessions, 1)
			w.onBatch = func(*perdurepb.PublishRequest) verdict {
				w.onBatch = nil
				return verdict{drop: true}
			}
		},
		"of another epoch": func(w *world) {
			w.epoch++
			w.onBatch = func(*perdurepb.PublishRequest) verdict {
				w.onBatch = nil
				return verdict{drop: true}
			}
		},
		"behind what it confirmed": func(w *world) {
			w.store.sessions[1].last = 0
			w.onBatch = func(*perdurepb.PublishRequest) verdict {
				w.onBatch = nil
				return verdict{drop: true}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				p := publisher(t, c)
				if _, err := p.Publish(t.Context(), text("0")); err != nil {
					t.Fatal(err)
				}
				w.with(func() { forget(w) })
				if _, err := p.Publish(t.Context(), text("unknown")); !errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("the error is %v", err)
				}
				if _, err := p.Publish(t.Context(), text("1")); err != nil {
					t.Errorf("the new session: %v", err)
				}
				wantStored(t, w, numbered(2))
			})
		})
	}
}
