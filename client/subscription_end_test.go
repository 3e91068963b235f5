package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

func TestForceClosed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.durable.kind = perdurepb.Kind_KIND_STANDARD
		a, b := w.connect(), w.connect()
		defer closeAll(t, b)
		defer closeAll(t, a)
		w.durable.add(numbered(3)...)
		old := subscribe(t, a)
		d := receive(t, old)
		fresh := subscribe(t, b)
		for {
			_, err := old.Receive(t.Context())
			if err == nil {
				continue
			}
			if !errors.Is(err, client.ErrForceClosed) || !errors.Is(old.Err(), client.ErrForceClosed) {
				t.Errorf("the older one ended with %v", err)
			}
			break
		}
		if err := d.Ack(); !errors.Is(err, client.ErrForceClosed) {
			t.Errorf("Ack of the older one: %v", err)
		}
		if err := d.AckSync(t.Context()); !errors.Is(err, client.ErrForceClosed) {
			t.Errorf("AckSync of the older one: %v", err)
		}
		for i := range 3 {
			if d := receive(t, fresh); string(d.Body()) != fmt.Sprint(i) {
				t.Errorf("the newer one received %q", d.Body())
			}
		}
		time.Sleep(5 * time.Second)
		w.with(func() {
			if len(w.subOpened) != 2 {
				t.Errorf("%d streams: the older one came back", len(w.subOpened))
			}
		})
	})
}

func TestDrain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(100)...)
		s := subscribe(t, c, client.Prefetch(20))
		inHand, err := s.Fetch(t.Context(), 5)
		if err != nil || len(inHand) != 5 {
			t.Fatal(inHand, err)
		}
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(context.Background()) }()
		synctest.Wait()
		if _, err := s.Receive(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("receive while draining: %v", err)
		}
		for _, d := range inHand {
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		w.durable.change(func() {
			if !slices.Equal(w.durable.acked, []uint64{1, 2, 3, 4, 5}) || len(w.durable.holder) != 0 {
				t.Errorf("acknowledged %v, still held %v", w.durable.acked, w.durable.holder)
			}
		})
		w.with(func() {
			if w.frames[len(w.frames)-1] != "close" {
				t.Errorf("frames %v", w.frames)
			}
		})

		s = subscribe(t, c)
		receive(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a delivery is never settled: %v", err)
		}
		synctest.Wait()
		w.durable.change(func() {
			if len(w.durable.holder) != 0 {
				t.Errorf("still held: %v", w.durable.holder)
			}
		})
	})
}

func TestSubscriptionClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(100)...)
		s := subscribe(t, c, client.Prefetch(20))
		receive(t, s)
		if err := receive(t, s).Ack(); err != nil {
			t.Error(err)
		}
		waiting := make(chan error, 1)
		began := time.Now()
		for range 2 {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		go func() {
			_, err := s.Receive(context.Background())
			waiting <- err
		}()
		if err := <-waiting; !errors.Is(err, client.ErrClosed) {
			t.Errorf("receive after close: %v", err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("closing took %v", took)
		}
		w.durable.change(func() {
			if len(w.durable.holder) != 0 || !slices.Equal(w.durable.acked, []uint64{2}) {
				t.Errorf("held %v, acknowledged %v", w.durable.holder, w.durable.acked)
			}
		})
	})
}

// TestCloseWhileNobodyAnswers closes everything when the leader is frozen, and
// when no server is left.
func TestCloseWhileNobodyAnswers(t *testing.T) {
	for name, fault := range map[string]func(*world){
		"frozen": func(w *world) { w.freeze("s1") },
		"gone":   func(w *world) { w.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				w.durable.add("0")
				s := subscribe(t, c)
				d := receive(t, s)
				p := publisher(t, c)
				fault(w)
				p.PublishAsync(t.Context(), text("0"))
				acked := make(chan error, 1)
				go func() { acked <- d.AckSync(context.Background()) }()
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("close: %v", err)
				}
				if took := time.Since(began); took > 1100*time.Millisecond {
					t.Errorf("close took %v", took)
				}
				err := <-acked
				if !errors.Is(err, client.ErrClosed) || name == "frozen" && !errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("AckSync: %v", err)
				}
			})
		})
	}
}

