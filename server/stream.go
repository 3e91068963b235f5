package server

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// outbox is what waits to be sent on one stream. Whoever fills it is bounded:
// answers by the stream's window, deliveries by its credit. One goroutine takes
// everything at once; others put, and never block.
type outbox[T any] struct {
	mu    sync.Mutex
	items []T
	err   error // why the stream ends, once
	wake  chan struct{}
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{wake: make(chan struct{}, 1)} }

func (o *outbox[T]) put(item T) {
	o.mu.Lock()
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.signal()
}

// end makes the stream end with err after what waits was sent. The first wins.
func (o *outbox[T]) end(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox[T]) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take moves what waits into dst, whose memory it reuses.
func (o *outbox[T]) take(dst []T) ([]T, error) {
	clear(dst)
	o.mu.Lock()
	defer o.mu.Unlock()
	dst, o.items = o.items, dst[:0]
	return dst, o.err
}

// window bounds the answers that a stream owes: those that are not known yet,
// and those that are not sent. A client that sends and does not read is not read
// from either.
type window chan struct{}

// owe takes a place, and waits for one until ctx ends.
func (w window) owe(ctx context.Context) error {
	select {
	case w <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// paid gives n places back.
func (w window) paid(n int) {
	for range n {
		<-w
	}
}

// pulse knows how long a client has been silent. Time in which this server did
// not listen does not count.
type pulse struct {
	heartbeat, timeout time.Duration
	began              time.Time
	heard              atomic.Int64 // nanoseconds after began
	held               atomic.Bool  // the reader waits for this server
	full               atomic.Bool  // the reader waits for answers to go out
	sending            atomic.Int64 // since when, nanoseconds after began; 0 is not
}

func newPulse(heartbeat, timeout time.Duration) *pulse {
	return &pulse{heartbeat: heartbeat, timeout: timeout, began: time.Now()}
}

// beat says that something came from the client.
func (p *pulse) beat() { p.heard.Store(int64(time.Since(p.began))) }

// hold runs f, which may wait for this server.
func (p *pulse) hold(f func() error) error {
	p.held.Store(true)
	err := f()
	p.beat()
	p.held.Store(false)
	return err
}

// owe takes a place in w. As long as the client does not read what is sent to
// it, waiting for that is its silence.
func (p *pulse) owe(ctx context.Context, w window) error {
	select {
	case w <- struct{}{}:
		return nil
	default:
	}
	p.full.Store(true)
	err := w.owe(ctx)
	p.beat()
	p.full.Store(false)
	return err
}

// settled returns io.EOF when nothing is owed any more, or the error of ctx.
// Nobody may owe afterwards.
func (p *pulse) settled(ctx context.Context, w window) error {
	p.full.Store(true)
	for range cap(w) {
		if err := w.owe(ctx); err != nil {
			return err
		}
	}
	return io.EOF
}

// silence returns how long nothing came although this server listened.
func (p *pulse) silence() time.Duration {
	since := p.heard.Load()
	switch sending := p.sending.Load(); {
	case p.held.Load(), p.full.Load() && sending == 0:
		p.beat()
		return 0
	case p.full.Load():
		// What it does not read it can have begun not to read only now.
		since = max(since, sending)
	}
	return time.Since(p.began) - time.Duration(since)
}

// send runs f, which sends and so may wait for the client.
func (p *pulse) send(f func() error) error {
	p.sending.Store(max(1, int64(time.Since(p.began))))
	err := f()
	if err == nil {
		p.sending.Store(0)
	}
	return err
}

// receive runs f, the receiving half of a stream, and ends the stream with what
// it returns.
func (s *Server) receive(end func(error), f func() error) {
	s.spawn(func() {
		err := errPanicked
		defer func() { end(err) }()
		err = f()
	})
}

// converse sends what comes into the outbox until the stream ends: with the
// error that end was given, with that of ctx, or with a fault of the client's
// silence. send gets everything that waits; idle sends a heartbeat. Sending is
// a goroutine of its own, which spawn starts, because it blocks when the client
// does not read: it ends at the latest when the stream does.
func converse[T any](ctx context.Context, spawn func(func()), o *outbox[T], p *pulse, send func([]T) error, idle func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan error, 1)
	spawn(func() {
		err := errPanicked
		defer func() { sent <- err }()
		err = transmit(ctx, o, p, send, idle)
	})
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	for {
		select {
		case err := <-sent:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			silent := p.silence()
			if silent >= p.timeout {
				return faultf(perdurepb.Reason_REASON_CLIENT_TIMEOUT, "nothing came from the client for %v; reconnect", p.timeout)
			}
			timer.Reset(p.timeout - silent)
		}
	}
}

// transmit is the sending half of converse.
func transmit[T any](ctx context.Context, o *outbox[T], p *pulse, send func([]T) error, idle func() error) error {
	beat := time.NewTicker(p.heartbeat)
	defer beat.Stop()
	var items []T
	quiet := true
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			if quiet {
				if err := p.send(idle); err != nil {
					return err
				}
			}
			quiet = true
			continue
		case <-o.wake:
		}
		var end error
		if items, end = o.take(items); len(items) > 0 {
			quiet = false
			if err := p.send(func() error { return send(items) }); err != nil {
				return err
			}
		}
		if end != nil {
			return end
		}
	}
}

// streams are the open streams, to be ended when the server stops.
type streams struct {
	most int // that may be open at once

	mu   sync.Mutex
	next uint64
	ends map[uint64]func(error)
	over error // why no more may open
}

func newStreams(most int) *streams { return &streams{most: most, ends: map[uint64]func(error){}} }

// add takes a stream in, which release takes out again.
func (s *streams) add(end func(error)) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return nil, s.over
	}
	if len(s.ends) >= s.most {
		return nil, faultf(perdurepb.Reason_REASON_OVERLOADED, "this server has %d streams open, as many as it takes; close some, or try later", s.most)
	}
	s.next++
	id := s.next
	s.ends[id] = end
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ends, id)
	}, nil
}

// endAll ends all streams with err, and refuses new ones.
func (s *streams) endAll(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = err
	for _, end := range s.ends {
		end(err)
	}
}
