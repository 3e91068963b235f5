package server

import (
	"context"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// outbox is what waits to be sent on one stream. Whoever fills it is bounded:
// outcomes by the client's window, deliveries by its credit. One goroutine
// takes everything at once; others put, and never block.
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

// pulse sends heartbeats on a stream that has nothing else to say, and ends it
// when the client has been silent too long.
type pulse struct {
	heartbeat, timeout time.Duration
	heard              chan struct{} // capacity 1
}

func newPulse(heartbeat, timeout time.Duration) *pulse {
	return &pulse{heartbeat, timeout, make(chan struct{}, 1)}
}

// beat says that something came from the client.
func (p *pulse) beat() {
	select {
	case p.heard <- struct{}{}:
	default:
	}
}

// pump sends what comes into the outbox until the stream ends: with the error
// that end was given, with the context's, or with a fault of the client's
// silence. send gets everything that waits; idle sends a heartbeat.
func pump[T any](ctx context.Context, o *outbox[T], p *pulse, send func([]T) error, idle func() error) error {
	silence := time.NewTimer(p.timeout)
	defer silence.Stop()
	beat := time.NewTicker(p.heartbeat)
	defer beat.Stop()
	var items []T
	quiet := true
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.heard:
			silence.Reset(p.timeout)
			continue
		case <-silence.C:
			return faultf(perdurepb.Reason_REASON_CLIENT_TIMEOUT, "nothing came from the client for %v; reconnect", p.timeout)
		case <-beat.C:
			if quiet {
				if err := idle(); err != nil {
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
			if err := send(items); err != nil {
				return err
			}
		}
		if end != nil {
			return end
		}
	}
}
