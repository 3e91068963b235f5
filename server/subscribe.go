package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

const (
	// defaultCreditBytes is what a subscriber may have outstanding that does not
	// say. One message always passes.
	defaultCreditBytes = 16 << 20
	// maxCreditMessages bounds what a subscriber may ask for, and with it what
	// waits in its outbox.
	maxCreditMessages = 1 << 20
	// maxPosted bounds the frames of one client that wait for the group's loop.
	maxPosted = 64
)

// delivered is what goes out on a subscribe stream: a delivery, or the answer to
// a settlement.
type delivered struct {
	delivery service.Delivery
	settled  *perdurepb.Settled
}

// durableInfo is what a subscriber must know of a durable. It was copied on the
// group's loop.
type durableInfo struct {
	id       uint64
	name     string
	kind     durable.Kind
	matcher  string
	prefetch uint32
}

func realmKind(k durable.Kind) realm.Kind {
	if k == durable.KindShared {
		return realm.Shared
	}
	return realm.Standard
}

type subscribeStream struct {
	server *Server
	stream perdurepb.Messages_SubscribeServer
	target *target
	sub    *service.Subscription
	out    *outbox[delivered]
	pulse  *pulse
	posted chan struct{}
	at     []int
}

// Subscribe implements perdurepb.MessagesServer.
func (s *Server) Subscribe(stream perdurepb.Messages_SubscribeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
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
	p := &subscribeStream{server: s, stream: stream, target: t, out: newOutbox[delivered](), pulse: t.pulse(), posted: make(chan struct{}, maxPosted)}
	opened, err := p.open(ctx, open)
	if err != nil {
		return s.asFaultAt(err, t)
	}
	defer p.detach()
	if err := stream.Send(&perdurepb.SubscribeResponse{Opened: opened}); err != nil {
		return err
	}
	release := s.streams.add(p.out.end)
	defer release()
	go p.receive(ctx)
	err = pump(ctx, p.out, p.pulse, p.send, func() error {
		return stream.Send(&perdurepb.SubscribeResponse{Heartbeat: true})
	})
	cancel(err)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return s.asFaultAt(err, t)
}

// open finds or creates the durable and attaches the subscriber to it.
func (p *subscribeStream) open(ctx context.Context, open *perdurepb.SubscribeOpen) (*perdurepb.SubscribeOpened, error) {
	t := p.target
	name, mayCreate, err := durableName(t.endpoint, open)
	if err != nil {
		return nil, err
	}
	d, created, err := p.durable(ctx, open, name, mayCreate)
	if err != nil {
		return nil, err
	}
	credit := dispatch.Credit{Messages: open.GetCreditMessages(), Bytes: open.GetCreditBytes()}
	if credit.Messages == 0 {
		credit.Messages = uint64(d.prefetch)
	}
	credit.Messages = min(credit.Messages, maxCreditMessages)
	if credit.Bytes == 0 {
		credit.Bytes = defaultCreditBytes
	}
	p.sub = &service.Subscription{
		ID: p.server.nextID(), Durable: d.id, Process: open.GetProcess(), Name: open.GetName(),
		Deliver: func(d service.Delivery) { p.out.put(delivered{delivery: d}) },
		Ended: func(why perdurepb.Reason) {
			p.out.end(faultf(why, "the subscription of durable %s ended: %s", name, endings[why]))
		},
	}
	if err := p.attach(ctx, d, credit); err != nil {
		return nil, err
	}
	_, term := t.hosted.group.Leader()
	return &perdurepb.SubscribeOpened{
		Subscription: p.sub.ID, DurableId: d.id, Durable: name, Kind: perdurepb.Kind(d.kind), Matcher: d.matcher,
		Term: term, CreditMessages: credit.Messages, CreditBytes: credit.Bytes, Created: created, Store: t.store.Name,
		HeartbeatMs: uint64(p.pulse.heartbeat.Milliseconds()), TimeoutMs: uint64(p.pulse.timeout.Milliseconds()),
	}, nil
}

