package client

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

const (
	// ackDelay is how long an acknowledgement may wait for others.
	ackDelay = time.Millisecond
	// closeGrace is how long Close waits for a server to take deliveries back,
	// unless its context ends sooner. The end of the stream does it, too.
	closeGrace = time.Second
)

// Subscription receives the messages of one durable. Receive, Fetch, All and
// Consume are four views of the same flow and may be mixed.
//
// One goroutine, run, owns the connection: it opens streams and reads frames. A
// second sends settlements and credit. The client holds no more unsettled
// messages than the prefetch.
type Subscription struct {
	c        *Client
	endpoint string
	cfg      subscribeConfig
	ctx      context.Context
	stop     context.CancelCauseFunc
	done     chan struct{} // closed when run has ended
	halted   chan struct{} // closed when no more is handed out
	arrived  chan struct{} // one pending wake-up; whoever takes it passes it on

	mu struct {
		sync.Mutex
		link    *subscribeLink
		queue   []*chunk // of the present link, not handed out; bounded by credit
		waiting int      // callers in Receive
		handed  int      // deliveries handed out and not settled
		settled chan struct{}
		ledger  ledger
		echoes  echoes
		timer   *time.Timer // flushes settlements

		window, windowBytes uint64 // credit that the server started with
		out, outBytes       uint64 // of it, what was received and not granted again

		closing  bool
		draining bool
		err      error // why nothing is handed out any more
		endErr   error // why nothing can be settled any more
		term     uint64
		termSeen time.Time
		durable  uint64
		opened   *perdurepb.SubscribeOpened // the last one
	}
}

// Subscribe subscribes a durable through an endpoint: the one named by Durable
// or SubscriberName, else the endpoint's default. It waits for the leader until
// ctx or the retry duration ends; a definite refusal, such as ErrKindMismatch,
// comes at once.
func (c *Client) Subscribe(ctx context.Context, endpoint string, opts ...SubscribeOption) (*Subscription, error) {
	s := &Subscription{
		c: c, endpoint: endpoint, cfg: subscribeConfig{retry: c.cfg.retry},
		done: make(chan struct{}), halted: make(chan struct{}), arrived: make(chan struct{}, 1),
	}
	for _, o := range opts {
		o.applySubscribe(&s.cfg)
	}
	if err := s.cfg.validate(); err != nil {
		return nil, err
	}
	for _, name := range []string{endpoint, s.cfg.durable, s.cfg.subscriber} {
		if err := message.ValidName(name); err != nil && (name != "" || endpoint == "") {
			return nil, refusal(ErrInvalidName, err, "%v", err)
		}
	}
	s.ctx, s.stop = context.WithCancelCause(c.ctx)
	if err := c.adopt(s); err != nil {
		s.stop(err)
		return nil, err
	}
	l, err := s.connect(ctx, nil)
	if err != nil {
		s.stop(err)
		s.end(err)
		close(s.done)
		c.release(s)
		return nil, during(err, "subscribe %q", endpoint)
	}
	s.mu.timer = time.AfterFunc(time.Hour, s.nudge)
	s.mu.timer.Stop()
	s.attach(l)
	go s.run(l)
	return s, nil
}

// Receive returns the next message. It waits for one until ctx ends. Once the
// subscription has ended it returns why: ErrClosed after Drain and Close,
// ErrForceClosed and so on.
func (s *Subscription) Receive(ctx context.Context) (Delivery, error) {
	if err := ctx.Err(); err != nil {
		return Delivery{}, context.Cause(ctx)
	}
	s.mu.Lock()
	for {
		if s.mu.err != nil {
			defer s.mu.Unlock()
			return Delivery{}, s.mu.err
		}
		if d, ok := s.pop(); ok {
			s.passOn()
			s.mu.Unlock()
			return d, nil
		}
		if err := s.wait(ctx); err != nil {
			defer s.mu.Unlock()
			return Delivery{}, err
		}
	}
}

