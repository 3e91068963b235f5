package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// publishWindow bounds the batches of one stream that are not answered. It is
// twice what a session remembers, so no client needs more.
const publishWindow = 128

// publishStream is one publisher's stream. Batches are proposed as they come;
// Propose blocks when the group has too much waiting, and with it the stream.
type publishStream struct {
	server  *Server
	stream  perdurepb.Messages_PublishServer
	target  *target
	keeping service.Publisher
	session uint64
	last    atomic.Uint64 // sequence up to which the session is known to be stored
	out     *outbox[published]
	window  window
	unsure  atomic.Int64 // batches that were proposed and came to nothing known
	pulse   *pulse

	frame perdurepb.PublishFrame // the receiver's, used again
	view  *catalog.View          // that limit is from; the receiver's
	limit int                    // bytes of one message

	response perdurepb.PublishResponse // the sender's, used again
	outcomes []perdurepb.PublishOutcome
}

// published is what became of a batch.
type published struct {
	sequence uint64
	attempt  uint32
	refused  *fault // why the edge has emptied it
	result   store.Result
}

// Publish implements perdurepb.MessagesServer.
func (s *Server) Publish(stream perdurepb.Messages_PublishServer) error {
	first, err := stream.Recv()
	if err != nil {
		return receiveFault(err)
	}
	open := first.GetOpen()
	if open == nil || len(first.GetBatch()) > 0 {
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the first frame of a publish stream must be open")
	}
	t, err := s.target(open.GetEndpoint(), open.GetStoreId())
	if err != nil {
		return asFault(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	p := &publishStream{
		server: s, stream: stream, target: t, out: newOutbox[published](), window: make(window, publishWindow), pulse: t.pulse(),
	}
	release, err := s.streams.add(p.out.end)
	if err != nil {
		return err
	}
	defer release()
	opened, err := p.open(ctx, open)
	if err != nil {
		return s.asFaultAt(err, t)
	}
	defer p.close()
	if err := stream.Send(&perdurepb.PublishResponse{Opened: opened}); err != nil {
		return err
	}
	s.receive(p.out.end, func() error { return p.receive(ctx) })
	err = converse(ctx, s.spawn, p.out, p.pulse, p.send, func() error {
		return stream.Send(&perdurepb.PublishResponse{Heartbeat: true})
	})
	cancel(err)
	p.close() // before anything that takes time
	return s.streamEnd(stream.Context(), err, t)
}

// open finds or opens the session.
func (p *publishStream) open(ctx context.Context, open *perdurepb.PublishOpen) (*perdurepb.PublishOpened, error) {
	t := p.target
	opened := &perdurepb.PublishOpened{
		StoreId: t.store.ID, Store: t.store.Name, MaxMessageSize: uint64(t.store.MaxMessageSize), Durability: durabilityProto(t.cluster.Durability),
		Noconfirm: t.noconfirm(), HeartbeatMs: uint64(p.pulse.heartbeat.Milliseconds()), TimeoutMs: uint64(p.pulse.timeout.Milliseconds()),
	}
	_, opened.Term = t.hosted.group.Leader()
	var epoch uint16
	if err := t.do(ctx, func(svc *service.Service) { epoch = epochOf(svc, t.store.ID) }); err != nil {
		return nil, err
	}
	opened.Epoch = uint64(epoch)
	if f := t.suspended(); f != nil && opened.Noconfirm {
		return nil, f // nobody would be told what becomes of a batch
	}
	if !opened.Noconfirm {
		p.session = open.GetSession()
		if p.session == 0 {
			r, err := t.propose(ctx, store.AppendOpenSession(nil, t.store.ID, epoch, uint64(time.Now().UnixMicro())))
			if err != nil {
				return nil, err
			}
			p.session = r.Session
		} else if open.GetEpoch() != uint64(epoch) {
			return nil, faultf(perdurepb.Reason_REASON_EPOCH_CHANGED, "session %d is of epoch %d, store %s is in epoch %d: what is unconfirmed may be lost; open a new session", p.session, open.GetEpoch(), t.store.Name, epoch)
		}
	}
	p.keeping = service.Publisher{ID: p.server.nextID(), Session: p.session, Ended: p.unled}
	return opened, p.join(ctx, opened)
}

// join registers the stream with the service, which keeps its session. It asks for
// no quorum: a leader that was deposed and does not know it tells of a session
// what was committed, perhaps not the latest, and can store nothing. A client that
// was told more before, or of a session that this one does not know, gives the
// session up: it says of what was sent that the outcome is unknown, and sends
// none of it again.
func (p *publishStream) join(ctx context.Context, opened *perdurepb.PublishOpened) error {
	t := p.target
	var view store.Session
	var joined error
	known := p.session == 0
	err := t.do(ctx, func(svc *service.Service) {
		if p.session != 0 {
			view, known = svc.Session(p.session)
			known = known && view.Store == t.store.ID
		}
		if known {
			joined = svc.Keep(&p.keeping)
		}
	})
	switch {
	case err != nil:
		return err
	case !known:
		return faultf(perdurepb.Reason_REASON_SESSION_UNKNOWN, "store %s does not know publisher session %d: it expired or was closed; open a new one", t.store.Name, p.session)
	case joined != nil:
		return joined
	}
	p.last.Store(view.Last)
	opened.Session, opened.LastSequence, opened.Attempt = p.session, view.Last, view.Attempt
	if view.Closed {
		opened.Attempt++
	}
	return nil
}

func epochOf(svc *service.Service, id uint64) uint16 {
	if st, ok := svc.Store(id); ok {
		return st.Epoch()
	}
	return 0
}

// unled ends the stream when this server does not lead any more. Of what is on
// its way nobody knows yet.
func (p *publishStream) unled(why perdurepb.Reason) {
	if p.unsure.Load() > 0 {
		why = perdurepb.Reason_REASON_OUTCOME_UNKNOWN
	}
	p.out.end(p.server.ending(why, "publishing to store "+p.target.store.Name))
}

func (p *publishStream) close() {
	p.target.hosted.group.Go(func(cluster.Now) { p.target.hosted.service.Drop(&p.keeping) })
}

// receive proposes what the client sends, and returns why the stream ends.
func (p *publishStream) receive(ctx context.Context) error {
	for {
		err := p.stream.RecvMsg(&p.frame)
		if errors.Is(err, io.EOF) {
			// The client has said everything: it gets its answers.
			return p.pulse.settled(ctx, p.window)
		}
		if err != nil {
			return receiveFault(err)
		}
		p.pulse.beat()
		if err := p.take(ctx, &p.frame); err != nil {
			return err
		}
	}
}

func (p *publishStream) take(ctx context.Context, m *perdurepb.PublishFrame) error {
	switch {
	case m.GetOpen() != nil:
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "this publish stream is open already")
	case len(m.GetBatch()) > 0:
		return p.propose(ctx, m)
	case m.GetHeartbeat():
		return nil
	}
	return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "a frame without batch (sequence %d) is none; send a heartbeat to say nothing", m.GetSequence())
}

