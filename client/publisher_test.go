package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

func publisher(t *testing.T, c *client.Client, opts ...client.PublisherOption) *client.Publisher {
	t.Helper()
	p, err := c.Publisher(t.Context(), "flights", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closeAll(t *testing.T, c *client.Client) {
	t.Helper()
	if err := c.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func wantStored(t *testing.T, w *world, want []string) {
	t.Helper()
	got := w.stored()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("stored %d messages, want %d; from %d on %q, want %q", len(got), len(want), at, head(got[at:]), head(want[at:]))
}

func head(list []string) []string { return list[:min(len(list), 10)] }

func TestPublish(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		m := text("one")
		for i, body := range []string{"one", "two"} {
			m.Body = append(m.Body[:0], body...)
			r, err := p.Publish(t.Context(), m)
			want := client.Receipt{Store: "flights", Confirmed: true, ID: message.ID(i + 1), Interested: true, Durability: client.Async}
			if err != nil || r != want {
				t.Errorf("publish: %+v, %v, want %+v", r, err, want)
			}
		}
		wantStored(t, w, []string{"one", "two"})
	})
}

// TestPublishAsyncKeepsOrder publishes far more than the window holds.
func TestPublishAsyncKeepsOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c, client.WithBatchTarget(1000), client.WithWindow(4, 4000))
		const n = 5000
		futures := make([]client.Future, n)
		m := &message.Message{}
		for i := range n {
			m.Body = fmt.Append(m.Body[:0], i)
			futures[i] = p.PublishAsync(t.Context(), m)
		}
		for i, f := range futures {
			r, err := f.Wait(t.Context())
			if err != nil || r.ID != message.ID(i+1) {
				t.Fatalf("message %d: %+v, %v", i, r, err)
			}
		}
		wantStored(t, w, numbered(n))
		w.with(func() {
			if last := w.store.sessions[1].last; last > n/20 {
				t.Errorf("%d batches for %d messages", last, n)
			}
		})
	})
}

// TestLeaderChangeMidWindow breaks the stream in the middle of a window, in every
// way there is, and moves the leader.
func TestLeaderChangeMidWindow(t *testing.T) {
	for name, v := range map[string]verdict{
		"before the batch is taken":             {drop: true},
		"after it is taken, before the outcome": {lose: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				p := publisher(t, c, client.WithBatchTarget(500), client.WithWindow(8, 1<<20))
				batches := 0
				w.onBatch = func(*perdurepb.PublishRequest) verdict {
					if batches++; batches%7 != 0 {
						return verdict{}
					}
					w.term++
					w.leader = []string{"s1", "s2", "s3"}[w.term%3]
					return v
				}
				const n = 2000
				futures := make([]client.Future, n)
				for i := range n {
					futures[i] = p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
				}
				for i, f := range futures {
					r, err := f.Wait(t.Context())
					if err != nil || r.ID != message.ID(i+1) {
						t.Fatalf("message %d: %+v, %v", i, r, err)
					}
				}
				wantStored(t, w, numbered(n))
				w.with(func() {
					if len(w.opened) < 5 {
						t.Errorf("only %d streams were opened: the test tests nothing", len(w.opened))
					}
				})
			})
		})
	}
}

func TestKilledLeaderIsNoticedAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		if _, err := p.Publish(t.Context(), text("0")); err != nil {
			t.Fatal(err)
		}
		w.kill("s1")
		time.AfterFunc(700*time.Millisecond, func() { w.lead("s2") })
		began := time.Now()
		if _, err := p.Publish(t.Context(), text("1")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 1300*time.Millisecond {
			t.Errorf("publishing again took %v after an election of 700 ms", took)
		}
		wantStored(t, w, numbered(2))
	})
}

