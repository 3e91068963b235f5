package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
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
}

// awaitDeployed waits until the leader of every cluster has applied a revision.
func (s *Server) awaitDeployed(ctx context.Context, revision uint64) error {
	for {
		v, changed := s.realm.watch()
		if v.Revision >= revision {
			missing := ""
			for i := range v.Clusters {
				if !s.deployed(ctx, &v.Clusters[i], revision) {
					missing = v.Clusters[i].Name
					break
				}
			}
			if missing == "" {
				return nil
			}
			select {
			case <-ctx.Done():
				return faultf(perdurepb.Reason_REASON_NO_LEADER, "revision %d is applied to the realm, but cluster %s has not taken it yet: look at perdure status; it will when its services are up", revision, missing)
			case <-changed:
			case <-time.After(realmRetry): // another server's state: nothing here changes with it
			}
			continue
		}
		select {
		case <-ctx.Done():
			return faultf(perdurepb.Reason_REASON_NO_LEADER, "revision %d is applied, but server %s has not seen it yet", revision, s.config.Name)
		case <-changed:
		}
	}
}

// deployed asks the servers of a cluster whether its leader has a revision.
func (s *Server) deployed(ctx context.Context, c *catalog.ClusterView, revision uint64) bool {
	body, err := json.Marshal(c.ID)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	states := make([]clusterState, len(c.Services))
	var wg sync.WaitGroup
	for i, svc := range c.Services {
		wg.Go(func() {
			if svc.ServerID == s.serverID() {
				states[i] = s.clusterState(ctx, c.ID)
			} else if answer, err := s.transport.Call(ctx, svc.ServerID, callCluster, body); err == nil {
				_ = json.Unmarshal(answer, &states[i]) // what does not decode is no answer
			}
		})
	}
	wg.Wait()
	for _, st := range states {
		if st.Leads && st.Revision >= revision {
			return true
		}
	}
	return false
}

func (s *Server) clusterState(ctx context.Context, id uint64) clusterState {
	for _, h := range s.reconciler.of(id) {
		if h.running() && h.group.Leads() {
			st := clusterState{Leads: true}
			if h.group.Do(ctx, func(cluster.Now) { st.Revision = h.service.Revision() }) == nil {
				return st
			}
		}
	}
	return clusterState{}
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
	case callCommand:
		return s.realm.onCommand(ctx, body)
	case callView:
		return s.realm.onView(ctx, body)
	case callCluster:
		var id uint64
		if err := json.Unmarshal(body, &id); err != nil {
			return nil, err
		}
		return json.Marshal(s.clusterState(ctx, id))
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
