package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// kick sends what may go now: by itself if nothing is in flight, so that sending
// cannot block; else the sender is woken. Nobody knows what is in flight to an
// endpoint that confirms nothing.
func (p *Publisher) kick() {
	l := p.mu.link
	if l == nil || l.sending || !p.ready() {
		return
	}
	if l.opened.Noconfirm || l.inFlight > 0 || len(p.mu.win.batches) > 1 {
		l.nudge()
		return
	}
	p.sendNext(l)
	if p.mu.link == l && p.ready() {
		l.nudge()
	}
}

// ready reports whether a batch may be handed to the stream now.
func (p *Publisher) ready() bool {
	if !p.mu.hold.IsZero() {
		left := time.Until(p.mu.hold)
		if left > 0 {
			return false
		}
		p.mu.hold = time.Time{}
	}
	if p.mu.win.waiting() {
		return true
	}
	if p.mu.opening == nil {
		return false
	}
	size := p.mu.open.Size()
	return len(p.mu.win.batches) == 0 ||
		(p.mu.flush || size >= p.cfg.batchTarget) && p.mu.win.room(size)
}

// sendNext hands one batch to the stream, without the lock. The caller has
// checked that one is ready and that nobody else sends.
func (p *Publisher) sendNext(l *publishLink) {
	if !p.mu.win.waiting() {
		p.seal()
		p.wakeWaiting()
	}
	b, sequence, attempt := p.mu.win.take()
	l.request.Sequence, l.request.Attempt, l.request.Batch = sequence, attempt, b.data
	l.sending, l.sent = true, true
	if l.inFlight == 0 {
		l.progress = time.Now()
	}
	l.inFlight++
	p.mu.Unlock()
	err := l.stream.Send(&l.request)
	p.mu.Lock()
	l.finishSend()
	// A failed Send has cancelled the stream; receive finds out why.
	if err == nil && l.opened.Noconfirm && len(p.mu.win.batches) > 0 {
		l.inFlight--
		p.settle(p.mu.win.confirm(), p.mu.receipt, nil)
	}
}

// sendLoop sends what is ready when woken, and heartbeats.
func (p *Publisher) sendLoop(l *publishLink) {
	defer close(l.joined)
	tick := time.NewTicker(beat(l.opened.HeartbeatMs))
	defer tick.Stop()
	for {
		silent := false
		select {
		case <-l.wake:
		case <-tick.C:
			silent = true
		case <-l.ctx.Done():
			return
		}
		p.mu.Lock()
		if l.inFlight > 0 && time.Since(l.progress) > 2*l.silence {
			// It lives and does not answer. Batches that are sent twice are stored
			// once, so another stream cannot do harm.
			l.cancel(silence(l.address, 2*l.silence))
		}
		if silent && !l.sending {
			if !l.sent {
				p.beat(l)
			}
			l.sent = false
		}
		for l.ctx.Err() == nil && !l.sending && p.mu.link == l && p.ready() {
			p.sendNext(l)
		}
		p.mu.Unlock()
	}
}

// finishSend says that nobody sends any more. The publisher's lock is held.
func (l *publishLink) finishSend() {
	l.sending = false
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

func (p *Publisher) beat(l *publishLink) {
	l.sending = true
	p.mu.Unlock()
	_ = l.stream.Send(&perdurepb.PublishRequest{Heartbeat: true}) // receive finds out why it failed
	p.mu.Lock()
	l.finishSend()
}

// receive reads outcomes until the stream ends, and returns why it did.
func (p *Publisher) receive(l *publishLink) error {
	for {
		if err := l.stream.RecvMsg(&l.received); err != nil {
			l.over = errors.Is(err, io.EOF)
			return l.reason(err)
		}
		l.heard()
		if len(l.received.Outcomes) == 0 || l.opened.Noconfirm {
			continue
		}
		p.mu.Lock()
		l.inFlight = max(0, l.inFlight-len(l.received.Outcomes))
		l.progress = time.Now()
		for _, o := range l.received.Outcomes {
			if err := p.outcome(l, o); err != nil {
				// From here on nothing must be handed to this stream: it may be of a
				// session that was given up.
				p.mu.link, p.mu.down = nil, err
				p.mu.Unlock()
				return err
			}
		}
		p.kick()
		p.mu.Unlock()
	}
}

// outcome takes one outcome into account. An error ends the stream; the next one
// resumes the session.
func (p *Publisher) outcome(l *publishLink, o *perdurepb.PublishOutcome) error {
	w := &p.mu.win
	last := w.first + uint64(w.handed) - 1
	if o.Sequence > w.first && o.Sequence <= last && o.Attempt == w.attempt {
		return &Error{
			Reason: "SEQUENCE_GAP", Retryable: true, LastSequence: w.first - 1,
			Message: fmt.Sprintf("server %s answered batch %d and not %d", l.address, o.Sequence, w.first),
		}
	}
	if o.Sequence != w.first || w.handed == 0 {
		return nil // of a batch that went out again since
	}
	if o.Error == nil || o.Error.Reason == perdurepb.Reason_REASON_RECEIPT_FORGOTTEN {
		p.mu.pauses = pauses{}
		b := w.confirm()
		r := p.mu.receipt
		r.Duplicate, r.Interested = o.Duplicate || o.Error != nil, o.Interested
		r.ID = message.ID(o.FirstId)
		p.settle(b, r, nil)
		p.recycle(b)
		return nil
	}
	if o.Attempt != w.attempt {
		return nil // of an attempt that is over
	}
	err := errorOf(o.Error)
	switch o.Error.Reason {
	case perdurepb.Reason_REASON_SESSION_UNKNOWN, perdurepb.Reason_REASON_EPOCH_CHANGED,
		perdurepb.Reason_REASON_SEQUENCE_REUSED:
		p.endUnknown(w.abandon(), err)
		p.broken(err)
		err.Retryable = true
		return err
	case perdurepb.Reason_REASON_STORE_FULL, perdurepb.Reason_REASON_OVERLOADED, perdurepb.Reason_REASON_SUSPENDED:
		w.reject()
		if p.retryLater(l) {
			return nil
		}
	case perdurepb.Reason_REASON_ABORTED:
		// The attempt was closed by a rejection that the last stream saw.
		w.reject()
		return nil
	case perdurepb.Reason_REASON_SEQUENCE_GAP:
		// The numbers differ from the server's, which tells them on opening.
		err.Retryable = true
		return err
	default:
		if err.Retryable {
			return err // not this server, or not now: find the leader again
		}
		w.reject()
	}
	p.settle(w.pop(), Receipt{}, err)
	p.broken(err)
	return nil
}

// retryLater puts off sending after the oldest batch was rejected. It reports
// false if that batch was retried long enough.
func (p *Publisher) retryLater(l *publishLink) bool {
	pause := p.mu.pauses.next()
	if p.cfg.retry != RetryForever {
		left := p.cfg.retry - time.Since(p.mu.win.batches[0].born)
		if left <= 0 {
			p.mu.pauses = pauses{}
			return false
		}
		pause = min(pause, left)
	}
	p.mu.hold = time.Now().Add(pause)
	time.AfterFunc(pause, l.nudge)
	return true
}