var endings = map[perdurepb.Reason]string{
	perdurepb.Reason_REASON_NOT_LEADER:      "this server does not lead any more",
	perdurepb.Reason_REASON_FORCE_CLOSED:    "a newer subscriber took the durable",
	perdurepb.Reason_REASON_DURABLE_DELETED: "the durable was deleted",
}

// durableName says which durable a subscriber means: by name, by what the
// endpoint maps its subscriber name to, or the endpoint's default.
func durableName(e *catalog.EndpointView, open *perdurepb.SubscribeOpen) (name string, mayCreate bool, err error) {
	switch {
	case open.GetDurable() != "":
		if err := message.ValidName(open.GetDurable()); err != nil {
			return "", false, fmt.Errorf("durable name: %w", err)
		}
		return open.GetDurable(), true, nil
	case open.GetSubscriber() != "":
		if d, ok := e.Subscribers[open.GetSubscriber()]; ok {
			return d, false, nil
		}
		return "", false, faultf(perdurepb.Reason_REASON_NO_SUCH_DURABLE, "endpoint %s maps no subscriber %q to a durable; add it under subscribers, or name a durable", e.Name, open.GetSubscriber())
	case e.DefaultDurable != "":
		return e.DefaultDurable, false, nil
	}
	return "", false, faultf(perdurepb.Reason_REASON_NO_SUCH_DURABLE, "endpoint %s has no default durable; name a durable", e.Name)
}

// durable returns the durable of that name as it is, or creates it from the
// endpoint's template of the kind that is asked for.
func (p *subscribeStream) durable(ctx context.Context, open *perdurepb.SubscribeOpen, name string, mayCreate bool) (d durableInfo, created bool, err error) {
	t := p.target
	matcher := ""
	if open.GetMatcher() != "" {
		m, err := message.ParseMatcher(open.GetMatcher())
		if err != nil {
			return d, false, err
		}
		matcher = m.String()
	}
	if !slices.Contains([]perdurepb.Kind{perdurepb.Kind_KIND_UNSPECIFIED, perdurepb.Kind_KIND_STANDARD, perdurepb.Kind_KIND_SHARED}, open.GetKind()) {
		return d, false, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "kind %d is not known", open.GetKind())
	}
	found := false
	look := func(svc *service.Service) {
		var v store.Durable
		if v, found = svc.DurableByName(t.store.ID, name); found {
			d = durableInfo{v.ID(), v.Name(), v.Kind(), v.Matcher(), v.Prefetch()}
		}
	}
	if err := t.do(ctx, look); err != nil {
		return d, false, err
	}
	if !found {
		if !mayCreate {
			return d, false, faultf(perdurepb.Reason_REASON_NO_SUCH_DURABLE, "store %s has no durable %s yet", t.store.Name, name)
		}
		kind := durable.Kind(max(open.GetKind(), perdurepb.Kind_KIND_STANDARD))
		template, ok := t.endpoint.Template(realmKind(kind))
		if !ok {
			return d, false, faultf(perdurepb.Reason_REASON_NO_TEMPLATE, "durable %s does not exist, and endpoint %s has no template to make a %v one; add one under templates, or create the durable in the realm", name, t.endpoint.Name, kind)
		}
		r, err := t.propose(ctx, store.AppendCreateDurable(nil, &statepb.CreateDurable{
			Store: t.store.ID, Name: name, Kind: uint32(kind), Matcher: matcher, Prefetch: uint32(template.Prefetch), Template: template.Name,
		}))
		if err != nil {
			return d, false, err
		}
		created = r.Created
		if err := t.do(ctx, look); err != nil {
			return d, false, err
		}
		if !found {
			return d, false, faultf(perdurepb.Reason_REASON_NO_SUCH_DURABLE, "durable %s was deleted meanwhile", name)
		}
	}
	if k := open.GetKind(); k != perdurepb.Kind_KIND_UNSPECIFIED && durable.Kind(k) != d.kind {
		return d, false, faultf(perdurepb.Reason_REASON_KIND_MISMATCH, "durable %s is %v, not %v; ask for its kind, or use another name", name, d.kind, durable.Kind(k))
	}
	if matcher != "" && matcher != d.matcher {
		return d, false, faultf(perdurepb.Reason_REASON_MATCHER_MISMATCH, "durable %s has the matcher %s, not %s; it cannot be changed: give the same or none, or use another name", name, orAll(d.matcher), matcher)
	}
	return d, created, nil
}

