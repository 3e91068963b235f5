package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// hosted is one persistence service on this server: a replica of its cluster's
// group. group and service are nil while it does not run.
type hosted struct {
	cluster    uint64 // id
	replica    uint64
	name       string // of the service
	tuning     realm.Tuning
	copy       uint64 // its number in the log engine
	durability realm.Durability
	group      *cluster.Group[store.Result]
	service    *service.Service
	revision   *atomic.Uint64 // of the definition that its state is known to have
	suspended  *atomic.Bool   // the cluster is, by its state
	err        error          // why it does not run
	was        error          // the same, when it was tried before
	waiting    string         // what it waits for
}

func (h *hosted) running() bool { return h.group != nil && h.group.Err() == nil }

// target is where a client's request goes: the endpoint, and the service on this
// server that leads its store's cluster.
type target struct {
	endpoint *catalog.EndpointView
	cluster  *catalog.ClusterView
	store    *catalog.StoreView
	hosted   *hosted
}

// resolve finds an endpoint and what it maps to.
func (s *Server) resolve(endpoint string) (*target, error) {
	if err := s.forming(); err != nil {
		return nil, err
	}
	v := s.realm.view()
	if v.Revision == 0 {
		// Clients wait: servers that were made anew have none until the operator applies it.
		return nil, faultf(perdurepb.Reason_REASON_REALM_FORMING, "there is no realm definition yet; apply one with perdure realm apply FILE")
	}
	e, ok := v.Endpoints[endpoint]
	if !ok {
		if err := message.ValidName(endpoint); err != nil {
			return nil, fmt.Errorf("endpoint: %w", err)
		}
		return nil, faultf(perdurepb.Reason_REASON_NO_SUCH_ENDPOINT, "no endpoint %q in realm %s revision %d%s", endpoint, v.Realm.Name, v.Revision, suggestEndpoint(v, endpoint))
	}
	c, st := v.Store(e.StoreID)
	if st == nil {
		return nil, faultf(perdurepb.Reason_REASON_NO_SUCH_STORE, "endpoint %s maps to store %s, which does not exist", endpoint, e.Store)
	}
	return &target{endpoint: &e, cluster: c, store: st}, nil
}

func suggestEndpoint(v *catalog.View, endpoint string) string {
	names := make([]string, 0, len(v.Realm.Endpoints))
	for _, e := range v.Realm.Endpoints {
		names = append(names, e.Name)
	}
	return suggest(endpoint, names)
}

// target resolves an endpoint for a stream, which only the leader serves.
func (s *Server) target(endpoint string, store uint64) (*target, error) {
	if s.stopping() {
		return nil, faultf(perdurepb.Reason_REASON_STOPPING, "server %s is stopping; reconnect to another", s.config.Name)
	}
	t, err := s.resolve(endpoint)
	if err != nil {
		return nil, err
	}
	if store != 0 && store != t.store.ID {
		return nil, faultf(perdurepb.Reason_REASON_NO_SUCH_STORE, "endpoint %s maps to store %s (id %d), no more to id %d", endpoint, t.store.Name, t.store.ID, store)
	}
	for _, h := range s.reconciler.of(t.cluster.ID) {
		if h.running() && h.group.Leads() {
			if f := s.startLoads.refuses(t.cluster); f != nil {
				return nil, f
			}
			t.hosted = h
			return t, nil
		}
	}
	return nil, s.notLeader(t)
}

// notLeader says who leads the cluster, if this server knows.
func (s *Server) notLeader(t *target) *fault {
	leader := s.leader(t.cluster)
	if leader == nil {
		for _, h := range s.reconciler.of(t.cluster.ID) {
			if errors.Is(h.err, cluster.ErrMayHaveForgotten) {
				return faultf(perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN, "service %s of cluster %s takes no part, and server %s knows no leader: %v; it must be replaced; ask another server", h.name, t.cluster.Name, s.config.Name, h.err)
			}
		}
		return faultf(perdurepb.Reason_REASON_NO_LEADER, "cluster %s has no leader that server %s knows of; try again, or another server", t.cluster.Name, s.config.Name)
	}
	f := faultf(perdurepb.Reason_REASON_NOT_LEADER, "server %s does not lead cluster %s; %s does", s.config.Name, t.cluster.Name, leader.Server)
	f.leader = leader
	return f
}

