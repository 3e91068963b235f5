package client

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/message"
)

// sessionDoubt is how long servers are asked again for a session that one of them
// did not know: it may have been deposed, and lag.
const sessionDoubt = 2 * time.Second

// Session is a publisher session: what its store remembers of the batches that
// came, so that none is stored twice. It is forgotten when nobody has used it for
// an hour, and when its store is replaced.
type Session struct {
	ID, Epoch, Store uint64 // ID 0: none
	Last             uint64 // batches that the store had when somebody asked
}

// WithSession makes the publisher use one session and no other: that of another
// publisher, which has ended or will, or a new one if s.ID is 0. The n-th batch
// of the session has the number n, the first of this publisher the number
// Session().Last + 1. PublishBatch and PublishBatchAsync decide what is a batch;
// a program that makes the same batches again after it was killed goes on behind
// the last one that is stored.
//
// What is not stored, or may not be, ends the publisher, since what follows would
// have other numbers. So does the end of the session, with ErrSessionUnknown or
// ErrEpochChanged.
func WithSession(s Session) PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.session = &s })
}

// Session returns the publisher's session; none where the endpoint confirms
// nothing.
func (p *Publisher) Session() Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.mu.win
	return Session{ID: w.session, Epoch: w.epoch, Store: w.store, Last: w.first - 1}
}

// PublishBatchAsync does what PublishBatch does, and waits only for room in the
// window. The future is that of the first message; the ids of the others follow.
func (p *Publisher) PublishBatchAsync(ctx context.Context, ms []*message.Message) Future {
	if ctx.Err() != nil {
		return Future{b: failedBatch(context.Cause(ctx))} // definite: not sent
	}
	if len(ms) == 0 {
		return Future{b: failedBatch(refusal(ErrInvalidArgument, nil, "a batch of no messages"))}
	}
	b, err := p.encodeBatch(ms)
	if err == nil {
		err = p.pushBatch(ctx, b)
	}
	if err != nil {
		return Future{b: failedBatch(err)}
	}
	return Future{b: b}
}

// bound reports whether the publisher may use one session only.
func (p *Publisher) bound() bool { return p.cfg.session != nil }

// sessionGone reports whether a server says that a session is none any more.
func sessionGone(err error) bool {
	return errors.Is(err, ErrSessionUnknown) || errors.Is(err, ErrEpochChanged) || errors.Is(err, ErrNoSuchStore)
}

// doubt says of a bound publisher's session that a server does not know it. It is
// asked for again for a while.
func (p *Publisher) doubt(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.doubted.IsZero() {
		p.mu.doubted = time.Now()
	}
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	said := *e
	said.Retryable = time.Since(p.mu.doubted) < sessionDoubt
	return &said
}

// broken ends a bound publisher because numbers and batches do not belong
// together any more. The lock is held.
func (p *Publisher) broken(why error) {
	if p.bound() {
		p.end(why)
		p.stop(why)
	}
}