func orAll(matcher string) string {
	if matcher == "" {
		return "{}"
	}
	return matcher
}

// attach makes the subscriber known to dispatch. On a standard durable the
// attachment is replicated first, so that the newest wins on every leader.
func (p *subscribeStream) attach(ctx context.Context, d durableInfo, credit dispatch.Credit) error {
	t := p.target
	var attachErr error
	attach := func(svc *service.Service) { attachErr = svc.Attach(p.sub, credit) }
	if d.kind == durable.KindStandard {
		taken := false
		if err := t.do(ctx, func(svc *service.Service) { taken = svc.Subscribed(d.id, p.sub.Process) }); err != nil {
			return err
		}
		if taken {
			return faultf(perdurepb.Reason_REASON_ALREADY_SUBSCRIBED, "this client subscribes durable %s already, and a standard durable has one subscriber; close the other", d.name)
		}
		r, err := t.propose(ctx, store.AppendAttach(nil, d.id, p.sub.Process, p.sub.ID))
		if err != nil {
			return err
		}
		p.sub.Attach = r.Attach
	}
	if err := t.do(ctx, attach); err != nil {
		return err
	}
	if errors.Is(attachErr, service.ErrForceClosed) {
		return faultf(perdurepb.Reason_REASON_FORCE_CLOSED, "a newer subscriber took durable %s", d.name)
	}
	return attachErr
}

func (p *subscribeStream) detach() {
	t := p.target
	t.hosted.group.Go(func(cluster.Now) { t.hosted.service.Detach(p.sub.ID) })
}

// receive carries what the client says to the group's loop.
func (p *subscribeStream) receive(ctx context.Context) {
	for {
		m, err := p.stream.Recv()
		if err != nil {
			p.out.end(err)
			return
		}
		p.pulse.beat()
		if m.GetClose() {
			p.out.end(io.EOF)
			return
		}
		if err := p.take(ctx, m); err != nil {
			p.out.end(err)
			return
		}
	}
}

func (p *subscribeStream) take(ctx context.Context, m *perdurepb.SubscribeRequest) error {
	if m.GetSettle() == nil && m.GetCredit() == nil {
		return nil
	}
	settlement, err := p.settlement(m.GetSettle())
	if err != nil {
		return err
	}
	select {
	case p.posted <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.target.hosted.group.Done():
		return cluster.ErrStopped
	}
	svc, c := p.target.hosted.service, m.GetCredit()
	p.target.hosted.group.Go(func(now cluster.Now) {
		<-p.posted
		if m.GetSettle() != nil {
			svc.Settle(p.sub.ID, settlement, now)
		}
		if c != nil {
			svc.Grant(p.sub.ID, dispatch.Credit{Messages: min(c.GetMessages(), maxCreditMessages), Bytes: c.GetBytes()})
		}
	})
	return nil
}

// settlement checks and translates what a client says about deliveries.
func (p *subscribeStream) settlement(m *perdurepb.Settle) (service.Settlement, error) {
	var s service.Settlement
	if len(m.GetAcks())%2 != 0 {
		return s, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "acks has %d ids; ranges are a first and a last each", len(m.GetAcks()))
	}
	for r := range slices.Chunk(m.GetAcks(), 2) {
		if r[0] > r[1] || r[0] == 0 {
			return s, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "acks from %d to %d is no range", r[0], r[1])
		}
		s.Acks = append(s.Acks, service.Range{First: message.ID(r[0]), Last: message.ID(r[1])})
	}
	for _, n := range m.GetNacks() {
		if n.GetFirst() > n.GetLast() || n.GetFirst() == 0 || n.GetDelayMs() > maxNackDelay {
			return s, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "nack from %d to %d after %d ms is none", n.GetFirst(), n.GetLast(), n.GetDelayMs())
		}
		s.Nacks = append(s.Nacks, service.Nack{
			Range: service.Range{First: message.ID(n.GetFirst()), Last: message.ID(n.GetLast())}, Delay: int64(n.GetDelayMs()) * 1e6,
		})
	}
	if token := m.GetToken(); token != 0 {
		s.Done = func(owner, lost bool) {
			answer := &perdurepb.Settled{Token: token}
			switch {
			case lost:
				answer.Error = faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "leadership was lost before the acknowledgement was applied").proto()
			case !owner:
				answer.Error = faultf(perdurepb.Reason_REASON_NOT_OWNER, "another subscriber has some of these messages; the rest was settled").proto()
			}
			p.out.put(delivered{settled: answer})
		}
	}
	return s, nil
}