func TestSilentLeaderIsLeft(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		w.freeze("s1")
		time.AfterFunc(time.Second, func() { w.lead("s2") })
		began := time.Now()
		if _, err := p.Publish(t.Context(), text("0")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < timeoutMillis*time.Millisecond || took > (timeoutMillis+1500)*time.Millisecond {
			t.Errorf("it took %v, silence counts after %d ms", took, timeoutMillis)
		}
		wantStored(t, w, numbered(1))
	})
}

func TestContextEndsTheWaitingOnly(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		w.kill("s1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Publish(ctx, text("0"))
		if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		w.lead("s3")
		if _, err := p.Publish(t.Context(), text("1")); err != nil {
			t.Error(err)
		}
		wantStored(t, w, numbered(2))
	})
}

func TestWindowFull(t *testing.T) {
	fill := func(t *testing.T, w *world, opts ...client.PublisherOption) (*client.Client, *client.Publisher) {
		c := w.connect()
		p := publisher(t, c, append(opts, client.WithBatchTarget(1), client.WithWindow(2, 1<<20))...)
		w.with(func() { w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{silent: true} } })
		for i := range 3 { // two in flight, one waits
			p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
		}
		synctest.Wait()
		return c, p
	}
	end := func(t *testing.T, c *client.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Close(ctx); !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("close with messages on their way: %v", err)
		}
	}
	t.Run("fails", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c, p := fill(t, w, client.WithFailWhenFull())
			defer end(t, c)
			_, err := p.PublishAsync(t.Context(), text("no")).Wait(t.Context())
			if !errors.Is(err, client.ErrWindowFull) || errors.Is(err, client.ErrOutcomeUnknown) {
				t.Errorf("the error is %v", err)
			}
		})
	})
	t.Run("waits for the context", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c, p := fill(t, w)
			defer end(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := p.PublishAsync(ctx, text("no")).Wait(t.Context())
			if !errors.Is(err, client.ErrWindowFull) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) {
				t.Errorf("the error is %v", err)
			}
			_, err = p.PublishBatch(ctx, []*message.Message{text("no")})
			if !errors.Is(err, client.ErrWindowFull) {
				t.Errorf("the error is %v", err)
			}
		})
	})
	t.Run("waits for room", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c, p := fill(t, w)
			defer closeAll(t, c)
			time.AfterFunc(time.Second, func() {
				w.with(func() { w.onBatch = nil })
				w.kill("s1")
				w.lead("s2")
			})
			if _, err := p.Publish(t.Context(), text("3")); err != nil {
				t.Error(err)
			}
			wantStored(t, w, numbered(4))
		})
	})
}