// leader returns where the leader of a cluster takes clients, nil if no replica
// here knows one.
func (s *Server) leader(c *catalog.ClusterView) *perdurepb.Leader {
	v := s.realm.view()
	for _, h := range s.reconciler.of(c.ID) {
		if !h.running() {
			continue
		}
		if id, _ := h.group.Leader(); id != 0 {
			if srv, ok := v.ServerByID(id); ok && srv.Client != "" {
				return &perdurepb.Leader{Server: srv.Name, Address: srv.Client}
			}
		}
	}
	return nil
}

// How long a stream waits for the next leader, which it names when it ends: its
// client would only have to ask around. After leadership was handed over there
// is one for sure.
const (
	hintPatience     = 250 * time.Millisecond
	handOverPatience = time.Second
	hintEvery        = 5 * time.Millisecond
)

// asFaultAt gives an error of a stream its reason, and a leader hint where the
// leader is the answer.
func (s *Server) asFaultAt(err error, t *target) error {
	f := asFault(err)
	switch f.reason {
	case perdurepb.Reason_REASON_INTERNAL, perdurepb.Reason_REASON_CORRUPT:
		s.logger.Error("stream failed", "cluster", t.cluster.Name, "store", t.store.Name, "err", err)
	}
	return s.hinted(f, t.cluster)
}

// hinted returns f with a leader hint where the leader is the answer.
func (s *Server) hinted(f *fault, c *catalog.ClusterView) *fault {
	switch f.reason {
	case perdurepb.Reason_REASON_NOT_LEADER, perdurepb.Reason_REASON_OUTCOME_UNKNOWN, perdurepb.Reason_REASON_STOPPING:
		if f.leader == nil {
			copied := *f
			copied.leader = s.nextLeader(c)
			return &copied
		}
	}
	return f
}

// nextLeader returns the leader of a cluster if it is, or soon comes to be,
// another server. The replica here hears of it within a round trip of the
// election; nobody is told, so it is asked every few milliseconds.
func (s *Server) nextLeader(c *catalog.ClusterView) *perdurepb.Leader {
	if len(c.Services) < 2 {
		return nil
	}
	patience := hintPatience
	if s.stopping() {
		patience = handOverPatience
	}
	for end := time.Now().Add(patience); ; {
		if l := s.leader(c); l != nil && l.Server != s.config.Name {
			return l
		}
		if !time.Now().Before(end) {
			return nil
		}
		time.Sleep(hintEvery)
	}
}

func (t *target) noconfirm() bool { return t.store.PublisherMode == realm.NoConfirm }

func (t *target) pulse() *pulse {
	return newPulse(t.cluster.Tuning.ClientHeartbeat, t.cluster.Tuning.ClientTimeout)
}

// proposeTimeout bounds rare commands that a client waits for.
const proposeTimeout = 10 * time.Second

// propose replicates a rare command and returns its result. A result that is not
// OK is an error.
func (t *target) propose(ctx context.Context, command []byte) (store.Result, error) {
	r, err := propose(ctx, t.hosted.group, command)
	if err != nil {
		return r, err
	}
	if r.Code != store.OK {
		return r, resultFault(r)
	}
	return r, nil
}

// propose replicates a command and waits for its result.
func propose[R any](ctx context.Context, g *cluster.Group[R], command []byte) (R, error) {
	o := proposeAll(ctx, g, [][]byte{command})[0]
	return o.result, o.err
}

// outcome is what became of a proposal.
type outcome[R any] struct {
	result R
	err    error
}

