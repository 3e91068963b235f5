package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// reconcileEvery is how often a server tries again what could not be done.
const reconcileEvery = time.Second

// reconciler makes what runs on this server what the realm says: it claims and
// starts services, deploys definitions where it leads, and stops what is gone.
type reconciler struct {
	server *Server
	poke   chan struct{} // capacity 1: look again
	// claimPatience bounds the claims of one pass.
	claimPatience time.Duration

	services atomic.Pointer[services] // replaced, never changed
}

// services are this server's, as a list and by what they are looked for.
type services struct {
	list      []*hosted
	byReplica map[[2]uint64]*hosted // cluster, replica
	byCluster map[uint64][]*hosted
}

func newServices(list []*hosted) *services {
	s := &services{list: list, byReplica: make(map[[2]uint64]*hosted, len(list)), byCluster: make(map[uint64][]*hosted, len(list))}
	for _, h := range list {
		s.byReplica[[2]uint64{h.cluster, h.replica}] = h
		s.byCluster[h.cluster] = append(s.byCluster[h.cluster], h)
	}
	return s
}

// find returns a service, or nil.
func (s *services) find(cluster, replica uint64) *hosted {
	return s.byReplica[[2]uint64{cluster, replica}]
}

func newReconciler(s *Server) *reconciler {
	r := &reconciler{server: s, poke: make(chan struct{}, 1), claimPatience: claimPatience}
	r.set(nil)
	return r
}

// of returns this server's services of a cluster.
func (r *reconciler) of(cluster uint64) []*hosted { return r.services.Load().byCluster[cluster] }

// find returns this server's service of a cluster that is a replica, or nil.
func (r *reconciler) find(cluster, replica uint64) *hosted {
	return r.services.Load().find(cluster, replica)
}

func (r *reconciler) all() []*hosted { return r.services.Load().list }

func (r *reconciler) set(list []*hosted) { r.services.Store(newServices(list)) }

func (r *reconciler) again() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// run reconciles until ctx ends, whenever the realm changes, this server begins
// to lead, or something could not be done.
func (r *reconciler) run(ctx context.Context) {
	timer := time.NewTimer(reconcileEvery)
	defer timer.Stop()
	for {
		v, changed := r.server.realm.watch()
		if v != nil && v.Founded {
			r.server.setPeers(v)
			if r.server.serverID() != 0 {
				r.reconcile(ctx, v)
			}
		}
		r.server.health.refresh()
		timer.Reset(reconcileEvery)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-r.poke:
		case <-timer.C:
		}
	}
}

func (r *reconciler) reconcile(ctx context.Context, v *catalog.View) {
	old := r.services.Load()
	var list, fresh []*hosted   // fresh are copies that nobody sees yet
	places := map[*hosted]int{} // of fresh in list
	for i := range v.Clusters {
		c := &v.Clusters[i]
		for j := range c.Services {
			s := &c.Services[j]
			if s.ServerName != r.server.config.Name {
				continue
			}
			h := old.find(c.ID, s.ReplicaID)
			if h == nil || replicaTimes(h.tuning) != replicaTimes(c.Tuning) || h.group != nil && h.group.Err() != nil && h.err == nil {
				h = r.replace(h, c, s)
			}
			if h.group == nil {
				again := *h
				again.waiting, again.err, again.was = "", nil, h.err
				fresh, places[&again] = append(fresh, &again), len(list)
			}
			list = append(list, h)
		}
	}
	next := newServices(list)
	for _, h := range old.list {
		if next.find(h.cluster, h.replica) == nil {
			r.drop(h)
		}
	}
	r.services.Store(next)
	r.server.engines.setSyncInterval(syncInterval(v, list))
	started := slices.Clone(list)
	startAll := func(some []*hosted) {
		for i, h := range some {
			r.start(h, v.ClusterByID(h.cluster))
			started[places[h]] = h
			if i%startsAtOnce == startsAtOnce-1 || i == len(some)-1 {
				r.set(slices.Clone(started))
			}
		}
	}
	// While the realm has no leader, claims take all their time. Services that
	// need none do not wait for them.
	found, missing := r.look(fresh)
	startAll(found)
	r.claim(ctx, v, missing)
	startAll(missing)
	r.deployAll(ctx, v, started)
}

// startsAtOnce is how many services are started before the first of them takes
// clients.
const startsAtOnce = 64

