package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
)

// Resolve implements perdurepb.MessagesServer.
func (s *Server) Resolve(_ context.Context, m *perdurepb.ResolveRequest) (*perdurepb.ResolveResponse, error) {
	t, err := s.resolve(m.GetEndpoint())
	if err != nil {
		return nil, asFault(err)
	}
	v := s.realm.view()
	r := &perdurepb.ResolveResponse{
		EndpointId: t.endpoint.ID, StoreId: t.store.ID, Store: t.store.Name, ClusterId: t.cluster.ID, Cluster: t.cluster.Name,
		RealmRevision: v.Revision, Leader: s.leader(t.cluster), Durability: durabilityProto(t.cluster.Durability),
		MaxMessageSize: uint64(t.store.MaxMessageSize), Noconfirm: t.noconfirm(),
		HeartbeatMs: uint64(t.cluster.Tuning.ClientHeartbeat.Milliseconds()), TimeoutMs: uint64(t.cluster.Tuning.ClientTimeout.Milliseconds()),
	}
	for _, svc := range t.cluster.Services {
		if srv, ok := v.ServerByID(svc.ServerID); ok && srv.Client != "" {
			r.Candidates = append(r.Candidates, &perdurepb.Leader{Server: srv.Name, Address: srv.Client})
		}
	}
	return r, nil
}

// forming is the answer while there is no realm to speak of.
func (s *Server) forming() error {
	if v := s.realm.view(); v != nil && v.Founded {
		return nil
	}
	if err := s.realm.failure(); err != nil {
		return asFault(fmt.Errorf("server %s knows no realm: %w", s.config.Name, err))
	}
	return faultf(perdurepb.Reason_REASON_REALM_FORMING, "the realm is not formed yet; waiting for %s", s.realm.waitingFor())
}

// GetRealm implements perdurepb.AdminServer.
func (s *Server) GetRealm(_ context.Context, m *perdurepb.GetRealmRequest) (*perdurepb.GetRealmResponse, error) {
	if err := s.forming(); err != nil {
		return nil, err
	}
	v := s.realm.view()
	rev, ok := v.At(m.GetRevision())
	if !ok {
		if v.Revision == 0 {
			return nil, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "no realm definition was applied yet; apply one with perdure realm apply FILE")
		}
		return nil, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "server %s has no revision %d; the newest is %d, and core servers keep all", s.config.Name, m.GetRevision(), v.Revision)
	}
	return &perdurepb.GetRealmResponse{
		Revision: rev.Number, Document: rev.Document, AppliedAt: time.Unix(0, rev.Stamp).UTC().Format(time.RFC3339Nano),
	}, nil
}

// PlanRealm implements perdurepb.AdminServer.
func (s *Server) PlanRealm(_ context.Context, m *perdurepb.PlanRealmRequest) (*perdurepb.PlanRealmResponse, error) {
	if err := s.forming(); err != nil {
		return nil, err
	}
	r := s.realm.view().Plan(m.GetFile(), m.GetDocument())
	if r.Code != catalog.OK {
		return nil, realmFault(r)
	}
	return &perdurepb.PlanRealmResponse{Revision: r.Revision, Changes: changesProto(r.Changes), Warnings: problemsProto(r.Problems)}, nil
}

// ApplyRealm implements perdurepb.AdminServer. It returns when every cluster of
// the new definition has applied it, unless no_wait is set.
func (s *Server) ApplyRealm(ctx context.Context, m *perdurepb.ApplyRealmRequest) (*perdurepb.ApplyRealmResponse, error) {
	if err := s.forming(); err != nil {
		return nil, err
	}
	command, err := catalog.Apply{
		Document: m.GetDocument(), File: m.GetFile(), Expected: m.GetExpectedRevision(), Check: m.GetCheck(),
	}.Encode()
	var wrong *realm.Problems
	if errors.As(err, &wrong) {
		return nil, realmFault(catalog.Result{Code: catalog.Invalid, Problems: *wrong})
	}
	if err != nil {
		return nil, faultf(perdurepb.Reason_REASON_REALM_INVALID, "%v", err)
	}
	if f := s.losesSuspended(ctx, m); f != nil {
		return nil, f
	}
	r, err := s.realm.submit(ctx, command, false)
	if err != nil {
		if ctx.Err() != nil {
			return nil, faultf(perdurepb.Reason_REASON_NO_LEADER, "the realm was not changed, or it is not known whether it was: %v", err)
		}
		return nil, asFault(err)
	}
	if r.Code != catalog.OK {
		return nil, realmFault(r)
	}
	s.logger.Info("realm definition applied", "revision", r.Revision, "changes", len(r.Changes))
	if !m.GetNoWait() {
		if err := s.awaitDeployed(ctx, r.Revision); err != nil {
			return nil, err
		}
	}
	return &perdurepb.ApplyRealmResponse{Revision: r.Revision, Changes: changesProto(r.Changes), Warnings: problemsProto(r.Problems)}, nil
}