// This does not compile if entries cannot be made in the memory of frames.
const _ = uint(perdurepb.BatchFront - cluster.EntryFront - store.PublishHeaderLen)

func (p *publishStream) propose(ctx context.Context, m *perdurepb.PublishFrame) error {
	sequence, attempt, batch := m.GetSequence(), m.GetAttempt(), m.GetBatch()
	memory, release := m.Take()
	refused := p.check(sequence, batch)
	if refused != nil {
		if p.session == 0 {
			return refused
		}
		// The attempt must be closed in the log, after the batches before it: an
		// empty batch does that on every replica.
		batch, memory, release = nil, nil, nil
	}
	t := p.target
	head := store.AppendPublishHeader(make([]byte, 0, store.PublishHeaderLen), t.store.ID, p.session, attempt, sequence)
	proposal := cluster.Proposal[store.Result]{Command: head, Body: batch, Memory: memory, Release: release}
	if err := p.pulse.owe(ctx, p.window); err != nil {
		return err
	}
	if p.session == 0 {
		// Nobody is told what becomes of it: that is what noconfirm means.
		proposal.Done = p.unconfirmed
	} else {
		p.unsure.Add(1)
		proposal.Done = func(r store.Result, err error) {
			p.unsure.Add(-1)
			if err != nil {
				p.out.end(err)
				return
			}
			if r.Code == store.OK {
				p.last.Store(r.Last)
			}
			p.out.put(published{sequence, attempt, refused, r})
		}
	}
	err := p.pulse.hold(func() error { return t.hosted.group.Propose(ctx, proposal) })
	if err != nil && p.session != 0 {
		p.unsure.Add(-1)
	}
	return err
}

