package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

	mu   sync.RWMutex
	list []*hosted // replaced, never changed
}

// of returns this server's services of a cluster.
func (r *reconciler) of(cluster uint64) []*hosted {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []*hosted
	for _, h := range r.list {
		if h.cluster == cluster {
			out = append(out, h)
		}
	}
	return out
}

func (r *reconciler) all() []*hosted {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list
}

func (r *reconciler) set(list []*hosted) {
	r.mu.Lock()
	r.list = list
	r.mu.Unlock()
}

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
	old := r.all()
	var next []*hosted
	for i := range v.Clusters {
		c := &v.Clusters[i]
		for j := range c.Services {
			s := &c.Services[j]
			if s.ServerName != r.server.config.Name {
				continue
			}
			h := find(old, c.ID, s.ReplicaID)
			if h == nil || replicaTimes(h.tuning) != replicaTimes(c.Tuning) || h.group != nil && h.group.Err() != nil && h.err == nil {
				h = r.replace(h, c, s)
			}
			next = append(next, h)
		}
	}
	for _, h := range old {
		if find(next, h.cluster, h.replica) == nil {
			r.drop(h)
		}
	}
	r.set(next)
	r.server.engines.setSyncInterval(syncInterval(v, next))
	for i, h := range next {
		c := v.ClusterByID(h.cluster)
		if h.group == nil {
			started := r.start(ctx, h, c)
			next = slices.Clone(next)
			next[i] = started
			r.set(next)
		} else {
			r.deploy(ctx, h, v, c)
		}
	}
}

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

func find(list []*hosted, cluster, replica uint64) *hosted {
	for _, h := range list {
		if h.cluster == cluster && h.replica == replica {
			return h
		}
	}
	return nil
}

// replace returns a service that is to be started, in place of one that runs
// with other times or has failed.
func (r *reconciler) replace(old *hosted, c *catalog.ClusterView, s *catalog.ServiceView) *hosted {
	h := &hosted{cluster: c.ID, replica: s.ReplicaID, name: s.Name, tuning: c.Tuning, copy: copyID(c.ID, s.ReplicaID), durability: c.Durability}
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

// start claims and starts a service, as far as it can go now.
func (r *reconciler) start(ctx context.Context, old *hosted, c *catalog.ClusterView) *hosted {
	h := *old
	h.waiting, h.err = "", nil
	if err := r.claim(ctx, &h, c); err != nil {
		if errors.Is(err, errWaiting) {
			h.waiting = err.Error()
		} else {
			r.failed(&h, old, c, err)
		}
		return &h
	}
	for _, s := range c.Services {
		if s.ServerID == 0 || !s.Claimed {
			h.waiting = fmt.Sprintf("service %s on server %s: a new cluster begins when all its services are there", s.Name, s.ServerName)
			return &h
		}
	}
	if err := r.open(&h, c); err != nil {
		r.failed(&h, old, c, err)
	}
	return &h
}

// failed notes why a service does not start. It is tried every second, and said
// once.
func (r *reconciler) failed(h, old *hosted, c *catalog.ClusterView, err error) {
	h.err = err
	if old.err == nil || old.err.Error() != err.Error() {
		r.server.logger.Error("service does not start", "cluster", c.Name, "service", h.name, "err", err)
	}
}

var errWaiting = errors.New("waiting")

// claim makes sure that this directory holds the one copy of the replica.
func (r *reconciler) claim(ctx context.Context, h *hosted, c *catalog.ClusterView) error {
	exists, err := r.server.engines.exists(h.durability, h.copy)
	if err != nil || exists {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	result, err := r.server.realm.submit(ctx, catalog.Claim{
		Cluster: h.cluster, Replica: h.replica, Server: r.server.serverID(), Tag: r.server.id.Install,
	}.Encode(), true)
	switch {
	case err != nil:
		return fmt.Errorf("%w for the realm's leader to register service %s: %w", errWaiting, h.name, err)
	case result.Code != catalog.OK:
		return fmt.Errorf("%w: %s", cluster.ErrMayHaveForgotten, result.Detail)
	}
	var voters []uint64
	for _, s := range c.Services {
		voters = append(voters, s.ReplicaID)
	}
	return r.server.engines.create(h.durability, h.copy, h.replica, voters)
}

// open starts the replica.
func (r *reconciler) open(h *hosted, c *catalog.ClusterView) error {
	log, err := r.server.engines.open(h.durability, h.copy)
	if err != nil {
		return err
	}
	svc := service.New()
	svc.OnLead = r.again
	g, err := cluster.StartGroup[store.Result](r.server.host, cluster.GroupConfig{
		Options: cluster.Options{
			Group: c.ID, ID: h.replica, Rank: rank(c, h.replica), Seed: r.server.incarnation, Tick: c.Tuning.Tick,
			HeartbeatTicks: ticks(c.Tuning.Heartbeat, c.Tuning.Tick), ElectionTicks: ticks(c.Tuning.ElectionTimeout, c.Tuning.Tick),
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

// deploy proposes the definition where this server leads and it is new.
func (r *reconciler) deploy(ctx context.Context, h *hosted, v *catalog.View, c *catalog.ClusterView) {
	if !h.running() || !h.group.Leads() {
		return
	}
	var have uint64
	if err := h.group.Do(ctx, func(cluster.Now) { have = h.service.Revision() }); err != nil || have >= v.Revision {
		return
	}
	if have == 0 && r.yield(ctx, h, c) {
		return
	}
	result, err := propose(ctx, h.group, store.AppendDeploy(nil, deployment(v.Revision, c)))
	switch {
	case err != nil:
		r.server.logger.Warn("definition not deployed", "cluster", c.Name, "revision", v.Revision, "err", err)
	case result.Code == store.OK || result.Code == store.Stale:
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