// TestRetryDuration takes all servers away from a publisher.
func TestRetryDuration(t *testing.T) {
	for name, tt := range map[string]struct {
		retry   time.Duration
		atMost  time.Duration
		timeout bool
	}{
		"none":    {client.RetryNever, time.Millisecond, false},
		"seconds": {3 * time.Second, 3100 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect(client.WithRetry(tt.retry))
				defer closeAll(t, c)
				p := publisher(t, c)
				w.with(func() { w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{silent: true} } })
				sent := p.PublishAsync(t.Context(), text("sent"))
				unsent := p.PublishAsync(t.Context(), text("unsent"))
				synctest.Wait()
				began := time.Now()
				w.stop()
				_, err := sent.Wait(t.Context())
				if !errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrTimeout) != tt.timeout {
					t.Errorf("of what was sent: %v", err)
				}
				_, err = unsent.Wait(t.Context())
				if err == nil || errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrTimeout) != tt.timeout {
					t.Errorf("of what was not sent: %v", err)
				}
				if _, err = p.Publish(t.Context(), text("later")); err == nil || errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("of what came later: %v", err)
				}
				if took := time.Since(began); took > 2*tt.atMost {
					t.Errorf("gave up after %v", took)
				}
				// It comes back by itself.
				w.with(func() { w.onBatch = nil })
				for _, a := range []string{"s1", "s2", "s3"} {
					w.start(a)
				}
				w.lead("s2")
				time.Sleep(2 * time.Second)
				if _, err := p.Publish(t.Context(), text("0")); err != nil {
					t.Error(err)
				}
				wantStored(t, w, numbered(1))
			})
		})
	}
	t.Run("for ever", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect()
			defer closeAll(t, c)
			p := publisher(t, c)
			w.kill("s1")
			time.AfterFunc(2*time.Minute, func() { w.lead("s2") })
			if _, err := p.Publish(t.Context(), text("0")); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestDefiniteRefusals(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.with(func() { w.unknown = true })
		_, err := c.Publisher(t.Context(), "flights")
		if !errors.Is(err, client.ErrNoSuchEndpoint) || !errors.Is(err, client.ErrNotFound) {
			t.Errorf("publisher to nowhere: %v", err)
		}
		w.with(func() { w.unknown = false })
		for _, name := range []string{"", "_x", strings.Repeat("x", 257)} {
			if _, err := c.Publisher(t.Context(), name); !errors.Is(err, client.ErrInvalidName) {
				t.Errorf("endpoint %.10q: %v", name, err)
			}
		}
		if _, err := c.Publisher(t.Context(), "flights", client.WithWindow(65, 1), client.WithBatchTarget(0)); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("bad options: %v", err)
		}
		p := publisher(t, c)
		for name, tt := range map[string]struct {
			m    *message.Message
			want error
		}{
			"too large":      {&message.Message{Body: make([]byte, message.MaxMessageSize+1)}, client.ErrMessageTooLarge},
			"reserved name":  {new(message.Message).SetInt("_x", 1), client.ErrInvalidName},
			"header no UTF8": {new(message.Message).SetHeader("h", "\xff"), client.ErrInvalidArgument},
		} {
			if _, err := p.Publish(t.Context(), tt.m); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := p.Publish(t.Context(), text("0")); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestEndpointGone deletes the endpoint under a publisher: it ends, and says why.
func TestEndpointGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		w.with(func() {
			w.unknown = true
			w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{drop: true} }
		})
		_, err := p.Publish(t.Context(), text("sent"))
		if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, client.ErrNoSuchEndpoint) {
			t.Errorf("what was sent: %v", err)
		}
		_, err = p.Publish(t.Context(), text("not sent"))
		if !errors.Is(err, client.ErrNoSuchEndpoint) || errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("what was not: %v", err)
		}
	})
}

func TestPublishBatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		p.PublishAsync(t.Context(), text("0"))
		p.PublishAsync(t.Context(), text("1"))
		rs, err := p.PublishBatch(t.Context(), []*message.Message{text("2"), text("3"), text("4")})
		if err != nil || len(rs) != 3 || rs[0].ID != 3 || rs[2].ID != 5 {
			t.Errorf("%+v, %v", rs, err)
		}
		w.with(func() {
			if n := w.store.sessions[1].outcomes[w.store.sessions[1].last].Count; n != 3 {
				t.Errorf("the last batch has %d messages", n)
			}
		})
		if rs, err := p.PublishBatch(t.Context(), nil); rs != nil || err != nil {
			t.Errorf("of nothing: %v, %v", rs, err)
		}
		big := &message.Message{Body: make([]byte, 600_000)}
		many := slices.Repeat([]*message.Message{text("")}, message.MaxBatchMessages+1)
		for _, ms := range [][]*message.Message{{big, big}, many} {
			if _, err := p.PublishBatch(t.Context(), ms); !errors.Is(err, client.ErrBatchTooLarge) {
				t.Errorf("%d messages: %v", len(ms), err)
			}
		}
		if rs, err := p.PublishBatch(t.Context(), many[1:]); err != nil || len(rs) != message.MaxBatchMessages {
			t.Errorf("the largest batch: %v", err)
		}
		if _, err := p.Publish(t.Context(), &message.Message{Body: make([]byte, message.MaxMessageSize-64)}); err != nil {
			t.Errorf("a message of 8 MiB: %v", err)
		}
		if got := w.stored()[:5]; !slices.Equal(got, numbered(5)) {
			t.Errorf("stored %q", got)
		}
	})
}