func (p *publishStream) unconfirmed(r store.Result, err error) {
	// A client that says that this was all is let go when all has come to its end.
	p.window.paid(1)
	if err != nil || r.Code != store.OK {
		p.server.metrics.dropped.Add(1)
	}
	if err != nil {
		p.out.end(err)
	}
}

// check judges a batch before it enters the log: from then on its checksums hold,
// everything in it decodes, and no message is over the store's limit. What the
// session has stored before is not judged again.
func (p *publishStream) check(sequence uint64, batch []byte) *fault {
	if p.session != 0 && sequence <= p.last.Load() {
		return nil
	}
	if v := p.server.realm.view(); v != p.view {
		p.view, p.limit = v, int(p.target.store.MaxMessageSize)
		if _, st := v.Store(p.target.store.ID); st != nil {
			p.limit = int(st.MaxMessageSize)
		}
	}
	b, err := message.ParseBatch(batch)
	if err != nil {
		return batchFault(sequence, err, perdurepb.Reason_REASON_BATCH_TOO_LARGE)
	}
	if b.HasControl() {
		// The format has room for them; taking them without acting on them would
		// be a false promise.
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "batch %d: time to live, delivery time and key of a message are not supported by this version; leave TTL, DeliverAt and Key unset", sequence)
	}
	if err := b.Validate(p.limit); err != nil {
		return batchFault(sequence, err, perdurepb.Reason_REASON_MESSAGE_TOO_LARGE)
	}
	// The log would refuse it, too, but not before it has been written everywhere.
	return p.target.suspended()
}

func batchFault(sequence uint64, err error, tooLarge perdurepb.Reason) *fault {
	f := asFault(fmt.Errorf("batch %d: %w", sequence, err))
	if errors.Is(err, message.ErrTooLarge) {
		f.reason = tooLarge
	}
	return f
}

// send answers batches. The messages are used again: gRPC has encoded them when
// Send returns.
func (p *publishStream) send(all []published) error {
	if cap(p.outcomes) < len(all) {
		p.outcomes = make([]perdurepb.PublishOutcome, max(len(all), 2*cap(p.outcomes)))
	}
	r := &p.response
	r.Outcomes = r.Outcomes[:0]
	for i := range all {
		o := &p.outcomes[:len(all)][i]
		all[i].outcome(o)
		r.Outcomes = append(r.Outcomes, o)
	}
	if err := p.stream.Send(r); err != nil {
		return err
	}
	p.window.paid(len(all))
	return nil
}

// outcome translates the result of a publish.
func (p *published) outcome(o *perdurepb.PublishOutcome) {
	r := &p.result
	o.Sequence, o.Attempt, o.FirstId, o.Count = p.sequence, p.attempt, uint64(r.First), r.Count
	o.Duplicate, o.Interested, o.Error = r.Duplicate, r.Interested, nil
	if r.Code == store.OK {
		return
	}
	f := resultFault(*r)
	switch {
	case p.refused == nil || r.Code != store.Corrupt:
	case r.Last < p.sequence:
		f = p.refused
	default:
		// An earlier stream of the session had it on its way: what was judged here is
		// stored, and recognised when it comes whole.
		f = faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "batch %d is stored already; send it again on another stream", p.sequence)
	}
	f.last = r.Last
	o.Error = f.proto()
}
