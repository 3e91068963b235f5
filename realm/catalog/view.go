package catalog

import (
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

// View is the state at one moment. It never changes, and nothing in it may be
// changed: all goroutines share it.
type View struct {
	Founded bool
	RealmID [16]byte
	Core    []CoreServer

	Revision uint64       // the newest; 0: nothing was applied
	Realm    *realm.Realm // of Revision; nil if that is 0
	Clusters []ClusterView
	// Endpoints are by name.
	Endpoints map[string]EndpointView
	Servers   []Server    // ascending ids
	History   []Revision  // ascending; a decoded view has only the newest
	Claims    []ClaimView // of the realm group

	pages []page // what Encode writes

	// Places in Clusters, so that a thousand clusters cost no search each.
	byID   map[uint64]int
	byName map[string]int
}

// ClusterView is a cluster, which is also a group.
type ClusterView struct {
	ID              uint64
	Name            string
	Durability      realm.Durability
	Tuning          realm.Tuning
	Backup          realm.Backup
	Services        []ServiceView // in the order of the definition
	Stores          []StoreView   // in the order of the definition
	CreatedRevision uint64
}

// ServiceView is a service: the place of one replica.
type ServiceView struct {
	Name        string
	ServerName  string
	ServerID    uint64 // 0 until a server of that name registers
	ReplicaID   uint64 // epoch << 48 | n
	Weight      int
	Description string
	Claimed     bool
	Tag         uint64 // of the claim
}

// ClaimView is a claim on a replica of the realm group.
type ClaimView struct{ Replica, Server, Tag uint64 }

// StoreView is a store.
type StoreView struct {
	ID                  uint64
	Name                string
	PublisherMode       realm.PublisherMode
	ByteLimit           int64 // 0: none
	MessageLimit        int64 // 0: none
	MaxMessageSize      int64
	DynamicDurableLimit int64 // 0: none
	Durables            []DurableView
	Templates           []realm.Template // without the built-in ones
	CreatedRevision     uint64
}

// DurableView is a static durable.
type DurableView struct {
	ID              uint64
	Name            string
	Kind            realm.Kind
	Matcher         string // canonical; empty: every message
	Prefetch        int
	CreatedRevision uint64
}

// EndpointView is an endpoint with all that it refers to.
type EndpointView struct {
	ID              uint64
	Name            string
	ClusterID       uint64
	Cluster         string
	StoreID         uint64
	Store           string
	Templates       []realm.Template // resolved, at most one of each kind
	DefaultDurable  string           // empty: none
	Subscribers     map[string]string
	CreatedRevision uint64
}

// Template returns the endpoint's template for durables of a kind.
func (e EndpointView) Template(k realm.Kind) (realm.Template, bool) {
	for _, t := range e.Templates {
		if t.Kind == k {
			return t, true
		}
	}
	return realm.Template{}, false
}

// Durable returns the static durable of that name, or nil.
func (s *StoreView) Durable(name string) *DurableView {
	for i := range s.Durables {
		if s.Durables[i].Name == name {
			return &s.Durables[i]
		}
	}
	return nil
}

// Store returns the store of that id, or nil.
func (c *ClusterView) Store(id uint64) *StoreView {
	for i := range c.Stores {
		if c.Stores[i].ID == id {
			return &c.Stores[i]
		}
	}
	return nil
}

// Cluster returns the cluster of that name, or nil.
func (v *View) Cluster(name string) *ClusterView {
	if i, ok := v.byName[name]; ok {
		return &v.Clusters[i]
	}
	return nil
}

// ClusterByID returns the cluster of that id, or nil.
func (v *View) ClusterByID(id uint64) *ClusterView {
	if i, ok := v.byID[id]; ok {
		return &v.Clusters[i]
	}
	return nil
}

// Store returns the store of that id and its cluster, or nil.
func (v *View) Store(id uint64) (*ClusterView, *StoreView) {
	for i := range v.Clusters {
		if s := v.Clusters[i].Store(id); s != nil {
			return &v.Clusters[i], s
		}
	}
	return nil, nil
}

// Server returns the server of that name.
func (v *View) Server(name string) (Server, bool) {
	for _, s := range v.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

// ServerByID returns the server of that id.
func (v *View) ServerByID(id uint64) (Server, bool) {
	for _, s := range v.Servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}

// At returns a revision, 0 being the newest.
func (v *View) At(revision uint64) (Revision, bool) {
	if revision == 0 {
		revision = v.Revision
	}
	for i := len(v.History) - 1; i >= 0; i-- {
		if v.History[i].Number == revision {
			return v.History[i], true
		}
	}
	return Revision{}, false
}

// Plan says what an Apply of the document would come to, and changes nothing.
// Its problems have lines, those of applying have only paths. It may take long:
// see [Apply.Encode].
func (v *View) Plan(file string, document []byte) Result {
	next, err := realm.Parse(file, document)
	if err != nil {
		return invalid(v.Revision, err)
	}
	r := evaluate(v.Realm, next)
	r.Revision = v.Revision
	return r
}

// View returns the state as it is now. As long as nothing changes it is the
// same pointer.
func (m *Machine) View() *View {
	if m.view != nil {
		return m.view
	}
	v := &View{
		Founded:   len(m.meta.GetRealmId()) > 0,
		Revision:  m.meta.GetRevision(),
		Realm:     m.current,
		Endpoints: make(map[string]EndpointView, len(m.endpoints)),
		History:   m.revisions[:len(m.revisions):len(m.revisions)],
		pages:     m.viewPages(),
	}
	copy(v.RealmID[:], m.meta.GetRealmId())
	for _, c := range m.meta.GetCore() {
		v.Core = append(v.Core, CoreServer{Name: c.GetName(), Peer: c.GetPeer()})
	}
	for _, c := range m.meta.GetClaims() {
		v.Claims = append(v.Claims, ClaimView{Replica: c.GetReplica(), Server: c.GetServer(), Tag: c.GetTag()})
	}
	for _, s := range m.servers {
		v.Servers = append(v.Servers, serverOf(s))
	}
	defined := m.names()
	v.Clusters = make([]ClusterView, 0, len(m.clusters))
	v.byID, v.byName = make(map[uint64]int, len(m.clusters)), make(map[string]int, len(m.clusters))
	for i, c := range m.clusters {
		v.Clusters = append(v.Clusters, m.viewCluster(c, defined.clusters[c.GetName()]))
		v.byID[c.GetId()], v.byName[c.GetName()] = i, i
	}
	for _, e := range m.endpoints {
		v.Endpoints[e.GetName()] = v.viewEndpoint(e, defined)
	}
	m.view = v
	return v
}

// names find what a definition has by name, for what looks at all of it.
type names struct {
	clusters  map[string]*realm.Cluster
	endpoints map[string]*realm.Endpoint
	stores    map[string]placedStore
}

// placedStore is a store and where it is.
type placedStore struct {
	cluster *realm.Cluster
	store   *realm.Store
}

// newNames returns the names of r, which may be nil.
func newNames(r *realm.Realm) names {
	n := names{map[string]*realm.Cluster{}, map[string]*realm.Endpoint{}, map[string]placedStore{}}
	if r == nil {
		return n
	}
	for i := range r.Clusters {
		c := &r.Clusters[i]
		n.clusters[c.Name] = c
		for k := range c.Stores {
			n.stores[c.Stores[k].Name] = placedStore{c, &c.Stores[k]}
		}
	}
	for i := range r.Endpoints {
		n.endpoints[r.Endpoints[i].Name] = &r.Endpoints[i]
	}
	return n
}

func (m *Machine) viewCluster(page *statepb.CatalogCluster, c *realm.Cluster) ClusterView {
	out := ClusterView{
		ID: page.GetId(), Name: c.Name, Durability: c.Durability, Tuning: c.Tuning, Backup: c.Backup,
		CreatedRevision: page.GetCreated(),
	}
	for _, s := range c.Services {
		out.Services = append(out.Services, m.viewService(page, s))
	}
	for i := range c.Stores {
		out.Stores = append(out.Stores, viewStore(page.GetStores()[i], &c.Stores[i]))
	}
	return out
}

func (m *Machine) viewService(page *statepb.CatalogCluster, s realm.Service) ServiceView {
	out := ServiceView{
		Name: s.Name, ServerName: s.Server, ServerID: m.serverID(s.Server),
		Weight: s.Weight, Description: s.Description,
	}
	for _, r := range page.GetReplicas() {
		if r.GetService() == s.Name {
			out.ReplicaID = r.GetId()
		}
	}
	for _, c := range page.GetClaims() {
		if c.GetReplica() == out.ReplicaID {
			out.Claimed, out.Tag = true, c.GetTag()
		}
	}
	return out
}

func viewStore(page *statepb.CatalogStore, s *realm.Store) StoreView {
	out := StoreView{
		ID: page.GetId(), Name: s.Name, PublisherMode: s.PublisherMode,
		ByteLimit: s.ByteLimit, MessageLimit: s.MessageLimit,
		MaxMessageSize: s.MaxMessageSize, DynamicDurableLimit: s.DynamicDurableLimit,
		Templates: s.Templates, CreatedRevision: page.GetCreated(),
	}
	for i, d := range s.Durables {
		p := page.GetDurables()[i]
		out.Durables = append(out.Durables, DurableView{
			ID: p.GetId(), Name: d.Name, Kind: d.Kind, Matcher: d.Matcher,
			Prefetch: d.Prefetch, CreatedRevision: p.GetCreated(),
		})
	}
	return out
}

func (v *View) viewEndpoint(page *statepb.CatalogEndpoint, defined *names) EndpointView {
	e := defined.endpoints[page.GetName()]
	out := EndpointView{
		ID: page.GetId(), Name: e.Name, Store: e.Store, DefaultDurable: e.DefaultDurable,
		Subscribers: e.Subscribers, CreatedRevision: page.GetCreated(),
	}
	at := defined.stores[e.Store]
	for _, name := range e.Templates {
		if t, ok := at.store.Template(name); ok {
			out.Templates = append(out.Templates, t)
		}
	}
	cluster := v.Cluster(at.cluster.Name)
	out.Cluster, out.ClusterID = cluster.Name, cluster.ID
	for i := range cluster.Stores {
		if cluster.Stores[i].Name == e.Store {
			out.StoreID = cluster.Stores[i].ID
		}
	}
	return out
}
