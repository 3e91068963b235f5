package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// staleTerm is how long a server with a lower term than the last one counts as
// a leader that was replaced and does not know it.
const staleTerm = 10 * time.Second

// subscribeLink is a subscription's stream.
type subscribeLink struct {
	*link
	stream grpc.BidiStreamingClient[perdurepb.SubscribeRequest, perdurepb.SubscribeResponse]
	opened *perdurepb.SubscribeOpened
	wake   chan struct{} // one pending wake-up is as good as many
	joined chan struct{} // closed when the sender has ended
}

func (l *subscribeLink) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run serves one stream after the other until the subscription ends.
func (s *Subscription) run(l *subscribeLink) {
	defer close(s.done)
	var brief restarts
	for {
		began := time.Now()
		go s.sendLoop(l)
		err := s.receive(l)
		l.end()
		<-l.joined
		closing := s.detach(err)
		switch {
		case s.ctx.Err() != nil || closing:
			s.end(ErrClosed)
			return
		case !mayResume(err) || s.cfg.retry == RetryNever:
			s.c.cfg.log.Error("subscription ended", "endpoint", s.endpoint, "durable", l.opened.Durable, "err", err)
			s.end(err)
			return
		}
		brief.pause(s.ctx, time.Since(began))
		next, err := s.connect(s.ctx, err)
		if err != nil {
			s.end(err)
			return
		}
		s.attach(next)
		l = next
	}
}

// connect finds the leader and opens a stream there. down is why the last one
// ended, if there was one.
func (s *Subscription) connect(ctx context.Context, down error) (*subscribeLink, error) {
	var l *subscribeLink
	seek := seeking{
		endpoint: s.endpoint, retry: s.cfg.retry, hint: leaderHint(down), resumes: down != nil,
		try: func(ctx context.Context, address string) (err error) {
			l, err = s.openAt(ctx, address)
			return err
		},
	}
	var silent *silenceError
	if errors.As(down, &silent) {
		seek.avoid = silent.address
	}
	if err := s.c.seek(ctx, seek); err != nil {
		return nil, err
	}
	return l, nil
}

// openAt opens a stream at one server.
func (s *Subscription) openAt(ctx context.Context, address string) (*subscribeLink, error) {
	cc, err := s.c.conn(address)
	if err != nil {
		return nil, err
	}
	open := &perdurepb.SubscribeOpen{
		Endpoint: s.endpoint, Durable: s.cfg.durable, Subscriber: s.cfg.subscriber,
		Matcher: s.cfg.matcher, Process: s.c.process, Name: s.c.cfg.name,
		CreditMessages: uint64(s.cfg.prefetch), CreditBytes: uint64(s.cfg.prefetchBytes),
	}
	switch s.cfg.kind {
	case KindStandard:
		open.Kind = perdurepb.Kind_KIND_STANDARD
	case KindShared:
		open.Kind = perdurepb.Kind_KIND_SHARED
	}
	l := &subscribeLink{link: newLink(s.ctx, address), wake: make(chan struct{}, 1), joined: make(chan struct{})}
	err = l.handshake(ctx, func() error {
		stream, err := perdurepb.NewMessagesClient(cc).Subscribe(l.ctx)
		if err != nil {
			return err
		}
		l.stream = stream
		if err := stream.Send(&perdurepb.SubscribeRequest{Open: open}); err != nil {
			_, err = stream.Recv() // has the reason
			return err
		}
		for l.opened == nil {
			response, err := stream.Recv()
			if err != nil {
				return err
			}
			if response.Error != nil {
				return errorOf(response.Error)
			}
			l.opened = response.Opened
		}
		return s.checkTerm(l)
	})
	if err != nil {
		return nil, err
	}
	l.watch(l.opened.TimeoutMs)
	return l, nil
}

// checkTerm refuses a leader of an earlier term: it was replaced and may deliver
// what others have settled. After a while it is believed, since a cluster that
// was formed anew starts with low terms.
func (s *Subscription) checkTerm(l *subscribeLink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.opened.Term < s.mu.term && l.opened.DurableId == s.mu.durable && time.Since(s.mu.termSeen) < staleTerm {
		return &Error{Reason: "NOT_LEADER", Retryable: true, Message: fmt.Sprintf("server %s leads in term %d, the last leader in %d", l.address, l.opened.Term, s.mu.term)}
	}
	return nil
}

// attach makes l the stream of the subscription. Acknowledgements that the last
// one did not confirm go out first.
func (s *Subscription) attach(l *subscribeLink) {
	s.c.cfg.log.Info("subscription connected", "endpoint", s.endpoint, "durable", l.opened.Durable, "server", l.address)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.opened != nil && s.mu.opened.Lineage != l.opened.Lineage {
		// A saved state was loaded, or the cluster was formed anew. What was delivered
		// before is not there, or comes again, and an id may name another message.
		s.mu.ledger.fail(errReplaced)
	}
	s.mu.link, s.mu.opened = l, l.opened
	s.mu.term, s.mu.termSeen, s.mu.durable = l.opened.Term, time.Now(), l.opened.DurableId
	s.mu.window, s.mu.windowBytes = max(l.opened.CreditMessages, 1), max(l.opened.CreditBytes, 1)
	s.mu.out, s.mu.outBytes = 0, 0
	again := s.mu.ledger.restart()
	s.mu.echoes = echoes{ranges: again, open: len(again) > 0}
	l.nudge()
}