func TestSubscribeRefusals(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		for name, tt := range map[string]struct {
			opts []client.SubscribeOption
			want error
		}{
			"matcher":       {[]client.SubscribeOption{client.Match("{")}, client.ErrInvalidMatcher},
			"two names":     {[]client.SubscribeOption{client.Durable("a"), client.SubscriberName("b")}, client.ErrInvalidArgument},
			"reserved name": {[]client.SubscribeOption{client.Durable("_a")}, client.ErrInvalidName},
			"negative":      {[]client.SubscribeOption{client.Prefetch(-1)}, client.ErrInvalidArgument},
			"retry":         {[]client.SubscribeOption{client.WithRetry(-2)}, client.ErrInvalidArgument},
		} {
			if _, err := c.Subscribe(t.Context(), "flights", tt.opts...); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for reason, want := range map[perdurepb.Reason]error{
			perdurepb.Reason_REASON_KIND_MISMATCH:      client.ErrKindMismatch,
			perdurepb.Reason_REASON_MATCHER_MISMATCH:   client.ErrMatcherMismatch,
			perdurepb.Reason_REASON_NO_TEMPLATE:        client.ErrNoTemplate,
			perdurepb.Reason_REASON_NO_SUCH_DURABLE:    client.ErrNoSuchDurable,
			perdurepb.Reason_REASON_ALREADY_SUBSCRIBED: client.ErrAlreadySubscribed,
		} {
			w.with(func() { w.onSub = func(*perdurepb.SubscribeOpen) error { return refuse(reason, "") } })
			if _, err := c.Subscribe(t.Context(), "flights"); !errors.Is(err, want) {
				t.Errorf("%v: %v", reason, err)
			}
		}
		var open *perdurepb.SubscribeOpen
		w.with(func() {
			w.onSub = func(o *perdurepb.SubscribeOpen) error {
				open = o
				return nil
			}
		})
		subscribe(t, c, client.Durable("d"), client.Standard(), client.Match(`{"a":1}`), client.Prefetch(3), client.PrefetchBytes(4))
		if open.Endpoint != "flights" || open.Durable != "d" || open.Kind != perdurepb.Kind_KIND_STANDARD || open.Matcher != `{"a":1}` ||
			open.CreditMessages != 3 || open.CreditBytes != 4 || open.Process == 0 || open.Name != "test" {
			t.Errorf("opened with %v", open)
		}
	})
}

func TestSubscriptionRetryDuration(t *testing.T) {
	for name, tt := range map[string]struct {
		retry time.Duration
		want  error
		after time.Duration
	}{
		"none":    {client.RetryNever, client.ErrUnavailable, 0},
		"seconds": {2 * time.Second, client.ErrTimeout, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				s := subscribe(t, c, client.WithRetry(tt.retry))
				w.stop()
				began := time.Now()
				_, err := s.Receive(t.Context())
				if !errors.Is(err, tt.want) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took < tt.after || took > tt.after+100*time.Millisecond {
					t.Errorf("ended after %v", took)
				}
			})
		})
	}
}

// TestPassingTrouble reopens a subscription against servers that are not ready.
func TestPassingTrouble(t *testing.T) {
	for _, reason := range []perdurepb.Reason{
		perdurepb.Reason_REASON_ALREADY_SUBSCRIBED, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT,
		perdurepb.Reason_REASON_INTERNAL, perdurepb.Reason_REASON_STOPPING, perdurepb.Reason_REASON_REALM_FORMING,
	} {
		t.Run(reason.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				s := subscribe(t, c)
				w.with(func() { w.onSub = func(*perdurepb.SubscribeOpen) error { return refuse(reason, "") } })
				w.kill("s1")
				w.lead("s2")
				w.durable.add("0")
				time.AfterFunc(3*time.Second, func() { w.with(func() { w.onSub = nil }) })
				if d := receive(t, s); string(d.Body()) != "0" {
					t.Errorf("received %q", d.Body())
				}
			})
		})
	}
}

// TestOldLeaderIsRefused lets a leader come back that does not know of the next.
func TestOldLeaderIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.lead("s2") // term 2
		s := subscribe(t, c)
		w.durable.add("0")
		w.with(func() { w.leader, w.term = "s1", 1 })
		w.kill("s2")
		time.AfterFunc(4*time.Second, func() { w.with(func() { w.leader, w.term = "s3", 3 }) })
		began := time.Now()
		receive(t, s)
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("received from the leader of an earlier term, after %v", took)
		}
	})
}
