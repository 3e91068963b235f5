package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
)

// Status implements perdurepb.AdminServer. It says what this server knows: all
// servers and clusters of the realm, and of its own services everything.
func (s *Server) Status(ctx context.Context, m *perdurepb.StatusRequest) (*perdurepb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r := &perdurepb.StatusResponse{Server: s.config.Name, Version: Version, Process: s.processStatus()}
	v := s.realm.view()
	if v == nil {
		return r, nil
	}
	r.RealmId, r.Revision = realmID(v.RealmID).String(), v.Revision
	if v.Realm != nil {
		r.Realm = v.Realm.Name
	}
	up := map[uint64]bool{s.serverID(): true}
	for _, p := range s.transport.Peers() {
		up[p.Server] = up[p.Server] || p.Up
	}
	for _, srv := range v.Servers {
		r.Servers = append(r.Servers, &perdurepb.ServerStatus{
			Id: srv.ID, Name: srv.Name, Client: srv.Client, Peer: srv.Peer, Ops: srv.Ops, Up: up[srv.ID], Core: srv.Core, Region: srv.Region,
		})
	}
	if m.GetProcessOnly() {
		return r, nil
	}
	for i := range v.Clusters {
		r.Clusters = append(r.Clusters, s.clusterStatus(ctx, v, &v.Clusters[i]))
	}
	return r, nil
}

func (s *Server) clusterStatus(ctx context.Context, v *catalog.View, c *catalog.ClusterView) *perdurepb.ClusterStatus {
	out := &perdurepb.ClusterStatus{Id: c.ID, Name: c.Name, Durability: durabilityProto(c.Durability)}
	if l := s.leader(c); l != nil {
		out.Leader = l.Server
	}
	servers := map[string]string{}
	for _, svc := range c.Services {
		if other, ok := servers[svc.ServerName]; ok {
			out.Warnings = append(out.Warnings, fmt.Sprintf("services %s and %s are both on server %s: losing it loses both; move one", other, svc.Name, svc.ServerName))
		}
		servers[svc.ServerName] = svc.Name
		out.Services = append(out.Services, s.serviceStatus(ctx, v, c, svc, out))
	}
	if why := s.startLoads.why(c.ID); why != "" && out.Suspended {
		out.Warnings = append(out.Warnings, why)
	}
	return out
}

// serviceStatus describes a service; of one that runs here also its stores.
func (s *Server) serviceStatus(ctx context.Context, v *catalog.View, c *catalog.ClusterView, svc catalog.ServiceView, out *perdurepb.ClusterStatus) *perdurepb.ServiceStatus {
	st := &perdurepb.ServiceStatus{Name: svc.Name, Server: svc.ServerName, State: "unknown"}
	h := s.reconciler.find(c.ID, svc.ReplicaID)
	switch {
	case h == nil:
		if svc.ServerName == s.config.Name {
			st.State = "waiting"
		}
		return st
	case h.group == nil && h.err != nil:
		st.State, st.Detail = "stopped", h.err.Error()
		if errors.Is(h.err, cluster.ErrMayHaveForgotten) {
			st.State = "fenced"
		}
		return st
	case h.group == nil:
		st.State, st.Detail = "waiting", h.waiting
		return st
	}
	status, err := h.group.Status(ctx)
	if err != nil {
		st.State, st.Detail = "stopped", err.Error()
		if why := h.group.Err(); why != nil {
			st.Detail = why.Error()
		}
		return st
	}
	st.State, st.Applied, st.LastIndex, st.Commit = status.Role, status.Applied, status.Last, status.Commit
	st.LagEntries = status.Commit - min(status.Applied, status.Commit)
	st.StateHash = fmt.Sprintf("%016x", status.Hash)
	if status.Term >= out.Term {
		out.Term, out.Epoch = status.Term, 0
	}
	if len(out.Stores) == 0 || status.Role == "leader" {
		out.Stores, out.Suspended = s.stores(ctx, h), h.suspended.Load()
	}
	return st
}

func (s *Server) stores(ctx context.Context, h *hosted) []*perdurepb.StoreStatus {
	var out []*perdurepb.StoreStatus
	err := h.group.Do(ctx, func(cluster.Now) {
		for _, st := range h.service.Stats() {
			p := &perdurepb.StoreStatus{Name: st.Name, Messages: st.Messages, Bytes: st.Bytes, FirstId: uint64(st.FirstID), LastId: uint64(st.LastID)}
			for _, d := range st.Durables {
				unacked, subscribers := h.service.Unacked(d.ID)
				p.Durables = append(p.Durables, &perdurepb.DurableStatus{
					Name: d.Name, Type: d.Kind.String(), Pending: d.Pending, Unacked: unacked, Subscribers: subscribers, Matcher: d.Matcher,
				})
			}
			out = append(out, p)
		}
	})
	if err != nil {
		return nil
	}
	return out
}
