package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
)

const (
	// maxPosted bounds the frames of one client that wait for the group's loop.
	maxPosted = 64
	// maxSettled bounds the ranges of one frame, which the loop takes in one go.
	maxSettled = 16384
	// settleWindow bounds the settlements of one stream that are not answered.
	settleWindow = 4096
	// maxNackDelay is a year, in milliseconds.
	maxNackDelay = 365 * 24 * 3600 * 1000
)

// delivered is what goes out on a subscribe stream: a delivery, or the answer to
// a settlement.
type delivered struct {
	delivery service.Delivery
	settled  *perdurepb.Settled
}

// subscribeStream is one subscriber's stream.
type subscribeStream struct {
	server *Server
	stream perdurepb.Messages_SubscribeServer
	target *target
	sub    *service.Subscription
	out    *outbox[delivered]
	window window // of settlements
	posted chan struct{}
	over   atomic.Bool // what was handed out belongs to others by now
	pulse  *pulse
	at     []int // scratch
}

// Subscribe implements perdurepb.MessagesServer.
func (s *Server) Subscribe(stream perdurepb.Messages_SubscribeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return receiveFault(err)
	}
	open := first.GetOpen()
	if open == nil {
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the first frame of a subscribe stream must be open")
	}
	t, err := s.target(open.GetEndpoint(), 0)
	if err != nil {
		return asFault(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	p := &subscribeStream{
		server: s, stream: stream, target: t, out: newOutbox[delivered](), window: make(window, settleWindow),
		posted: make(chan struct{}, maxPosted), pulse: t.pulse(),
	}
	release, err := s.streams.add(p.out.end)
	if err != nil {
		return err
	}
	defer release()
	if f := t.suspended(); f != nil {
		return f
	}
	opened, err := p.open(ctx, open)
	if err != nil {
		return s.asFaultAt(err, t)
	}
	defer p.detach()
	if err := stream.Send(&perdurepb.SubscribeResponse{Opened: opened}); err != nil {
		return err
	}
	s.receive(p.out.end, func() error { return p.receive(ctx) })
	err = converse(ctx, s.spawn, p.out, p.pulse, p.send, func() error {
		return stream.Send(&perdurepb.SubscribeResponse{Heartbeat: true})
	})
	cancel(err)
	p.detach() // before anything that takes time
	return s.streamEnd(stream.Context(), err, t)
}

// ended ends the stream because the subscription is over. It runs on the
// group's loop.
func (p *subscribeStream) ended(why perdurepb.Reason, durable string) {
	p.over.Store(true)
	p.out.end(p.server.ending(why, "the subscription of durable "+durable))
}

func (p *subscribeStream) detach() {
	t := p.target
	t.hosted.group.Go(func(cluster.Now) { t.hosted.service.Detach(p.sub.ID) })
}

// receive carries what the client says to the group's loop, and returns why the
// stream ends.
func (p *subscribeStream) receive(ctx context.Context) error {
	for {
		m, err := p.stream.Recv()
		if err != nil && !errors.Is(err, io.EOF) {
			return receiveFault(err)
		}
		p.pulse.beat()
		if err != nil || m.GetClose() {
			return p.finish(ctx)
		}
		if err := p.take(ctx, m); err != nil {
			return err
		}
	}
}

// finish gives back what the client has not settled, at once, and waits until
// everything that it settled was answered.
func (p *subscribeStream) finish(ctx context.Context) error {
	p.over.Store(true)
	p.detach()
	return p.pulse.settled(ctx, p.window)
}

func (p *subscribeStream) take(ctx context.Context, m *perdurepb.SubscribeRequest) error {
	switch {
	case m.GetOpen() != nil:
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "this subscribe stream is open already")
	case m.GetSettle() == nil && m.GetCredit() == nil:
		return nil
	}
	settlement, err := p.settlement(m.GetSettle())
	if err != nil {
		return err
	}
	if settlement.Done != nil {
		if err := p.pulse.owe(ctx, p.window); err != nil {
			return err
		}
	}
	err = p.pulse.hold(func() error {
		select {
		case p.posted <- struct{}{}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.target.hosted.group.Done():
			return cluster.ErrStopped
		}
	})
	if err != nil {
		return err
	}
	svc, settles, c := p.target.hosted.service, m.GetSettle() != nil, m.GetCredit()
	p.target.hosted.group.Go(func(now cluster.Now) {
		<-p.posted
		if settles {
			svc.Settle(p.sub.ID, settlement, now)
		}
		if c != nil {
			svc.Grant(p.sub.ID, dispatch.Credit{Messages: c.GetMessages(), Bytes: min(c.GetBytes(), maxCreditBytes)})
		}
	})
	return nil
}

// settlement checks and translates what a client says about deliveries.
func (p *subscribeStream) settlement(m *perdurepb.Settle) (service.Settlement, error) {
	s := service.Settlement{Now: m.GetNow()}
	bad := func(format string, args ...any) (service.Settlement, error) {
		return service.Settlement{}, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, format, args...)
	}
	if len(m.GetAcks())%2 != 0 {
		return bad("acks has %d ids; ranges are a first and a last each", len(m.GetAcks()))
	}
	if n := len(m.GetAcks())/2 + len(m.GetNacks()); n > maxSettled {
		return bad("a frame settles %d ranges, at most %d; send several frames", n, maxSettled)
	}
	if n := len(m.GetAcks()) / 2; n > 0 {
		s.Acks = make([]service.Range, 0, n)
	}
	for r := range slices.Chunk(m.GetAcks(), 2) {
		if r[0] > r[1] || r[0] == 0 {
			return bad("acks from %d to %d is no range", r[0], r[1])
		}
		s.Acks = append(s.Acks, service.Range{First: message.ID(r[0]), Last: message.ID(r[1])})
	}
	for _, n := range m.GetNacks() {
		if n.GetFirst() > n.GetLast() || n.GetFirst() == 0 || n.GetDelayMs() > maxNackDelay {
			return bad("nack from %d to %d after %d ms is none", n.GetFirst(), n.GetLast(), n.GetDelayMs())
		}
		s.Nacks = append(s.Nacks, service.Nack{
			Range: service.Range{First: message.ID(n.GetFirst()), Last: message.ID(n.GetLast())}, Delay: int64(n.GetDelayMs()) * 1e6,
		})
	}
	if token := m.GetToken(); token != 0 {
		s.Done = func(owner, lost bool) { p.answer(token, owner, lost) }
	}
	return s, nil
}

// answer says what a settlement came to. It runs in a turn of the group.
func (p *subscribeStream) answer(token uint64, owner, lost bool) {
	a := &perdurepb.Settled{Token: token}
	switch {
	case lost:
		a.Error = faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "leadership was lost before the acknowledgement was applied").proto()
	case !owner:
		a.Error = faultf(perdurepb.Reason_REASON_NOT_OWNER, "another subscriber has some of these messages; the rest was settled").proto()
	}
	p.out.put(delivered{settled: a})
}
