package server

import (
	"context"
	"errors"
	"io"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// publishStream is one publisher's stream. Batches are proposed as they come;
// Propose blocks when the group has too much waiting, and with it the stream.
type publishStream struct {
	server  *Server
	stream  perdurepb.Messages_PublishServer
	target  *target
	session uint64
	out     *outbox[*perdurepb.PublishOutcome]
	pulse   *pulse
}

// Publish implements perdurepb.MessagesServer.
func (s *Server) Publish(stream perdurepb.Messages_PublishServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the first frame of a publish stream must be open")
	}
	t, err := s.target(open.GetEndpoint(), open.GetStoreId())
	if err != nil {
		return asFault(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	p := &publishStream{server: s, stream: stream, target: t, out: newOutbox[*perdurepb.PublishOutcome](), pulse: t.pulse()}
	opened, err := p.open(ctx, open)
	if err != nil {
		return s.asFaultAt(err, t)
	}
	defer p.close()
	if err := stream.Send(&perdurepb.PublishResponse{Opened: opened}); err != nil {
		return err
	}
	release := s.streams.add(p.out.end)
	defer release()
	go p.receive(ctx)
	err = pump(ctx, p.out, p.pulse, p.send, func() error {
		return stream.Send(&perdurepb.PublishResponse{Heartbeat: true})
	})
	cancel(err)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return s.asFaultAt(err, t)
}

// open finds or opens the session.
func (p *publishStream) open(ctx context.Context, open *perdurepb.PublishOpen) (*perdurepb.PublishOpened, error) {
	t := p.target
	opened := &perdurepb.PublishOpened{
		StoreId: t.store.ID, Store: t.store.Name, MaxMessageSize: uint64(t.store.MaxMessageSize), Durability: durabilityProto(t.cluster.Durability),
		Noconfirm: t.noconfirm(), HeartbeatMs: uint64(p.pulse.heartbeat.Milliseconds()), TimeoutMs: uint64(p.pulse.timeout.Milliseconds()),
	}
	_, opened.Term = t.hosted.group.Leader()
	if opened.Noconfirm {
		return opened, nil
	}
	p.session = open.GetSession()
	if p.session == 0 {
		var epoch uint16
		if err := t.do(ctx, func(svc *service.Service) { epoch = epochOf(svc, t.store.ID) }); err != nil {
			return nil, err
		}
		r, err := t.propose(ctx, store.AppendOpenSession(nil, t.store.ID, epoch))
		if err != nil {
			return nil, err
		}
		p.session = r.Session
	}
	var view store.Session
	known := false
	err := t.do(ctx, func(svc *service.Service) {
		if view, known = svc.Session(p.session); known && view.Store == t.store.ID {
			svc.Keep(p.session)
			opened.Epoch = uint64(epochOf(svc, t.store.ID))
		} else {
			known = false
		}
	})
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, faultf(perdurepb.Reason_REASON_SESSION_UNKNOWN, "store %s does not know publisher session %d: it expired or was closed; open a new one", t.store.Name, p.session)
	}
	opened.Session, opened.LastSequence, opened.Attempt = p.session, view.Last, view.Attempt
	if view.Closed {
		opened.Attempt++
	}
	return opened, nil
}

func epochOf(svc *service.Service, id uint64) uint16 {
	if st, ok := svc.Store(id); ok {
		return st.Epoch()
	}
	return 0
}

func (p *publishStream) close() {
	if p.session != 0 {
		p.target.hosted.group.Go(func(cluster.Now) { p.target.hosted.service.Drop(p.session) })
	}
}

// receive proposes what the client sends until the stream ends.
func (p *publishStream) receive(ctx context.Context) {
	for {
		m, err := p.stream.Recv()
		if err != nil {
			p.out.end(err)
			return
		}
		p.pulse.beat()
		if len(m.GetBatch()) == 0 {
			continue
		}
		if err := p.propose(ctx, m); err != nil {
			p.out.end(err)
			return
		}
	}
}

func (p *publishStream) propose(ctx context.Context, m *perdurepb.PublishRequest) error {
	if n := len(m.GetBatch()); n > message.HardMaxMessageSize+maxBatchOverhead {
		return faultf(perdurepb.Reason_REASON_BATCH_TOO_LARGE, "a batch of %d bytes; at most %d", n, message.HardMaxMessageSize+maxBatchOverhead)
	}
	t, sequence, attempt := p.target, m.GetSequence(), m.GetAttempt()
	command := make([]byte, 0, store.PublishHeaderLen+len(m.GetBatch()))
	command = store.AppendPublish(command, t.store.ID, p.session, attempt, sequence, m.GetBatch())
	proposal := cluster.Proposal[store.Result]{Command: command}
	if p.session == 0 {
		// Nobody is told what becomes of it: that is what noconfirm means.
		proposal.Done = func(r store.Result, err error) {
			if err != nil || r.Code != store.OK {
				p.server.metrics.dropped.Add(1)
			}
			if err != nil {
				p.out.end(err)
			}
		}
	} else {
		proposal.Done = func(r store.Result, err error) {
			if err != nil {
				p.out.end(err)
				return
			}
			p.out.put(outcome(sequence, attempt, r))
		}
	}
	return t.hosted.group.Propose(ctx, proposal)
}

func (p *publishStream) send(outcomes []*perdurepb.PublishOutcome) error {
	return p.stream.Send(&perdurepb.PublishResponse{Outcomes: outcomes})
}

// maxBatchOverhead is what a batch of one message may be larger than the
// message: header, directory, dictionary.
const maxBatchOverhead = 1 << 20

// outcome translates the result of a publish.
func outcome(sequence uint64, attempt uint32, r store.Result) *perdurepb.PublishOutcome {
	o := &perdurepb.PublishOutcome{
		Sequence: sequence, Attempt: attempt, FirstId: uint64(r.First), Count: r.Count,
		Duplicate: r.Duplicate, Interested: r.Interested,
	}
	if r.Code != store.OK {
		f := resultFault(r)
		f.last = r.Last
		o.Error = f.proto()
	}
	return o
}