// proposeAll replicates commands together and waits for all results.
func proposeAll[R any](ctx context.Context, g *cluster.Group[R], commands [][]byte) []outcome[R] {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	outcomes := make([]outcome[R], len(commands))
	ended := make([]chan outcome[R], len(commands))
	for i, c := range commands {
		done := make(chan outcome[R], 1)
		ended[i] = done
		err := g.Propose(ctx, cluster.Proposal[R]{Command: c, Done: func(r R, err error) { done <- outcome[R]{r, err} }})
		if err != nil && ctx.Err() != nil {
			err = faultf(perdurepb.Reason_REASON_OVERLOADED, "the queue of the cluster was full all the time: %v; try later", err)
		}
		if err != nil {
			done <- outcome[R]{err: err}
		}
	}
	for i, done := range ended {
		select {
		case outcomes[i] = <-done:
		case <-ctx.Done():
			select {
			case outcomes[i] = <-done: // it is known all the same
			default:
				outcomes[i].err = fmt.Errorf("%w: %w", cluster.ErrUnknownOutcome, context.Cause(ctx))
			}
		}
	}
	return outcomes
}

// do runs f on the loop of the leading service.
func (t *target) do(ctx context.Context, f func(*service.Service)) error {
	return t.hosted.group.Do(ctx, func(cluster.Now) { f(t.hosted.service) })
}

// resultFault translates what a command came to.
func resultFault(r store.Result) *fault {
	reason, ok := resultReasons[r.Code]
	if !ok {
		reason = perdurepb.Reason_REASON_INTERNAL
	}
	text := r.Code.String()
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return &fault{reason: reason, text: text, last: r.Last}
}

var resultReasons = map[store.Code]perdurepb.Reason{
	store.Invalid:          perdurepb.Reason_REASON_INVALID_ARGUMENT,
	store.NoSuchStore:      perdurepb.Reason_REASON_NO_SUCH_STORE,
	store.NoSuchDurable:    perdurepb.Reason_REASON_NO_SUCH_DURABLE,
	store.Corrupt:          perdurepb.Reason_REASON_BATCH_CORRUPT,
	store.StoreFull:        perdurepb.Reason_REASON_STORE_FULL,
	store.SequenceGap:      perdurepb.Reason_REASON_SEQUENCE_GAP,
	store.SequenceReused:   perdurepb.Reason_REASON_SEQUENCE_REUSED,
	store.ReceiptForgotten: perdurepb.Reason_REASON_RECEIPT_FORGOTTEN,
	store.Aborted:          perdurepb.Reason_REASON_ABORTED,
	store.SessionUnknown:   perdurepb.Reason_REASON_SESSION_UNKNOWN,
	store.EpochChanged:     perdurepb.Reason_REASON_EPOCH_CHANGED,
	store.KindMismatch:     perdurepb.Reason_REASON_KIND_MISMATCH,
	store.MatcherMismatch:  perdurepb.Reason_REASON_MATCHER_MISMATCH,
	store.InvalidMatcher:   perdurepb.Reason_REASON_INVALID_MATCHER,
	store.InvalidName:      perdurepb.Reason_REASON_INVALID_NAME,
	store.DurableLimit:     perdurepb.Reason_REASON_STORE_FULL,
	store.Detached:         perdurepb.Reason_REASON_FORCE_CLOSED,
	store.Suspended:        perdurepb.Reason_REASON_SUSPENDED,
	store.Loading:          perdurepb.Reason_REASON_LOADING,
	store.NotSuspended:     perdurepb.Reason_REASON_NOT_SUSPENDED,
	store.NoSuchLoad:       perdurepb.Reason_REASON_NO_SUCH_LOAD,
	store.NotEmpty:         perdurepb.Reason_REASON_NOT_EMPTY,
	store.LoadRefused:      perdurepb.Reason_REASON_LOAD_REFUSED,
}

func durabilityProto(d realm.Durability) perdurepb.Durability {
	switch d {
	case realm.Memory:
		return perdurepb.Durability_DURABILITY_MEMORY
	case realm.Async:
		return perdurepb.Durability_DURABILITY_ASYNC
	}
	return perdurepb.Durability_DURABILITY_SYNC
}

func kindOf(k realm.Kind) durable.Kind {
	if k == realm.Shared {
		return durable.KindShared
	}
	return durable.KindStandard
}
