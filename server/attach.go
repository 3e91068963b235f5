package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
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
	// maxCreditBytes is the most that is granted at once.
	maxCreditBytes = 1 << 40
)

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
	credit.Messages = min(credit.Messages, service.MaxCredit)
	if credit.Bytes == 0 {
		credit.Bytes = defaultCreditBytes
	}
	credit.Bytes = min(credit.Bytes, maxCreditBytes)
	p.sub = &service.Subscription{
		ID: p.server.nextID(), Durable: d.id, Process: open.GetProcess(), Name: open.GetName(),
		Deliver: func(d service.Delivery) { p.out.put(delivered{delivery: d}) },
		Ended:   func(why perdurepb.Reason) { p.ended(why, name) },
	}
	lineage, err := p.attach(ctx, d, credit)
	if err != nil {
		return nil, err
	}
	_, term := t.hosted.group.Leader()
	return &perdurepb.SubscribeOpened{
		Subscription: p.sub.ID, DurableId: d.id, Durable: name, Kind: perdurepb.Kind(d.kind), Matcher: d.matcher,
		Term: term, CreditMessages: credit.Messages, CreditBytes: credit.Bytes, Created: created, Store: t.store.Name, Lineage: lineage,
		HeartbeatMs: uint64(p.pulse.heartbeat.Milliseconds()), TimeoutMs: uint64(p.pulse.timeout.Milliseconds()),
	}, nil
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
	if matcher != "" && matcher != orAll(d.matcher) {
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

// attach makes the subscriber known to dispatch, and returns the lineage that the
// durable is of then. On a standard durable the attachment is replicated first, so that
// the newest wins on every leader.
func (p *subscribeStream) attach(ctx context.Context, d durableInfo, credit dispatch.Credit) (lineage uint64, err error) {
	t := p.target
	var attachErr error
	attach := func(svc *service.Service) { lineage, attachErr = p.lineage(svc, d.id), svc.Attach(p.sub, credit) }
	if d.kind == durable.KindStandard {
		taken := false
		if err := t.do(ctx, func(svc *service.Service) { taken = svc.Subscribed(d.id, p.sub.Process) }); err != nil {
			return 0, err
		}
		if taken {
			return 0, faultf(perdurepb.Reason_REASON_ALREADY_SUBSCRIBED, "this client subscribes durable %s already, and a standard durable has one subscriber; close the other", d.name)
		}
		r, err := t.propose(ctx, store.AppendAttach(nil, d.id, p.sub.Process, p.sub.ID))
		if err != nil {
			return 0, err
		}
		p.sub.Attach = r.Attach
	}
	if err := t.do(ctx, attach); err != nil {
		return 0, err
	}
	return lineage, attachErr
}

// lineage names the history in which the durable's ids have their meaning. Every
// server says the same of it. A cluster that was lost and formed anew has another, since
// its realm has, and so has one that a saved state was loaded into: a store that goes
// on from the file, in the file's epoch, gives ids again that it had given after the
// file was saved. A load into one store changes it for the others of the cluster, too.
func (p *subscribeStream) lineage(svc *service.Service, durable uint64) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "perdure lineage %x %d %d %016x %d", p.server.realm.realmID(), p.target.cluster.ID, durable,
		svc.LastLoad(), epochOf(svc, p.target.store.ID))
	return max(1, binary.LittleEndian.Uint64(h.Sum(nil)))
}