// maxNackDelay is a year, in milliseconds.
const maxNackDelay = 365 * 24 * 3600 * 1000

func (p *subscribeStream) send(items []delivered) error {
	for i := range items {
		if items[i].settled != nil {
			if err := p.stream.Send(&perdurepb.SubscribeResponse{Settled: items[i].settled}); err != nil {
				return err
			}
			continue
		}
		if err := p.deliver(&items[i].delivery); err != nil {
			return err
		}
	}
	return nil
}

// deliver reads the bodies and sends them: a whole batch as it is stored, or
// what is owed of it cut out.
func (p *subscribeStream) deliver(d *service.Delivery) error {
	data, err := p.target.hosted.group.Log().Command(d.Batch.Index)
	if errors.Is(err, cluster.ErrCollected) {
		// Settled meanwhile: the credit goes back.
		p.target.hosted.group.Go(func(cluster.Now) {
			p.target.hosted.service.Grant(p.sub.ID, dispatch.Credit{Messages: d.Messages(), Bytes: d.Bytes})
		})
		return nil
	}
	if err != nil {
		return err
	}
	from, to := uint64(d.Batch.Offset), uint64(d.Batch.Offset)+uint64(d.Batch.Bytes)
	if to > uint64(len(data)) {
		return faultf(perdurepb.Reason_REASON_CORRUPT, "entry %d has %d bytes, its batch ends at %d", d.Batch.Index, len(data), to)
	}
	r := &perdurepb.SubscribeResponse{Delivery: &perdurepb.Delivery{Stamp: d.Batch.Stamp, Bytes: d.Bytes}, Batch: data[from:to:to]}
	if d.Ranges == nil {
		r.Delivery.Ids = []uint64{uint64(d.Batch.First), uint64(d.Batch.Last())}
	} else if err := p.cut(d, r); err != nil {
		return err
	}
	for _, c := range d.Counts {
		r.Delivery.Counted = append(r.Delivery.Counted, position(d, c.ID))
		r.Delivery.Ended = append(r.Delivery.Ended, c.Ended)
		r.Delivery.Possible = append(r.Delivery.Possible, c.Possible)
	}
	return p.stream.Send(r)
}

func (p *subscribeStream) cut(d *service.Delivery, r *perdurepb.SubscribeResponse) error {
	batch, err := message.ParseBatch(r.Batch)
	if err != nil {
		return err
	}
	p.at = p.at[:0]
	for _, run := range d.Ranges {
		r.Delivery.Ids = append(r.Delivery.Ids, uint64(run.First), uint64(run.Last))
		for id := run.First; id <= run.Last; id++ {
			p.at = append(p.at, int(id-d.Batch.First))
		}
	}
	// The stream may still hold the bytes that were sent last, so each delivery
	// has its own.
	r.Batch, err = batch.AppendSelection(nil, p.at)
	return err
}

// position is where a message is in what is sent.
func position(d *service.Delivery, id message.ID) uint32 {
	if d.Ranges == nil {
		return uint32(id - d.Batch.First)
	}
	at := uint32(0)
	for _, r := range d.Ranges {
		if id <= r.Last {
			return at + uint32(id-r.First)
		}
		at += uint32(r.Last-r.First) + 1
	}
	return at
}