// clusterState is what a server says to another about its part in a cluster.
type clusterState struct {
	Leads    bool   `json:"leads"`
	Revision uint64 `json:"revision"`

	Suspended bool `json:"suspended,omitempty"`
}

// awaitDeployed waits until the leader of every cluster has applied a revision.
func (s *Server) awaitDeployed(ctx context.Context, revision uint64) error {
	done := map[uint64]bool{} // it cannot be taken back
	for {
		v, changed := s.realm.watch()
		if v.Revision < revision {
			select {
			case <-ctx.Done():
				return faultf(perdurepb.Reason_REASON_NO_LEADER, "revision %d is applied, but server %s has not seen it yet", revision, s.config.Name)
			case <-changed:
			}
			continue
		}
		leaders := s.askLeaders(ctx, v, func(c *catalog.ClusterView) bool { return !done[c.ID] })
		for id, st := range leaders {
			done[id] = st.Revision >= revision
		}
		missing := slices.IndexFunc(v.Clusters, func(c catalog.ClusterView) bool { return !done[c.ID] })
		if missing < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if c := v.Clusters[missing]; leaders[c.ID].Suspended {
				return faultf(perdurepb.Reason_REASON_SUSPENDED, "revision %d is applied to the realm, but %s, and takes no definition that deletes something before", revision, suspendedText(c.Name))
			}
			return faultf(perdurepb.Reason_REASON_NO_LEADER, "revision %d is applied to the realm, but cluster %s has not taken it yet: look at perdure status; it will when its services are up", revision, v.Clusters[missing].Name)
		case <-time.After(realmRetry): // another server's state: nothing here changes with it
		}
	}
}

// askLeaders asks the servers of clusters, by id, and returns what their leaders
// say. Those whose leader does not answer are left out.
func (s *Server) askLeaders(ctx context.Context, v *catalog.View, about func(*catalog.ClusterView) bool) map[uint64]clusterState {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ids := map[uint64][]uint64{} // by server
	for i := range v.Clusters {
		c := &v.Clusters[i]
		if !about(c) {
			continue
		}
		for _, svc := range c.Services {
			if !slices.Contains(ids[svc.ServerID], c.ID) {
				ids[svc.ServerID] = append(ids[svc.ServerID], c.ID)
			}
		}
	}
	leaders := map[uint64]clusterState{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for server, ids := range ids {
		wg.Go(func() {
			states := s.statesAt(ctx, server, ids)
			mu.Lock()
			defer mu.Unlock()
			for i, st := range states {
				if st.Leads {
					leaders[ids[i]] = st
				}
			}
		})
	}
	wg.Wait()
	return leaders
}

// statesAt asks one server; nothing comes of one that does not answer.
func (s *Server) statesAt(ctx context.Context, server uint64, ids []uint64) []clusterState {
	if server == s.serverID() {
		return s.clusterStates(ids)
	}
	body, err := json.Marshal(ids)
	if err != nil {
		return nil
	}
	answer, err := s.transport.Call(ctx, server, callClusters, body)
	var states []clusterState
	if err != nil || json.Unmarshal(answer, &states) != nil || len(states) != len(ids) {
		return nil
	}
	return states
}

// clusterStates asks no group: the reconciler finds out where this server leads.
func (s *Server) clusterStates(ids []uint64) []clusterState {
	states := make([]clusterState, len(ids))
	for i, id := range ids {
		for _, h := range s.reconciler.of(id) {
			if h.running() && h.group.Leads() {
				states[i] = clusterState{Leads: true, Revision: h.revision.Load(), Suspended: h.suspended.Load()}
			}
		}
	}
	return states
}

// onCall answers another server.
func (s *Server) onCall(ctx context.Context, kind uint8, body []byte) ([]byte, error) {
	switch kind {
	case callHello, callFound:
		if s.realm.formation == nil {
			return nil, fmt.Errorf("server %s is not a core server", s.config.Name)
		}
		if kind == callHello {
			return s.realm.formation.onHello()
		}
		return s.realm.formation.onFound(body)
	case callView:
		return s.realm.onView(ctx, body)
	case callCommands:
		return s.realm.onCommands(ctx, body)
	case callClusters:
		var ids []uint64
		if err := json.Unmarshal(body, &ids); err != nil {
			return nil, err
		}
		return json.Marshal(s.clusterStates(ids))
	case callSaved:
		return s.onSaved(body)
	case callLoaded:
		return nil, s.onLoaded(body)
	}
	return nil, fmt.Errorf("unknown call %d: server %s is of another version", kind, s.config.Name)
}

func problemsProto(ps []realm.Problem) []*perdurepb.Problem {
	out := make([]*perdurepb.Problem, len(ps))
	for i, p := range ps {
		out[i] = &perdurepb.Problem{Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Message: p.Message, Warning: p.Warning}
	}
	return out
}

func changesProto(cs []realm.Change) []*perdurepb.Change {
	out := make([]*perdurepb.Change, len(cs))
	for i, c := range cs {
		out[i] = &perdurepb.Change{Path: c.Path, Action: string(c.Action), Detail: c.Detail, Destroys: c.Destroys}
	}
	return out
}