// replicaTimes are the times that a replica is started with; the others count
// from the next stream or sync on.
func replicaTimes(t realm.Tuning) [3]time.Duration {
	return [3]time.Duration{t.Tick, t.Heartbeat, t.ElectionTimeout}
}

// syncInterval is the shortest that an async cluster here asks for, or the
// default.
func syncInterval(v *catalog.View, list []*hosted) time.Duration {
	shortest := time.Duration(0)
	for _, h := range list {
		if c := v.ClusterByID(h.cluster); c.Durability == realm.Async && (shortest == 0 || c.Tuning.SyncInterval < shortest) {
			shortest = c.Tuning.SyncInterval
		}
	}
	if shortest == 0 {
		return realm.DefaultTuning(realm.DefaultProfile).SyncInterval
	}
	return shortest
}

// replace returns a service that is to be started, in place of one that runs
// with other times or has failed.
func (r *reconciler) replace(old *hosted, c *catalog.ClusterView, s *catalog.ServiceView) *hosted {
	h := &hosted{revision: &atomic.Uint64{}, suspended: &atomic.Bool{}, cluster: c.ID, replica: s.ReplicaID, name: s.Name, tuning: c.Tuning, copy: copyID(c.ID, s.ReplicaID), durability: c.Durability}
	if old != nil && old.group != nil {
		if err := old.group.Close(); err != nil {
			h.err = err // a replica that failed is not started again by itself
			h.group, h.service = old.group, old.service
		}
	}
	return h
}

// drop stops a service that the realm does not have any more, and removes its
// copy: ids are never reused, so nobody will ask for it.
func (r *reconciler) drop(h *hosted) {
	logger := r.server.logger.With("cluster", h.cluster, "service", h.name)
	if h.group != nil {
		if err := h.group.Close(); err != nil {
			logger.Warn("stopped", "err", err)
		}
	}
	// A service that did not run, such as a fenced one, may have a copy, too.
	if err := r.server.engines.remove(h.durability, h.copy); err != nil {
		logger.Error("the copy of a deleted cluster was not removed", "err", err)
		return
	}
	logger.Info("service removed")
}

// start starts a service that was claimed, as far as it can go now. Nobody else
// sees h yet.
func (r *reconciler) start(h *hosted, c *catalog.ClusterView) {
	for _, s := range c.Services {
		if h.err == nil && h.waiting == "" && (s.ServerID == 0 || !s.Claimed) {
			h.waiting = fmt.Sprintf("service %s on server %s: a new cluster begins when all its services are there", s.Name, s.ServerName)
		}
	}
	if h.err == nil && h.waiting == "" {
		h.err = r.open(h, c)
	}
	if h.err != nil && (h.was == nil || h.was.Error() != h.err.Error()) {
		r.server.logger.Error("service does not start", "cluster", c.Name, "service", h.name, "err", h.err)
	}
}

// open starts the replica.
func (r *reconciler) open(h *hosted, c *catalog.ClusterView) error {
	log, err := r.server.engines.open(h.durability, h.copy)
	if err != nil {
		return err
	}
	svc := service.New()
	svc.OnLead = r.again
	svc.OnSuspend = func(suspended bool) {
		h.suspended.Store(suspended)
		r.again()
	}
	g, err := cluster.StartGroup[store.Result](r.server.host, cluster.GroupConfig{
		Options: cluster.Options{
			Group: c.ID, ID: h.replica, Rank: rank(c, h.replica), Seed: r.server.incarnation, Tick: c.Tuning.Tick,
			HeartbeatTicks: ticks(c.Tuning.Heartbeat, c.Tuning.Tick), ElectionTicks: ticks(c.Tuning.ElectionTimeout, c.Tuning.Tick), Beat: cluster.Beat,
		},
		Name: c.Name, Members: members(c),
		OnFail: func(err error) { r.server.groupFailed(err); r.again() },
	}, log, svc, svc)
	if err != nil {
		return err
	}
	h.group, h.service = g, svc
	r.server.logger.Info("service started", "cluster", c.Name, "service", h.name, "durability", c.Durability.String())
	return nil
}

func ticks(d, tick time.Duration) int { return int((d + tick - 1) / tick) }

func members(c *catalog.ClusterView) []cluster.Member {
	out := make([]cluster.Member, len(c.Services))
	for i, s := range c.Services {
		out[i] = cluster.Member{Replica: s.ReplicaID, Server: s.ServerID}
	}
	return out
}

