package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// statusTimeout is how long Status waits for a single server.
const statusTimeout = 2 * time.Second

// Status describes the realm, as one server sees it or put together.
type Status struct {
	Realm    string          `json:"realm"`
	RealmID  string          `json:"realm_id"`
	Revision uint64          `json:"revision"`
	Server   string          `json:"server,omitempty"` // who answered; empty when put together
	Version  string          `json:"version,omitempty"`
	Servers  []ServerStatus  `json:"servers"`
	Clusters []ClusterStatus `json:"clusters"`

	Process *ProcessStatus `json:"process,omitempty"` // of who answered
}

// ServerStatus describes a server.
type ServerStatus struct {
	ID     uint64 `json:"id"`
	Name   string `json:"name"`
	Client string `json:"client"`
	Peer   string `json:"peer"`
	Ops    string `json:"ops"`
	Up     bool   `json:"up"`
	Core   bool   `json:"core"`
	Region string `json:"region,omitempty"`

	Process *ProcessStatus `json:"process,omitempty"` // nil of one that did not answer itself
}

// ProcessStatus is what a server's process counts since it began.
type ProcessStatus struct {
	Incarnation      uint64        `json:"incarnation"` // another one: the process is another, and counts anew
	Uptime           time.Duration `json:"uptime"`
	Fsyncs           uint64        `json:"fsyncs"`            // of the log engines
	AllocatedObjects uint64        `json:"allocated_objects"` // on the heap
	AllocatedBytes   uint64        `json:"allocated_bytes"`
	GCCycles         uint64        `json:"gc_cycles"`
	Goroutines       uint64        `json:"goroutines"` // that there are now
}

// ClusterStatus describes a cluster.
type ClusterStatus struct {
	ID         uint64          `json:"id"`
	Name       string          `json:"name"`
	Durability string          `json:"durability"`
	Leader     string          `json:"leader"`
	Epoch      uint64          `json:"epoch"`
	Term       uint64          `json:"term"`
	Services   []ServiceStatus `json:"services"`
	Stores     []StoreStatus   `json:"stores"`
	Warnings   []string        `json:"warnings,omitempty"`
	Suspended  bool            `json:"suspended"`
}

// ServiceStatus describes one replica.
type ServiceStatus struct {
	Name       string `json:"name"`
	Server     string `json:"server"`
	State      string `json:"state"` // leader, follower, candidate, fenced, stopped, waiting or unknown
	Applied    uint64 `json:"applied"`
	LagEntries uint64 `json:"lag_entries"`
	StateHash  string `json:"state_hash"` // of applied, in hex
	Detail     string `json:"detail,omitempty"`
	LastIndex  uint64 `json:"last_index"`
	Commit     uint64 `json:"commit"`
}

// StoreStatus describes a store.
type StoreStatus struct {
	Name     string          `json:"name"`
	Messages uint64          `json:"messages"`
	Bytes    uint64          `json:"bytes"`
	FirstID  uint64          `json:"first_id"`
	LastID   uint64          `json:"last_id"`
	Durables []DurableStatus `json:"durables"`
}

// DurableStatus describes a durable.
type DurableStatus struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Pending     uint64 `json:"pending"`
	Unacked     uint64 `json:"unacked"`
	Subscribers uint64 `json:"subscribers"`
	Matcher     string `json:"matcher,omitempty"`
}

// Status asks every server that the realm lists and puts the answers together:
// a service as its own server describes it, stores as the leader does. Servers
// that do not answer within two seconds count as not up; so do, unasked, core
// servers that a core server has lost; what is known of their services is unknown.
func (a *Admin) Status(ctx context.Context) (*Status, error) {
	all, err := a.StatusEach(ctx)
	if err != nil {
		return nil, err
	}
	return merge(all), nil
}

