package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm/catalog"
)

// tellEvery is how often a client that saves or loads is told how far that is. It
// takes a server for lost that says nothing for several times as long.
const tellEvery = time.Second

// readPatience is how long a client may not read what is sent to it. A state that is
// saved is pinned as long as that takes.
const readPatience = time.Minute

// stateCall runs work, which may take long, on behalf of a client. Frames go out
// through send, and progress every second. A client that does not read them is left:
// what it blocks ends when the call does. So it is where watch, asked every second,
// has an error.
func (s *Server) stateCall(ctx context.Context, progress, watch func() error, work func(ctx context.Context, send func(func() error) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	release, err := s.streams.add(cancel)
	if err != nil {
		cancel(nil)
		return err
	}
	out := &stateSends{turn: make(chan struct{}, 1)}
	worked := make(chan error, 1)
	s.spawn(func() {
		defer release()
		err := errPanicked
		defer func() { worked <- err }()
		err = work(ctx, out.send)
	})
	told := make(chan struct{})
	s.spawn(func() {
		defer close(told)
		out.tell(ctx, progress, cancel)
	})
	ticker := time.NewTicker(min(tellEvery, s.readPatience/4))
	defer ticker.Stop()
	for worked != nil || told != nil {
		select {
		case err = <-worked:
			if errors.Is(err, context.Canceled) {
				err = context.Cause(ctx)
			}
			cancel(nil) // ends telling
			worked = nil
		case <-told:
			told = nil // ctx has ended, and work soon does
		case <-ticker.C:
			err := watch()
			if out.stuck() >= s.readPatience {
				err = faultf(perdurepb.Reason_REASON_CLIENT_TIMEOUT, "the client has read nothing for %v", s.readPatience)
			}
			if err != nil {
				cancel(err)
				return err
			}
		}
	}
	return err
}

// stateSends sends frames, one goroutine at a time.
type stateSends struct {
	turn  chan struct{}             // has who sends
	began atomic.Pointer[time.Time] // when the present one was begun, by the monotonic clock; nil: there is none
}

func (o *stateSends) send(f func() error) error {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	o.began.Store(new(time.Now()))
	err := f()
	o.began.Store(nil)
	return err
}

// stuck is how long the present frame has been on its way out.
func (o *stateSends) stuck() time.Duration {
	if began := o.began.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

// tell sends progress until ctx ends, which it ends itself if that fails.
func (o *stateSends) tell(ctx context.Context, progress func() error, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := o.send(progress); err != nil {
			cancel(err)
		}
	}
}

// stateEnd is what a call about a state answers that ended with err; ctx is gRPC's.
func (s *Server) stateEnd(ctx context.Context, err error, c *catalog.ClusterView, what string) error {
	var gone *goneError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		return gone
	case unsent(err) || ctx.Err() != nil:
		return &goneError{err}
	}
	f := asFault(err)
	if f.reason == perdurepb.Reason_REASON_INTERNAL || f.reason == perdurepb.Reason_REASON_CORRUPT {
		s.logger.Error(what+" failed", "cluster", c.Name, "err", err)
	}
	return s.hinted(f, c)
}

// chunkBytes is how much of a file is sent, or written, at a time.
const chunkBytes = 256 << 10

// chunked hands on what is written to it in pieces, and counts and sums it up.
type chunked struct {
	sum     hash.Hash
	written *atomic.Uint64
	put     func([]byte) error // what it is given is used again
	buf     []byte
}

func newChunked(written *atomic.Uint64, put func([]byte) error) *chunked {
	return &chunked{sum: sha256.New(), written: written, put: put, buf: make([]byte, 0, chunkBytes)}
}

// Write implements [io.Writer].
func (c *chunked) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		k := min(len(b)-n, cap(c.buf)-len(c.buf))
		c.buf = append(c.buf, b[n:n+k]...)
		if n += k; len(c.buf) == cap(c.buf) {
			if err := c.flush(); err != nil {
				return n, err
			}
		}
	}
	return len(b), nil
}

func (c *chunked) flush() error {
	c.sum.Write(c.buf)
	c.written.Add(uint64(len(c.buf)))
	err := c.put(c.buf)
	c.buf = c.buf[:0]
	return err
}

var _ io.Writer = (*chunked)(nil)
