package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

func subscribe(t *testing.T, c *client.Client, opts ...client.SubscribeOption) *client.Subscription {
	t.Helper()
	s, err := c.Subscribe(t.Context(), "flights", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receive(t *testing.T, s *client.Subscription) client.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantNothing checks that no message comes for a while.
func wantNothing(t *testing.T, s *client.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if d, err := s.Receive(ctx); err == nil {
		t.Fatalf("received message %d, want nothing", d.ID())
	}
}

func TestReceive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(500)...)
		s := subscribe(t, c)
		for i := range 500 {
			d := receive(t, s)
			m, err := d.Message()
			if err != nil || string(m.Body) != fmt.Sprint(i) || string(d.Body()) != fmt.Sprint(i) || d.ID() != message.ID(i+1) {
				t.Fatalf("message %d: id %d, %q, %v", i, d.ID(), m.Body, err)
			}
			if d.DeliveryCount() != 0 || d.EndedDeliveries() != 0 || d.Stamp() != time.Unix(0, 1e18) || d.Store() != "flights" || d.Durable() != "audit" {
				t.Fatalf("message %d: %+v", i, d)
			}
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.Ack(), d.Nack(), d.AckSync(t.Context())); err != nil {
				t.Errorf("settled twice: %v", err)
			}
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := w.durable.pending(); n != 0 {
			t.Errorf("%d messages are pending 2 ms after the last Ack", n)
		}
		if s.Store() != "flights" || s.Durable() != "audit" || s.Kind() != client.KindShared || s.Created() || s.Err() != nil {
			t.Errorf("%q %q %v %v %v", s.Store(), s.Durable(), s.Kind(), s.Created(), s.Err())
		}
	})
}

// TestAcksAreCoalesced counts frames: messages that are acknowledged together
// cost a range, not a frame each.
func TestAcksAreCoalesced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		const n = 10_000
		w.durable.add(numbered(n)...)
		s := subscribe(t, c, client.Prefetch(1000))
		for range n {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		w.with(func() {
			ranges := 0
			for _, m := range w.settles {
				ranges += len(m.Acks) / 2
			}
			if len(w.settles) > 3*n/500 || ranges > 3*n/500 {
				t.Errorf("%d settle frames with %d ranges for %d messages in order", len(w.settles), ranges, n)
			}
			granted := uint64(0)
			for _, credit := range w.credits {
				granted += credit.Messages
			}
			if granted != n {
				t.Errorf("%d messages of credit were granted again for %d settled", granted, n)
			}
		})
	})
}

func TestCreditBoundsWhatIsHeld(t *testing.T) {
	for name, tt := range map[string]struct {
		opt  client.SubscribeOption
		most uint64
	}{
		"messages": {client.Prefetch(10), 10},
		"one":      {client.Prefetch(1), 1},
		"bytes":    {client.PrefetchBytes(100), 10}, // of 10 bytes each
		"a byte":   {client.PrefetchBytes(1), 1},    // one always passes
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				w.durable.add(slices.Repeat([]string{"10"}, 300)...)
				s := subscribe(t, c, tt.opt)
				var held []client.Delivery
				for range tt.most {
					held = append(held, receive(t, s))
				}
				wantNothing(t, s)
				for _, d := range held {
					if err := d.Ack(); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				for range 300 - tt.most {
					if err := receive(t, s).Ack(); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("the receiver waited %v although everything was acknowledged", took)
				}
				w.durable.change(func() {
					for sub := range w.durable.subs {
						if sub.most > tt.most {
							t.Errorf("the server sent %d messages ahead, credit is %d", sub.most, tt.most)
						}
					}
				})
			})
		})
	}
}

func TestAckSync(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(3)...)
		s := subscribe(t, c)
		if err := receive(t, s).AckSync(t.Context()); err != nil {
			t.Error(err)
		}
		if n := w.durable.pending(); n != 2 {
			t.Errorf("%d pending, want 2", n)
		}
		d := receive(t, s)
		w.durable.change(func() { w.durable.holder[2] = &fakeSubscriber{} })
		if err := d.AckSync(t.Context()); !errors.Is(err, client.ErrNotOwner) {
			t.Errorf("somebody else's: %v", err)
		}
		w.durable.change(func() { w.durable.mute = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := receive(t, s).AckSync(ctx)
		if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody answers: %v", err)
		}
	})
}