// Fetch waits for a message as Receive does, and returns it with what else has
// arrived already, at most n messages in order.
func (s *Subscription) Fetch(ctx context.Context, n int) ([]Delivery, error) {
	if n < 1 {
		return nil, refusal(ErrInvalidArgument, nil, "fetch of %d messages: it must be at least 1", n)
	}
	d, err := s.Receive(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	arrived := 1
	for _, c := range s.mu.queue {
		if arrived += c.batch.Count() - c.next; arrived >= n {
			break
		}
	}
	batch := append(make([]Delivery, 0, min(arrived, n)), d)
	for len(batch) < n && s.mu.err == nil {
		d, ok := s.pop()
		if !ok {
			break
		}
		batch = append(batch, d)
	}
	s.passOn()
	return batch, nil
}

// All yields messages until ctx or the subscription ends, and then, once, the
// error that says why. After Drain or Close it ends without an error.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		for {
			d, err := s.Receive(ctx)
			if errors.Is(err, ErrClosed) {
				return
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// Durable returns the name of the durable.
func (s *Subscription) Durable() string { return s.opened().Durable }

// Store returns the name of the store.
func (s *Subscription) Store() string { return s.opened().Store }

// Created reports whether subscribing created the durable.
func (s *Subscription) Created() bool { return s.opened().Created }

// Kind returns the kind of the durable.
func (s *Subscription) Kind() Kind {
	switch s.opened().Kind {
	case perdurepb.Kind_KIND_SHARED:
		return KindShared
	case perdurepb.Kind_KIND_STANDARD:
		return KindStandard
	}
	return KindAny
}

// Err returns why the subscription has ended, or nil.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// Drain hands out nothing more, waits until everything that was handed out is
// settled and confirmed, and closes the subscription. Messages that were
// prefetched and not handed out go back. If ctx ends first the rest goes back,
// too, and Drain returns the reason.
func (s *Subscription) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.mu.draining = true
	s.halt(ErrClosed)
	s.mu.Unlock()
	err := s.quiesce(ctx)
	return errors.Join(err, s.Close(ctx))
}

// quiesce waits until nothing is unsettled or unconfirmed.
func (s *Subscription) quiesce(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.nudgeLocked()
		over := s.mu.endErr != nil || s.mu.handed == 0 && s.mu.ledger.idle()
		if over {
			err := s.mu.endErr
			s.mu.Unlock()
			if errors.Is(err, ErrClosed) {
				return nil
			}
			return err
		}
		if s.mu.settled == nil {
			s.mu.settled = make(chan struct{})
		}
		settled := s.mu.settled
		s.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return during(context.Cause(ctx), "drain of %q", s.endpoint)
		}
	}
}

// Close sends the acknowledgements made so far and gives everything else back at
// once. It waits for the server to have done so until ctx ends, one second at
// most. Further calls wait for the first.
func (s *Subscription) Close(ctx context.Context) error {
	s.mu.Lock()
	s.halt(ErrClosed)
	s.mu.closing = true
	connected := s.mu.link != nil
	s.nudgeLocked()
	s.mu.Unlock()
	if connected {
		grace := time.NewTimer(closeGrace)
		select {
		case <-s.done:
		case <-ctx.Done():
		case <-grace.C:
		}
		grace.Stop()
	}
	s.stop(ErrClosed)
	<-s.done
	s.c.release(s)
	return nil
}

// halt stops handing out.
func (s *Subscription) halt(why error) {
	if s.mu.err == nil {
		s.mu.err = why
		close(s.halted)
	}
	s.mu.queue = nil
}

// end makes everything fail from now on.
func (s *Subscription) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt(why)
	if s.mu.endErr == nil {
		s.mu.endErr = why
		s.mu.ledger.fail(why)
	}
	if s.mu.timer != nil {
		s.mu.timer.Stop()
	}
	s.wakeQuiescing()
}

// pop hands out the next message that has arrived.
func (s *Subscription) pop() (Delivery, bool) {
	for len(s.mu.queue) > 0 {
		if d, ok := s.mu.queue[0].pop(); ok {
			s.mu.handed++
			return d, true
		}
		s.mu.queue[0] = nil
		s.mu.queue = s.mu.queue[1:]
	}
	return Delivery{}, false
}

// wait waits, without the lock, until something may have arrived.
func (s *Subscription) wait(ctx context.Context) error {
	// Without credit the server waits for us.
	if s.mu.ledger.messages > 0 && (s.mu.out >= s.mu.window || s.mu.outBytes >= s.mu.windowBytes) {
		s.nudgeLocked()
	}
	s.mu.waiting++
	s.mu.Unlock()
	var err error
	select {
	case <-s.arrived:
	case <-s.halted:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	s.mu.waiting--
	return err
}

// passOn wakes one more receiver if there is work for it.
func (s *Subscription) passOn() {
	if s.mu.waiting > 0 && len(s.mu.queue) > 0 {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}
}