// rank is a replica's place in the order of campaigns: the greater weight first;
// among equals each cluster begins at another service, so that leaders spread.
func rank(c *catalog.ClusterView, replica uint64) int {
	order := make([]int, len(c.Services))
	for i := range order {
		order[i] = (i + int(c.ID%uint64(len(order)))) % len(order)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.Services[b].Weight, c.Services[a].Weight) })
	return slices.IndexFunc(order, func(i int) bool { return c.Services[i].ReplicaID == replica })
}

// deploysAtOnce bounds the definitions that are proposed at a time. Each waits
// for its group.
const deploysAtOnce = 32

// deployAll proposes definitions where this server leads and they are new, and has
// saved states loaded into what holds nothing.
func (r *reconciler) deployAll(ctx context.Context, v *catalog.View, list []*hosted) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, deploysAtOnce)
	for _, h := range list {
		if !h.running() || !h.group.Leads() {
			continue
		}
		if h.revision.Load() >= v.Revision {
			r.server.startLoads.look(ctx, v, h)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.deploy(ctx, h, v, v.ClusterByID(h.cluster))
			r.server.startLoads.look(ctx, v, h)
		})
	}
	wg.Wait()
}

// deploy proposes the definition unless the service has it.
func (r *reconciler) deploy(ctx context.Context, h *hosted, v *catalog.View, c *catalog.ClusterView) {
	definition := deployment(v.Revision, c)
	var have uint64
	waits := false // until the cluster is resumed
	if err := h.group.Do(ctx, func(cluster.Now) {
		have = h.service.Revision()
		waits = h.service.Suspended() && h.service.Deletes(definition)
	}); err != nil {
		return
	}
	if have >= v.Revision {
		h.revision.Store(have)
		return
	}
	if waits || have == 0 && r.yield(ctx, h, c) {
		return
	}
	result, err := propose(ctx, h.group, store.AppendDeploy(nil, definition))
	switch {
	case err != nil:
		r.server.logger.Warn("definition not deployed", "cluster", c.Name, "revision", v.Revision, "err", err)
	case result.Code == store.OK || result.Code == store.Stale:
		h.revision.Store(v.Revision)
		r.server.logger.Info("definition deployed", "cluster", c.Name, "revision", v.Revision)
	default:
		r.server.logger.Error("definition deployed in part, or refused", "cluster", c.Name, "revision", v.Revision, "result", result.Code.String(), "detail", result.Detail)
	}
}

// yieldTime is how long a new cluster's first leader looks for the service that
// should lead rather.
const yieldTime = 300 * time.Millisecond

// yield gives the leadership of a cluster that nobody uses yet to the service of
// the first rank: where servers take up a new realm at different speeds, the
// quick ones would lead everything. It reports whether that has worked.
func (r *reconciler) yield(ctx context.Context, h *hosted, c *catalog.ClusterView) bool {
	first := slices.IndexFunc(c.Services, func(s catalog.ServiceView) bool { return rank(c, s.ReplicaID) == 0 })
	preferred := c.Services[first].ReplicaID
	if preferred == h.replica {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, yieldTime)
	defer cancel()
	for h.group.Leads() {
		if err := h.group.HandOver(ctx, map[uint64]int{preferred: 1}); err != nil {
			return false
		}
		select {
		case <-ctx.Done():
			return !h.group.Leads()
		case <-time.After(yieldTime / 10): // it was not heard of yet, or does lead now
		}
	}
	return true
}

// deployment is what a revision says about a cluster.
func deployment(revision uint64, c *catalog.ClusterView) *statepb.Deploy {
	d := &statepb.Deploy{Revision: revision}
	for _, s := range c.Stores {
		p := &statepb.Store{
			Id: s.ID, Name: s.Name, ByteLimit: uint64(s.ByteLimit), MessageLimit: uint64(s.MessageLimit), MaxMessageSize: uint64(s.MaxMessageSize),
			Noconfirm: s.PublisherMode == realm.NoConfirm, DynamicDurableLimit: uint32(s.DynamicDurableLimit),
		}
		for _, du := range s.Durables {
			p.Durables = append(p.Durables, &statepb.Durable{Id: du.ID, Name: du.Name, Kind: uint32(kindOf(du.Kind)), Matcher: du.Matcher, Prefetch: uint32(du.Prefetch)})
		}
		for _, t := range s.Templates {
			p.Templates = append(p.Templates, &statepb.Template{Name: t.Name, Kind: uint32(kindOf(t.Kind)), Prefetch: uint32(t.Prefetch)})
		}
		d.Stores = append(d.Stores, p)
	}
	return d
}