// StatusEach asks every server that the realm lists, besides
// core servers that a core server has lost, and returns the answers by
// name of server.
func (a *Admin) StatusEach(ctx context.Context) (map[string]*Status, error) {
	return a.statusEach(ctx, &perdurepb.StatusRequest{})
}

// Processes asks every server that the realm lists what its process counts. A
// server that does not answer within two seconds has a nil entry. It costs the
// servers far less than Status.
func (a *Admin) Processes(ctx context.Context) (map[string]*ProcessStatus, error) {
	all, err := a.statusEach(ctx, &perdurepb.StatusRequest{ProcessOnly: true})
	if err != nil {
		return nil, err
	}
	processes := map[string]*ProcessStatus{}
	for _, s := range merge(all).Servers {
		processes[s.Name] = s.Process
	}
	return processes, nil
}

func (a *Admin) statusEach(ctx context.Context, request *perdurepb.StatusRequest) (map[string]*Status, error) {
	first, err := ask(ctx, a.c, "status", reads, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.StatusResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		return admin.Status(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	answers := map[string]*Status{first.Server: statusOf(first)}
	var asking sync.WaitGroup
	core := map[string]bool{} // these are all connected with each other
	for _, server := range first.Servers {
		core[server.Name] = server.Core
	}
	for _, server := range first.Servers {
		lost := !server.Up && server.Core && core[first.Server]
		if server.Client == "" || server.Name == first.Server || lost {
			continue
		}
		asking.Go(func() {
			s, err := a.statusAt(ctx, server.Client, request)
			if err != nil {
				return // it counts as not up
			}
			mu.Lock()
			answers[s.Server] = s
			mu.Unlock()
		})
	}
	asking.Wait()
	return answers, nil
}

// StatusAt asks one server, once.
func (a *Admin) StatusAt(ctx context.Context, address string) (*Status, error) {
	return a.statusAt(ctx, address, &perdurepb.StatusRequest{})
}

func (a *Admin) statusAt(ctx context.Context, address string, request *perdurepb.StatusRequest) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	r, _, err := askAt(ctx, a.c, address, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.StatusResponse, error) {
		return admin.Status(ctx, request)
	})
	if err != nil {
		return nil, during(err, "status of %s", address)
	}
	return statusOf(r), nil
}

// merge puts the answers of several servers together.
func merge(answers map[string]*Status) *Status {
	merged := &Status{}
	servers := map[string]ServerStatus{}
	clusters := map[string][]*ClusterStatus{} // by name, each with who answered
	said := map[*ClusterStatus]*Status{}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		s := answers[name]
		if merged.Realm == "" || s.Revision > merged.Revision {
			merged.Realm, merged.RealmID, merged.Revision = s.Realm, s.RealmID, s.Revision
		}
		for _, server := range s.Servers {
			if _, known := servers[server.Name]; !known || server.Name == s.Server {
				server.Up = answers[server.Name] != nil
				servers[server.Name] = server
			}
		}
		for i := range s.Clusters {
			c := &s.Clusters[i]
			clusters[c.Name] = append(clusters[c.Name], c)
			said[c] = s
		}
	}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		server := servers[name]
		if own := answers[name]; own != nil {
			server.Process = own.Process
		}
		merged.Servers = append(merged.Servers, server)
	}
	slices.SortStableFunc(merged.Servers, func(a, b ServerStatus) int { return cmp.Compare(a.ID, b.ID) })
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		merged.Clusters = append(merged.Clusters, mergeCluster(clusters[name], said))
	}
	slices.SortStableFunc(merged.Clusters, func(a, b ClusterStatus) int { return cmp.Compare(a.ID, b.ID) })
	return merged
}