func TestNack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add("0")
		s := subscribe(t, c)
		for i := range 3 {
			d := receive(t, s)
			if d.DeliveryCount() != i || d.EndedDeliveries() != i {
				t.Errorf("delivery %d has counts %d and %d", i, d.DeliveryCount(), d.EndedDeliveries())
			}
			if err := d.Nack(); err != nil {
				t.Error(err)
			}
		}
		d := receive(t, s)
		if err := d.NackAfter(client.MaxNackDelay + 1); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("away for more than a year: %v", err)
		}
		if err := d.NackAfter(1500 * time.Microsecond); err != nil {
			t.Error(err)
		}
		wantNothing(t, s)
		w.durable.change(func() {
			if w.durable.delayed[1] != 2 {
				t.Errorf("delayed by %d ms, want 2", w.durable.delayed[1])
			}
		})
	})
}

// TestSubscriptionSurvives takes the leader away while messages are in every
// state there is.
func TestSubscriptionSurvives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		const n = 400
		w.durable.add(numbered(n)...)
		s := subscribe(t, c, client.Prefetch(50))
		first := map[message.ID]bool{}
		var inHand []client.Delivery
		for i := 0; w.durable.pending() > 0; i++ {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			d, err := s.Receive(ctx)
			cancel()
			if err == nil {
				if first[d.ID()] && d.DeliveryCount() == 0 {
					t.Errorf("message %d came again, its count is 0", d.ID())
				}
				first[d.ID()] = true
				inHand = append(inHand, d)
			}
			if len(inHand) == 7 || err != nil {
				for _, d := range inHand {
					if err := d.Ack(); err != nil {
						t.Fatal(err)
					}
				}
				inHand = inHand[:0]
			}
			if i%40 == 39 {
				from, to := "s1", "s2"
				if (i/40)%2 == 1 {
					from, to = to, from
				}
				w.kill(from)
				w.start(from)
				w.lead(to)
			}
			if i > 10*n {
				t.Fatalf("%d deliveries, %d messages seen, %d pending", i, len(first), w.durable.pending())
			}
		}
		if len(first) != n {
			t.Errorf("%d of %d messages were delivered", len(first), n)
		}
		w.with(func() {
			if len(w.subOpened) < 5 {
				t.Errorf("only %d streams", len(w.subOpened))
			}
		})
	})
}

// TestUnconfirmedAcksAreSentAgain loses acknowledgements with the connection.
// The copies that the next leader delivers are not handed out.
func TestUnconfirmedAcksAreSentAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(10)...)
		w.durable.deaf = true
		s := subscribe(t, c)
		for range 4 {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		sync := make(chan error, 1)
		d := receive(t, s)
		go func() { sync <- d.AckSync(context.Background()) }()
		stale := receive(t, s) // number 5, not settled yet
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if n := w.durable.pending(); n != 10 {
			t.Fatalf("%d pending: the test tests nothing", n)
		}
		w.kill("s1")
		w.durable.change(func() { w.durable.deaf = false })
		w.lead("s2")
		if err := <-sync; err != nil {
			t.Errorf("AckSync across the leaders: %v", err)
		}
		synctest.Wait()
		// The next leader has delivered number 5 again; it is in the queue.
		if err := stale.AckSync(t.Context()); err != nil {
			t.Errorf("of a delivery of the last leader: %v", err)
		}
		for i := 6; i < 10; i++ {
			d := receive(t, s)
			if want := fmt.Sprint(i); string(d.Body()) != want {
				t.Fatalf("received %q, want %q", d.Body(), want)
			}
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		w.durable.change(func() {
			if len(w.durable.ids) > 0 || len(w.durable.acked) != 10 {
				t.Errorf("pending %v, acknowledged %v", w.durable.ids, w.durable.acked)
			}
		})
	})
}

