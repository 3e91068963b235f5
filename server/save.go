package server

import (
	"cmp"
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store/statefile"
)

// SaveCluster implements perdurepb.AdminServer.
func (s *Server) SaveCluster(m *perdurepb.SaveClusterRequest, stream grpc.ServerStreamingServer[perdurepb.SaveClusterResponse]) error {
	t, err := s.serviceTarget(m.GetCluster(), m.GetService())
	if err != nil {
		return asFault(err)
	}
	v := &saving{s: s, t: t, m: m}
	var saved *perdurepb.StateSaved
	room, pace := watchRoom(func() (uint64, bool) {
		if t.cluster.Durability == realm.Memory {
			return 0, false
		}
		return freeBytes(s.config.Data)
	}), &readPace{}
	err = s.stateCall(stream.Context(), func() error { return stream.Send(&perdurepb.SaveClusterResponse{Progress: v.progress()}) }, room.check,
		func(ctx context.Context, send func(func() error) error) (err error) {
			v.send = func(chunk []byte) error {
				began := time.Now()
				if err := send(func() error { return stream.Send(&perdurepb.SaveClusterResponse{Chunk: chunk}) }); err != nil {
					return err
				}
				return pace.sent(len(chunk), time.Since(began))
			}
			saved, err = v.run(ctx)
			return err
		})
	if err == nil {
		err = stream.Send(&perdurepb.SaveClusterResponse{Saved: saved, Progress: v.progress()})
	}
	return s.stateEnd(stream.Context(), err, t.cluster, "saving")
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
			return faultf(perdurepb.Reason_REASON_NO_LEADER, "service %s of cluster %s on server %s: %s", service, c.Name, s.config.Name, unreadyService(s.reconciler.find(c.ID, svc.ReplicaID)))
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

// saving is one state file on its way out. The counts are read while it is saved.
type saving struct {
	s    *Server
	t    *target
	m    *perdurepb.SaveClusterRequest
	file string // its name in the state directory, where the usual one is not meant
	own  bool   // the server's own backup, which waits for no client
	send func(chunk []byte) error

	bytes, messages, total atomic.Uint64
}

func (v *saving) progress() *perdurepb.StateProgress {
	return &perdurepb.StateProgress{Bytes: v.bytes.Load(), Messages: v.messages.Load(), TotalMessages: v.total.Load()}
}

// run saves the state of the service: at the entry that it has applied, from a view
// of it that stays as it is while the service goes on.
func (v *saving) run(ctx context.Context) (*perdurepb.StateSaved, error) {
	if err := v.await(ctx); err != nil {
		return nil, err
	}
	if !v.own {
		select {
		case v.s.images <- struct{}{}:
			defer func() { <-v.s.images }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	h := v.t.hosted
	capture, err := h.group.Capture(ctx)
	if err != nil {
		return nil, err
	}
	breathe := func() error { return context.Cause(ctx) }
	if v.m.GetOnline() {
		breathe = paced(ctx) // clients go on
	}
	image, err := service.OpenImage(capture, breathe)
	if err != nil {
		return nil, err
	}
	defer func() { _ = image.Close() }() // it was only read
	image.Told = func(written, total uint64) {
		v.messages.Store(written)
		v.total.Store(total)
	}
	if err := v.check(image); err != nil {
		return nil, err
	}
	about := statefile.Manifest{Cluster: v.t.cluster.Name, Epoch: h.replica >> 48, Definition: v.s.definition(v.t.cluster)}
	out := newChunked(&v.bytes, v.send)
	saved := &perdurepb.StateSaved{Server: v.s.config.Name, Service: h.name}
	done := func(err error) error { return err }
	if v.m.GetToServer() {
		saved.File = cmp.Or(v.file, stateFileName(v.t.cluster.Name, h.name))
		f, end, err := v.s.createState(saved.File)
		if err != nil {
			return nil, err
		}
		out.put, done = v.s.intoFile(f, saved.File), end
	}
	manifest, totals, err := image.Save(out, about, v.m.GetStores()...)
	if err == nil {
		err = out.flush()
	}
	if err := done(err); err != nil {
		return nil, err
	}
	v.s.logger.Info("cluster saved", "cluster", v.t.cluster.Name, "service", h.name, "file", saved.File, "bytes", totals.Size, "applied", manifest.Applied, "hash", manifest.StateHash)
	_, messages, _, _ := manifest.Totals()
	image.Told(messages, messages)
	saved.Bytes, saved.Sha256 = uint64(totals.Size), out.sum.Sum(nil)
	saved.Manifest, err = json.Marshal(manifest)
	return saved, err
}

// await waits until the service has applied what is to be saved. Who leads also
// waits until subscribers have given back what they had when the cluster was
// suspended.
func (v *saving) await(ctx context.Context) error {
	h := v.t.hosted
	if err := v.reach(ctx, v.m.GetApplied()); err != nil || v.m.GetOnline() {
		return err
	}
	if !h.suspended.Load() {
		return v.notSuspended()
	}
	if !h.group.Leads() {
		return nil
	}
	_, err := v.t.awaitQuiet(ctx)
	return err
}

// reach waits until the service has applied an entry.
func (v *saving) reach(ctx context.Context, entry uint64) error {
	for end := time.Now().Add(appliedPatience); ; {
		var applied uint64
		if err := v.t.do(ctx, func(svc *service.Service) { applied = svc.Applied() }); err != nil {
			return err
		}
		if applied >= entry {
			return nil
		}
		if !time.Now().Before(end) {
			return faultf(perdurepb.Reason_REASON_NO_LEADER, "service %s of cluster %s is behind: it has applied %d entries, %d are to be saved, and for %v it did not catch up", v.t.hosted.name, v.t.cluster.Name, applied, entry, appliedPatience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(appliedEvery): // nobody is told; a follower hears of it with the next heartbeat
		}
	}
}

// How often a service is asked how far it is, and for how long.
const (
	appliedEvery    = 20 * time.Millisecond
	appliedPatience = 30 * time.Second
)

func (v *saving) notSuspended() *fault {
	name := v.t.cluster.Name
	return faultf(perdurepb.Reason_REASON_NOT_SUSPENDED, "cluster %s is not suspended, and would change while it is saved: perdure cluster suspend %s comes first", name, name)
}

// check looks at the state itself whether it may be saved.
func (v *saving) check(image *service.Image) error {
	m := image.Machine()
	if !v.m.GetOnline() && !m.Suspended() {
		return v.notSuspended()
	}
	if load, _ := m.Load(); load != 0 {
		return faultf(perdurepb.Reason_REASON_LOADING, "a state is being loaded into cluster %s: go on with that load, or end it with perdure cluster load %s --abort", v.t.cluster.Name, v.t.cluster.Name)
	}
	var names []string
	for _, st := range m.Stats() {
		names = append(names, st.Name)
	}
	for _, name := range v.m.GetStores() {
		if _, ok := m.StoreByName(name); !ok {
			return faultf(perdurepb.Reason_REASON_NO_SUCH_STORE, "cluster %s has no store %q%s", v.t.cluster.Name, name, suggest(name, names))
		}
	}
	return nil
}

// definition is the cluster as the realm has it, for people who read the file.
func (s *Server) definition(c *catalog.ClusterView) string {
	v := s.realm.view()
	if v.Realm == nil {
		return ""
	}
	defined := v.Realm.Cluster(c.Name)
	if defined == nil {
		return ""
	}
	text, err := realm.Marshal(&realm.Realm{Name: v.Realm.Name, Clusters: []realm.Cluster{*defined}})
	if err != nil {
		s.logger.Error("definition not written into a state file", "cluster", c.Name, "err", err)
	}
	return string(text)
}
