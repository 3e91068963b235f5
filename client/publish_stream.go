package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// publishLink is a publisher's stream. What follows sending is guarded by the
// publisher's lock.
type publishLink struct {
	*link
	stream   grpc.BidiStreamingClient[perdurepb.PublishRequest, perdurepb.PublishResponse]
	opened   *perdurepb.PublishOpened
	asked    uint64        // the session that was asked for
	wake     chan struct{} // one pending wake-up is as good as many
	joined   chan struct{} // closed when the sender has ended
	sending  bool          // somebody is in Send, without the lock
	idle     chan struct{} // closed when nobody is any more; nil if nobody waits
	sent     bool          // since the sender looked last
	inFlight int           // batches that the server has not answered
	progress time.Time     // when it answered last, or began to owe an answer
	drained  chan error    // Close waits here for the server to have taken everything
	over     bool          // the server ended the stream without an error
	request  perdurepb.PublishRequest
	received perdurepb.PublishResponse
}

func (l *publishLink) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run serves one stream after the other, l first, until the publisher ends.
func (p *Publisher) run(l *publishLink) {
	defer close(p.done)
	var brief restarts
	for attached := true; ; attached = p.attach(l) {
		began := time.Now()
		if !attached {
			l.end()
		} else {
			go p.sendLoop(l)
			err := p.receive(l)
			l.end()
			<-l.joined
			p.awaitClose(l, err)
			p.detach(err)
		}
		if p.ctx.Err() != nil {
			p.fail(context.Cause(p.ctx))
			return
		}
		p.mu.Lock()
		down := p.mu.down
		p.mu.Unlock()
		if !mayResume(down) {
			p.c.cfg.log.Error("publisher ended", "endpoint", p.endpoint, "err", down)
			p.fail(down)
			return
		}
		brief.pause(p.ctx, time.Since(began))
		next, err := p.connect(p.ctx, RetryForever, down)
		if err != nil {
			if p.ctx.Err() == nil {
				p.c.cfg.log.Error("publisher ended", "endpoint", p.endpoint, "err", err)
			}
			p.fail(err)
			return
		}
		l = next
	}
}

// connect finds the leader and opens a stream there. down is why the last one
// ended, if there was one.
func (p *Publisher) connect(ctx context.Context, retry time.Duration, down error) (*publishLink, error) {
	var l *publishLink
	s := seeking{
		endpoint: p.endpoint, retry: retry, hint: leaderHint(down), resumes: down != nil,
		try: func(ctx context.Context, address string) (err error) {
			l, err = p.openAt(ctx, address)
			switch {
			case !sessionGone(err):
			case p.bound():
				err = p.doubt(err)
			default:
				// The session is gone, or its store. The next try opens a new one.
				p.forgetSession(err)
				l, err = p.openAt(ctx, address)
			}
			return err
		},
		failed: func(err error) {
			p.mu.Lock()
			p.mu.down = err
			p.mu.Unlock()
		},
	}
	var silent *silenceError
	if errors.As(down, &silent) {
		s.avoid = silent.address
	}
	if err := p.c.seek(ctx, s); err != nil {
		return nil, err
	}
	return l, nil
}

