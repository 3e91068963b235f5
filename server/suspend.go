package server

import (
	"context"
	"errors"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// SuspendCluster implements perdurepb.AdminServer. It answers when everything that
// was delivered before is settled or taken back.
func (s *Server) SuspendCluster(ctx context.Context, m *perdurepb.SuspendClusterRequest) (*perdurepb.SuspendClusterResponse, error) {
	t, err := s.clusterTarget(m.GetCluster())
	if err != nil {
		return nil, asFault(err)
	}
	if _, err := t.propose(ctx, store.AppendSuspend(nil, int64(t.cluster.Tuning.SuspendGrace))); err != nil {
		return nil, s.hinted(asFault(err), t.cluster)
	}
	recalled, err := t.awaitQuiet(ctx)
	if err != nil {
		return nil, s.hinted(asFault(err), t.cluster)
	}
	s.logger.Info("cluster suspended", "cluster", t.cluster.Name, "recalled", recalled)
	return &perdurepb.SuspendClusterResponse{Recalled: recalled}, nil
}

// ResumeCluster implements perdurepb.AdminServer.
func (s *Server) ResumeCluster(ctx context.Context, m *perdurepb.ResumeClusterRequest) (*perdurepb.ResumeClusterResponse, error) {
	t, err := s.clusterTarget(m.GetCluster())
	if err != nil {
		return nil, asFault(err)
	}
	if _, err := t.propose(ctx, store.AppendResume(nil)); err != nil {
		f := asFault(err)
		if f.reason == perdurepb.Reason_REASON_LOADING {
			f = faultf(f.reason, "a state is being loaded into cluster %s: repeat that command, or end it with perdure cluster load %[1]s --abort", t.cluster.Name)
		}
		return nil, s.hinted(f, t.cluster)
	}
	s.logger.Info("cluster resumed", "cluster", t.cluster.Name)
	return &perdurepb.ResumeClusterResponse{}, nil
}

// clusterTarget finds a cluster that this server leads. The target has no endpoint
// and no store.
func (s *Server) clusterTarget(name string) (*target, error) {
	c, err := s.clusterNamed(name)
	if err != nil {
		return nil, err
	}
	t := &target{cluster: c}
	services := s.reconciler.of(c.ID)
	for _, h := range services {
		if h.running() && h.group.Leads() {
			t.hosted = h
			return t, nil
		}
	}
	f := s.notLeader(t)
	if f.leader == nil && len(services) == 0 {
		f = s.elsewhere(c)
	}
	return nil, f
}

// clusterNamed finds a cluster in the realm.
func (s *Server) clusterNamed(name string) (*catalog.ClusterView, error) {
	if s.stopping() {
		return nil, faultf(perdurepb.Reason_REASON_STOPPING, "server %s is stopping; ask another", s.config.Name)
	}
	if err := s.forming(); err != nil {
		return nil, err
	}
	v := s.realm.view()
	c := v.Cluster(name)
	if c == nil {
		names := make([]string, len(v.Clusters))
		for i := range v.Clusters {
			names[i] = v.Clusters[i].Name
		}
		return nil, faultf(perdurepb.Reason_REASON_NO_SUCH_CLUSTER, "no cluster %q in the realm's revision %d%s", name, v.Revision, suggest(name, names))
	}
	return c, nil
}

// elsewhere names a server that hosts a service of a cluster, and so knows its
// leader: this one does not. One that is up is better than another.
func (s *Server) elsewhere(c *catalog.ClusterView) *fault {
	f := faultf(perdurepb.Reason_REASON_NOT_LEADER, "server %s hosts no service of cluster %s", s.config.Name, c.Name)
	up := map[uint64]bool{}
	for _, p := range s.transport.Peers() {
		up[p.Server] = p.Up
	}
	v := s.realm.view()
	for _, svc := range c.Services {
		srv, ok := v.ServerByID(svc.ServerID)
		if ok && srv.Client != "" && (f.leader == nil || up[svc.ServerID]) {
			f.leader = &perdurepb.Leader{Server: srv.Name, Address: srv.Client}
		}
	}
	return f
}

// losesSuspended refuses a definition without a cluster that is suspended: with it
// everything would go that is to be kept. It is asked once, before the realm changes.
func (s *Server) losesSuspended(ctx context.Context, m *perdurepb.ApplyRealmRequest) *fault {
	next, err := realm.Parse(m.GetFile(), m.GetDocument())
	if err != nil {
		return nil // others say what is wrong with it
	}
	v := s.realm.view()
	goes := func(c *catalog.ClusterView) bool { return next.Cluster(c.Name) == nil }
	for id, st := range s.askLeaders(ctx, v, goes) {
		if st.Suspended {
			return faultf(perdurepb.Reason_REASON_SUSPENDED, "the definition deletes a cluster that keeps what it has: %s", suspendedText(v.ClusterByID(id).Name))
		}
	}
	return nil
}

// awaitQuiet waits until nothing that was delivered is on its way.
func (t *target) awaitQuiet(ctx context.Context) (recalled uint64, err error) {
	type outcome struct {
		recalled uint64
		err      error
	}
	done := make(chan outcome, 1)
	if err := t.do(ctx, func(svc *service.Service) {
		svc.AwaitQuiet(func(recalled uint64, err error) { done <- outcome{recalled, err} })
	}); err != nil {
		return 0, err
	}
	select {
	case o := <-done:
		if errors.Is(o.err, service.ErrResumed) {
			return 0, faultf(perdurepb.Reason_REASON_REVISION_CONFLICT, "somebody resumed cluster %s before everything that it had delivered was settled or taken back; it is not suspended", t.cluster.Name)
		}
		return o.recalled, o.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-t.hosted.group.Done():
		return 0, cluster.ErrStopped
	}
}

// suspended is what a client is told whose request waits for the operator; nil if
// the cluster is not suspended, as far as this server knows.
func (t *target) suspended() *fault {
	if !t.hosted.suspended.Load() {
		return nil
	}
	return faultf(perdurepb.Reason_REASON_SUSPENDED, "%s", suspendedText(t.cluster.Name))
}

func suspendedText(name string) string {
	return "cluster " + name + " is suspended; perdure cluster resume ends that"
}
