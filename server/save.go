package server

import (
	"context"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm/catalog"
)

// SaveCluster implements perdurepb.AdminServer.
func (s *Server) SaveCluster(m *perdurepb.SaveClusterRequest, stream grpc.ServerStreamingServer[perdurepb.SaveClusterResponse]) error {
	t, err := s.serviceTarget(m.GetCluster(), m.GetService())
	if err != nil {
		return asFault(err)
	}
	if err := s.save(stream.Context(), t, m); err != nil {
		return s.hinted(asFault(err), t.cluster)
	}
	return nil
}

// serviceTarget finds a service of a cluster on this server; without a name the
// one that leads.
func (s *Server) serviceTarget(cluster, service string) (*target, error) {
	if service == "" {
		return s.clusterTarget(cluster)
	}
	c, err := s.clusterNamed(cluster)
	if err != nil {
		return nil, err
	}
	for _, h := range s.reconciler.of(c.ID) {
		if h.name == service && h.running() {
			return &target{cluster: c, hosted: h}, nil
		}
	}
	return nil, s.hostOf(c, service)
}

// hostOf says why this server does not serve a service of a cluster, and names the
// one that does.
func (s *Server) hostOf(c *catalog.ClusterView, service string) *fault {
	names := make([]string, len(c.Services))
	for i, svc := range c.Services {
		names[i] = svc.Name
		switch {
		case svc.Name != service:
		case svc.ServerName == s.config.Name:
			return faultf(perdurepb.Reason_REASON_NO_LEADER, "service %s of cluster %s does not run on server %s: it %s", service, c.Name, s.config.Name, unreadyService(s.reconciler.find(c.ID, svc.ReplicaID)))
		default:
			f := faultf(perdurepb.Reason_REASON_NOT_LEADER, "service %s of cluster %s is on server %s", service, c.Name, svc.ServerName)
			if srv, ok := s.realm.view().ServerByID(svc.ServerID); ok && srv.Client != "" {
				f.leader = &perdurepb.Leader{Server: srv.Name, Address: srv.Client}
			}
			return f
		}
	}
	return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "cluster %s has no service %q%s", c.Name, service, suggest(service, names))
}

// save sends a state file of t's service, or writes it.
func (s *Server) save(_ context.Context, t *target, m *perdurepb.SaveClusterRequest) error {
	if !m.GetOnline() && !t.hosted.suspended.Load() {
		return faultf(perdurepb.Reason_REASON_NOT_SUSPENDED, "cluster %s is not suspended, and would change while it is saved: perdure cluster suspend %s comes first", t.cluster.Name, t.cluster.Name)
	}
	return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "server %s cannot save yet", s.config.Name)
}