// detach forgets the stream and what it delivered that nobody has seen. It
// reports whether the subscription is being closed.
func (s *Subscription) detach(err error) bool {
	if s.ctx.Err() == nil {
		s.c.cfg.log.Info("subscription's stream ended", "endpoint", s.endpoint, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.termSeen = time.Now()
	s.mu.link, s.mu.queue = nil, nil
	return s.mu.closing
}

// opened returns what the server said of the durable.
func (s *Subscription) opened() *perdurepb.SubscribeOpened {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.opened
}

// sendLoop sends settlements and credit when woken, heartbeats, and at the end
// the wish to close.
func (s *Subscription) sendLoop(l *subscribeLink) {
	defer close(l.joined)
	tick := time.NewTicker(beat(l.opened.HeartbeatMs))
	defer tick.Stop()
	sent := false // since the last tick
	for {
		silent := false
		select {
		case <-l.wake:
		case <-tick.C:
			silent = true
		case <-l.ctx.Done():
			return
		}
		frames, closing := s.flush(l)
		if closing {
			frames = append(frames, &perdurepb.SubscribeRequest{Close: true})
		} else if len(frames) == 0 && silent && !sent {
			frames = append(frames, &perdurepb.SubscribeRequest{Heartbeat: true})
		}
		sent = len(frames) > 0 && !silent
		for _, f := range frames {
			if l.stream.Send(f) != nil {
				return // receive finds out why
			}
		}
		if closing {
			_ = l.stream.CloseSend() // receive finds out why it failed
			return
		}
	}
}

// flush returns what is to be sent now.
func (s *Subscription) flush(l *subscribeLink) (frames []*perdurepb.SubscribeRequest, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.link != l {
		return nil, false
	}
	frames, messages, bytes := s.mu.ledger.flush(!s.mu.draining && !s.mu.closing)
	s.mu.out -= min(messages, s.mu.out)
	s.mu.outBytes -= min(bytes, s.mu.outBytes)
	s.mu.echoes.flushed(s.mu.ledger.token)
	return frames, s.mu.closing
}

// receive reads frames until the stream ends, and returns why it did.
func (s *Subscription) receive(l *subscribeLink) error {
	for {
		frame, err := l.stream.Recv()
		if errors.Is(err, io.EOF) {
			return &Error{Reason: "UNAVAILABLE", Retryable: true, Message: fmt.Sprintf("server %s ended the stream", l.address)}
		}
		if err != nil {
			return l.reason(err)
		}
		l.heard()
		switch {
		case frame.Error != nil:
			return errorOf(frame.Error)
		case frame.Settled != nil:
			if err := s.confirmed(frame.Settled); err != nil {
				return err
			}
		case frame.Delivery != nil:
			if err := s.deliver(l, frame); err != nil {
				return err
			}
		}
	}
}

// confirmed takes the answer to a settlement. An error ends the stream; the
// next one settles again.
func (s *Subscription) confirmed(f *perdurepb.Settled) error {
	var err error
	if f.Error != nil {
		refused := errorOf(f.Error)
		if refused.Retryable {
			return refused
		}
		err = refused
		s.c.cfg.log.Debug("settlement refused", "endpoint", s.endpoint, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.mu.ledger.waiting[f.Token]; a != nil && err != nil {
		// Whoever hears that it is not settled may undo his work: a copy is for him.
		s.mu.echoes.remove(a.id)
	}
	held := s.mu.ledger.unconfirmed > maxUnconfirmed
	s.mu.ledger.settled(f.Token, err)
	if e := &s.mu.echoes; !e.empty() && !e.open && s.mu.ledger.confirmed(e.token) {
		*e = echoes{}
	}
	if held {
		s.nudgeLocked()
	}
	if s.mu.ledger.idle() {
		s.wakeQuiescing()
	}
	return nil
}

// deliver puts a frame of messages into the queue.
func (s *Subscription) deliver(l *subscribeLink, frame *perdurepb.SubscribeResponse) error {
	c, err := newChunk(s, l, frame)
	if err != nil {
		return &Error{
			Reason: "CORRUPT", Retryable: true, cause: err,
			Message: fmt.Sprintf("delivery from server %s: %v", l.address, err),
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.out += uint64(c.left)
	s.mu.outBytes += frame.Delivery.Bytes
	if !s.mu.echoes.empty() {
		if copies := s.dropEchoes(c); len(copies) > 0 {
			s.mu.ledger.again(copies)
			l.nudge()
		}
	}
	if s.mu.err != nil {
		return nil // goes back when the stream is closed
	}
	s.mu.queue = append(s.mu.queue, c)
	s.passOn()
	return nil
}