// openAt opens a stream at one server, resuming the session if there is one.
func (p *Publisher) openAt(ctx context.Context, address string) (*publishLink, error) {
	cc, err := p.c.conn(address)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	open := &perdurepb.PublishOpen{
		Endpoint: p.endpoint, StoreId: p.mu.win.store,
		Session: p.mu.win.session, Epoch: p.mu.win.epoch, Name: p.c.cfg.name,
	}
	p.mu.Unlock()
	l := &publishLink{
		link: newLink(p.ctx, address), asked: open.Session,
		wake: make(chan struct{}, 1), joined: make(chan struct{}),
	}
	err = l.handshake(ctx, func() error {
		stream, err := perdurepb.NewMessagesClient(cc).Publish(l.ctx)
		if err != nil {
			return err
		}
		l.stream = stream
		if err := stream.Send(&perdurepb.PublishRequest{Open: open}); err != nil {
			_, err = stream.Recv() // has the reason
			return err
		}
		for l.opened == nil {
			response, err := stream.Recv()
			if err != nil {
				return err
			}
			l.opened = response.Opened
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.watch(l.opened.TimeoutMs)
	return l, nil
}

// drain tells the server of an endpoint that confirms nothing that this is all,
// and waits until it has taken everything: what is handed to a stream that is
// cut may not have left yet.
func (p *Publisher) drain(ctx context.Context) error {
	p.mu.Lock()
	l := p.mu.link
	if l == nil || !l.opened.Noconfirm {
		p.mu.Unlock()
		return nil
	}
	for l.sending {
		idle := make(chan struct{})
		l.idle = idle
		p.mu.Unlock()
		select {
		case <-idle:
		case <-l.ctx.Done():
			return unknown(context.Cause(l.ctx))
		case <-ctx.Done():
			return errors.Join(ErrOutcomeUnknown, context.Cause(ctx))
		}
		p.mu.Lock()
	}
	l.sending = true // nobody sends from here on
	l.drained = make(chan error, 1)
	p.mu.Unlock()
	err := l.stream.CloseSend()
	if err == nil {
		select {
		case err = <-l.drained:
		case <-ctx.Done():
			return errors.Join(ErrOutcomeUnknown, context.Cause(ctx))
		}
	}
	if err != nil {
		return unknown(err)
	}
	return nil
}

// awaitClose tells drain how the stream ended, and waits for Close to go on.
func (p *Publisher) awaitClose(l *publishLink, err error) {
	p.mu.Lock()
	drained := l.drained
	p.mu.Unlock()
	if drained != nil {
		if l.over {
			err = nil
		}
		drained <- err
		<-p.ctx.Done()
	}
}

// forgetSession ends what the session had on its way.
func (p *Publisher) forgetSession(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endUnknown(p.mu.win.abandon(), why)
}

// attach makes l the stream of the publisher, unless its session is no longer
// the publisher's.
func (p *Publisher) attach(l *publishLink) bool {
	p.c.cfg.log.Info("publisher connected", "endpoint", p.endpoint, "server", l.address, "session", l.opened.Session)
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.asked != p.mu.win.session {
		p.mu.down = refusal(ErrSessionUnknown, nil, "the session was given up meanwhile")
		p.mu.down.(*Error).Retryable = true
		return false
	}
	unknown, ok := p.mu.win.opened(l.opened)
	p.endUnknown(unknown, refusal(ErrSessionUnknown, nil, "server %s does not know the session", l.address))
	if len(unknown) > 0 {
		p.broken(refusal(ErrSessionUnknown, nil, "server %s does not know the session", l.address))
	}
	if !ok {
		p.mu.down = &Error{Reason: "SESSION_UNKNOWN", Retryable: true, Message: fmt.Sprintf("server %s has stored up to batch %d of the session, which does not fit what was sent", l.address, l.opened.LastSequence)}
		p.broken(p.mu.down)
		return false
	}
	p.mu.doubted = time.Time{}
	p.mu.maxMessage = int(min(l.opened.MaxMessageSize, message.HardMaxMessageSize))
	p.mu.open.SetMaxMessageSize(p.mu.maxMessage)
	p.mu.receipt = Receipt{Store: l.opened.Store, Durability: durabilityOf(l.opened.Durability), Confirmed: !l.opened.Noconfirm}
	p.mu.link, p.mu.down = l, nil
	p.mu.hold = time.Time{}
	if p.mu.expiry != nil {
		p.mu.expiry.Stop()
	}
	l.nudge()
	return true
}

// detach notes why the stream ended.
func (p *Publisher) detach(err error) {
	if p.ctx.Err() == nil {
		p.c.cfg.log.Info("publisher's stream ended", "endpoint", p.endpoint, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.link, p.mu.down = nil, err
	p.mu.win.lost()
	p.expire()
}

// fail ends the publisher and everything that is on its way.
func (p *Publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(err)
}

// end does what fail does; the lock is held.
func (p *Publisher) end(err error) {
	p.mu.err, p.mu.link = err, nil
	if p.mu.expiry != nil {
		p.mu.expiry.Stop()
	}
	p.endUnknown(p.mu.win.abandon(), err)
	for len(p.mu.win.batches) > 0 {
		p.settle(p.mu.win.pop(), Receipt{}, err)
	}
	if b := p.mu.opening; b != nil {
		p.dropOpen()
		p.settle(b, Receipt{}, err)
	}
	p.wakeWaiting()
}

func (p *Publisher) endUnknown(batches []*batch, why error) {
	for _, b := range batches {
		p.settle(b, Receipt{}, unknown(why))
	}
}

// armExpiry sets the time at which the oldest message has waited long enough for
// a connection.
func (p *Publisher) armExpiry() {
	if p.mu.link != nil || p.cfg.retry == RetryForever || p.mu.err != nil {
		return
	}
	oldest := p.mu.opening
	if len(p.mu.win.batches) > 0 {
		oldest = p.mu.win.batches[0]
	}
	if oldest == nil {
		return
	}
	wait := time.Until(oldest.born.Add(p.cfg.retry))
	if p.mu.expiry == nil {
		p.mu.expiry = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.expire()
		})
		return
	}
	p.mu.expiry.Reset(wait)
}

// expire ends what has waited for a connection for the retry duration.
func (p *Publisher) expire() {
	if p.mu.link != nil || p.cfg.retry == RetryForever {
		return
	}
	why := p.mu.down
	if p.cfg.retry > 0 {
		why = fmt.Errorf("%w (%v): %w", ErrTimeout, p.cfg.retry, why)
	}
	limit := time.Now().Add(-p.cfg.retry)
	unstored, unknown := p.mu.win.expired(limit)
	p.endUnknown(unknown, why)
	for _, b := range unstored {
		p.settle(b, Receipt{}, why)
	}
	if len(unknown)+len(unstored) > 0 {
		p.broken(why)
	}
	if b := p.mu.opening; b != nil && !b.born.After(limit) {
		p.dropOpen()
		p.settle(b, Receipt{}, why)
	}
	p.armExpiry()
}