func TestNoconfirm(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.noconfirm = true
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c, client.WithBatchTarget(200), client.WithWindow(2, 1000))
		for i := range 500 {
			r, err := p.PublishAsync(t.Context(), text(fmt.Sprint(i))).Wait(t.Context())
			if err != nil || r.ID != 0 || r.Store != "flights" {
				t.Fatalf("message %d: %+v, %v", i, r, err)
			}
		}
		synctest.Wait()
		wantStored(t, w, numbered(500))
		w.kill("s1")
		w.lead("s2")
		time.Sleep(time.Second) // what is handed to a dead stream is lost
		if _, err := p.Publish(t.Context(), text("500")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantStored(t, w, numbered(501))
	})
}

// What a server that confirms nothing has not read yet must not be lost by
// closing.
func TestCloseDrainsWhereNothingIsConfirmed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.noconfirm = true
		w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{pause: 10 * time.Millisecond} }
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c, client.WithBatchTarget(100))
		for i := range 200 {
			if r, err := p.PublishAsync(t.Context(), text(fmt.Sprint(i))).Wait(t.Context()); err != nil || r.Confirmed {
				t.Fatalf("message %d: %+v, %v", i, r, err)
			}
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		wantStored(t, w, numbered(200))
	})
}

func TestCloseSaysThatTheServerMayNotHaveTakenAll(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.noconfirm = true
		w.onBatch = func(*perdurepb.PublishRequest) verdict { return verdict{drop: true} }
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		if _, err := p.PublishAsync(t.Context(), text("0")).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(t.Context()); err != nil && !errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("closed with %v", err)
		} else if err == nil && len(w.stored()) == 0 {
			t.Error("Close said that all was taken")
		}
	})
}

func TestFlush(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p := publisher(t, c)
		if err := p.Flush(t.Context()); err != nil {
			t.Errorf("of nothing: %v", err)
		}
		for i := range 100 {
			p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		wantStored(t, w, numbered(100))
		w.with(func() {
			w.onBatch = func(*perdurepb.PublishRequest) verdict {
				return verdict{reason: perdurepb.Reason_REASON_MESSAGE_TOO_LARGE}
			}
		})
		p.PublishAsync(t.Context(), text("refused"))
		if err := p.Flush(t.Context()); !errors.Is(err, client.ErrMessageTooLarge) {
			t.Errorf("a lost message goes unsaid: %v", err)
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Errorf("it is said twice: %v", err)
		}
	})
}

func TestPublisherClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		p := publisher(t, c)
		for i := range 100 {
			p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
		}
		for range 2 {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		wantStored(t, w, numbered(100))
		if _, err := p.Publish(t.Context(), text("late")); !errors.Is(err, client.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		closeAll(t, c)
		closeAll(t, c)
		if _, err := c.Publisher(t.Context(), "flights"); !errors.Is(err, client.ErrClosed) {
			t.Errorf("publisher of a closed client: %v", err)
		}
	})
}

func TestConnect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if _, err := client.Connect(t.Context(), " , "); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("no address: %v", err)
		}
		w.kill("s1")
		c := w.connect()
		closeAll(t, c)
		w.stop()
		began := time.Now()
		_, err := client.Connect(t.Context(), "s1,s2", client.WithDialer(w.dial), client.WithConnectTimeout(3*time.Second))
		if !errors.Is(err, client.ErrUnavailable) || !errors.Is(err, client.ErrTimeout) || time.Since(began) != 3*time.Second {
			t.Errorf("nobody there: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := client.Connect(ctx, "s1", client.WithDialer(w.dial)); !errors.Is(err, context.Canceled) {
			t.Errorf("the context ended: %v", err)
		}
	})
}