// mergeCluster puts what several servers said of a cluster together. Who has
// seen the highest term, and in it a leader, is right about who leads.
func mergeCluster(views []*ClusterStatus, said map[*ClusterStatus]*Status) ClusterStatus {
	best := slices.MaxFunc(views, func(a, b *ClusterStatus) int {
		return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(min(1, len(a.Leader)), min(1, len(b.Leader))))
	})
	c := *best
	c.Services = slices.Clone(best.Services)
	c.Warnings = nil
	for i := range c.Services {
		service := &c.Services[i]
		answered := false
		for _, v := range views {
			if said[v].Server != service.Server {
				continue
			}
			for _, own := range v.Services {
				if own.Name == service.Name {
					*service, answered = own, true
				}
			}
		}
		if !answered {
			service.StateHash = ""
			if service.State != "fenced" {
				service.State = "unknown"
			}
		}
	}
	applied := func(v *ClusterStatus) (n uint64) {
		for _, s := range v.Services {
			if s.Server == said[v].Server {
				n = max(n, s.Applied)
			}
		}
		return n
	}
	told := slices.MaxFunc(views, func(a, b *ClusterStatus) int {
		if lead := btoi(said[a].Server == c.Leader) - btoi(said[b].Server == c.Leader); lead != 0 {
			return lead
		}
		return cmp.Or(cmp.Compare(min(1, len(a.Stores)), min(1, len(b.Stores))), cmp.Compare(applied(a), applied(b)))
	})
	c.Stores, c.Suspended = told.Stores, told.Suspended
	for _, v := range views {
		for _, w := range v.Warnings {
			if !slices.Contains(c.Warnings, w) {
				c.Warnings = append(c.Warnings, w)
			}
		}
	}
	return c
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func statusOf(r *perdurepb.StatusResponse) *Status {
	s := &Status{
		Realm: r.Realm, RealmID: r.RealmId, Revision: r.Revision, Server: r.Server, Version: r.Version,
		Servers: []ServerStatus{}, Clusters: []ClusterStatus{},
	}
	for _, p := range r.Servers {
		s.Servers = append(s.Servers, ServerStatus{
			ID: p.Id, Name: p.Name, Client: p.Client, Peer: p.Peer, Ops: p.Ops, Up: p.Up, Core: p.Core, Region: p.Region,
		})
	}
	for _, p := range r.Clusters {
		s.Clusters = append(s.Clusters, clusterOf(p))
	}
	if p := r.Process; p != nil {
		s.Process = &ProcessStatus{
			Incarnation: p.Incarnation, Uptime: time.Duration(p.UptimeMs) * time.Millisecond, Fsyncs: p.Fsyncs,
			AllocatedObjects: p.AllocatedObjects, AllocatedBytes: p.AllocatedBytes, GCCycles: p.GcCycles, Goroutines: p.Goroutines,
		}
	}
	return s
}

func clusterOf(p *perdurepb.ClusterStatus) ClusterStatus {
	c := ClusterStatus{
		ID: p.Id, Name: p.Name, Durability: durabilityOf(p.Durability).String(), Leader: p.Leader,
		Epoch: p.Epoch, Term: p.Term, Services: []ServiceStatus{}, Stores: []StoreStatus{}, Warnings: p.Warnings,
		Suspended: p.Suspended,
	}
	for _, v := range p.Services {
		c.Services = append(c.Services, ServiceStatus{
			Name: v.Name, Server: v.Server, State: strings.ToLower(v.State), Applied: v.Applied, LagEntries: v.LagEntries,
			StateHash: v.StateHash, Detail: v.Detail, LastIndex: v.LastIndex, Commit: v.Commit,
		})
	}
	for _, v := range p.Stores {
		store := StoreStatus{
			Name: v.Name, Messages: v.Messages, Bytes: v.Bytes, FirstID: v.FirstId, LastID: v.LastId, Durables: []DurableStatus{},
		}
		for _, d := range v.Durables {
			store.Durables = append(store.Durables, DurableStatus{
				Name: d.Name, Type: d.Type, Pending: d.Pending, Unacked: d.Unacked, Subscribers: d.Subscribers, Matcher: d.Matcher,
			})
		}
		c.Stores = append(c.Stores, store)
	}
	return c
}