func TestAll(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(10)...)
		s := subscribe(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for d, err := range s.All(ctx) {
			if err != nil {
				last = err
				continue
			}
			if n++; n == 10 {
				cancel()
			}
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		if n != 10 || !errors.Is(last, context.Canceled) {
			t.Errorf("%d messages, ended by %v", n, last)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		for d, err := range s.All(t.Context()) {
			t.Errorf("after Drain: %v, %v", d.ID(), err)
		}
	})
}

func TestConsume(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(200)...)
		s := subscribe(t, c, client.Prefetch(30))
		var running, most, failures, panics atomic.Int64
		ended := make(chan error, 1)
		go func() {
			ended <- s.Consume(context.Background(), func(_ context.Context, d client.Delivery) error {
				now := running.Add(1)
				defer running.Add(-1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				time.Sleep(time.Second)
				switch {
				case d.DeliveryCount() > 0:
					return nil
				case strings.HasSuffix(string(d.Body()), "7"):
					return errors.New("not today")
				case strings.HasSuffix(string(d.Body()), "9"):
					panic("nine")
				}
				return nil
			}, client.Workers(4), client.Backoff(0, 0), client.OnFailure(func(_ client.Delivery, err error) {
				failures.Add(1)
				var p *client.PanicError
				if errors.As(err, &p) {
					panics.Add(1)
				}
			}))
		}()
		for w.durable.pending() > 0 {
			time.Sleep(time.Second)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Consume after Drain: %v", err)
		}
		if most.Load() != 4 || failures.Load() != 40 || panics.Load() != 20 {
			t.Errorf("%d at once, %d failures, %d panics", most.Load(), failures.Load(), panics.Load())
		}
		if err := s.Consume(t.Context(), nil, client.Workers(0)); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("no workers: %v", err)
		}
		for _, b := range [][2]time.Duration{{2, 1}, {-1, 1}, {0, client.MaxNackDelay + 1}} {
			if err := s.Consume(t.Context(), nil, client.Backoff(b[0], b[1])); !errors.Is(err, client.ErrInvalidArgument) {
				t.Errorf("backoff from %v to %v: %v", b[0], b[1], err)
			}
		}
	})
}

// A message whose handler keeps failing comes ever more rarely.
func TestConsumeBacksOff(t *testing.T) {
	for _, tt := range []struct {
		opts []client.ConsumeOption
		want []uint64
	}{
		{nil, []uint64{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}},
		{[]client.ConsumeOption{client.Backoff(time.Second, 3*time.Second)}, []uint64{1000, 2000, 3000, 3000}},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.connect()
			defer closeAll(t, c)
			w.durable.add("poison")
			s := subscribe(t, c)
			ended := make(chan error, 1)
			go func() {
				ended <- s.Consume(context.Background(), func(context.Context, client.Delivery) error { return errors.New("no") }, tt.opts...)
			}()
			for i, want := range tt.want {
				time.Sleep(time.Second)
				synctest.Wait()
				w.durable.change(func() {
					if got := w.durable.delayed[1]; got != want {
						t.Errorf("failure %d: away for %d ms, want %d", i+1, got, want)
					}
					w.durable.delayed[1] = 0
				})
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
}

func TestConsumeSaysWhyItEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		s := subscribe(t, c)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("lunch"))
		defer cancel()
		err := s.Consume(ctx, func(context.Context, client.Delivery) error { return nil }, client.Workers(3))
		if err == nil || err.Error() != "lunch" {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestReceiversShareTheFlow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		s := subscribe(t, c, client.Prefetch(64))
		var got atomic.Int64
		for range 8 {
			go func() {
				for {
					d, err := s.Receive(context.Background())
					if err != nil {
						return
					}
					got.Add(1)
					_ = d.Ack()
				}
			}()
		}
		for i := range 100 {
			w.durable.add(numbered(i % 7)...)
			synctest.Wait()
			if n := w.durable.pending(); n > 0 {
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
			}
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := w.durable.pending(); n != 0 {
			t.Errorf("%d pending while 8 receivers wait", n)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
