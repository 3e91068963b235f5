package catalog

import (
	"maps"
	"slices"
	"time"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

// definitionPage returns a realm as log and pages hold it. Equal realms give
// equal messages.
func definitionPage(r *realm.Realm) *statepb.CatalogDefinition {
	out := &statepb.CatalogDefinition{Name: r.Name}
	for i := range r.Clusters {
		out.Clusters = append(out.Clusters, clusterDefinition(&r.Clusters[i]))
	}
	for _, e := range r.Endpoints {
		page := &statepb.CatalogDefinedEndpoint{
			Name: e.Name, Store: e.Store, Templates: e.Templates, DefaultDurable: e.DefaultDurable,
		}
		for _, name := range slices.Sorted(maps.Keys(e.Subscribers)) {
			page.Subscribers = append(page.Subscribers, &statepb.CatalogDefinedSubscriber{Name: name, Durable: e.Subscribers[name]})
		}
		out.Endpoints = append(out.Endpoints, page)
	}
	return out
}

func clusterDefinition(c *realm.Cluster) *statepb.CatalogDefinedCluster {
	out := &statepb.CatalogDefinedCluster{
		Name: c.Name, Durability: uint32(c.Durability), Profile: uint32(c.Tuning.Profile),
		BackupEvery: int64(c.Backup.Every), BackupKeep: uint32(c.Backup.Keep),
	}
	for _, t := range times(&c.Tuning) {
		out.Times = append(out.Times, int64(*t))
	}
	for _, s := range c.Services {
		out.Services = append(out.Services, &statepb.CatalogDefinedService{
			Name: s.Name, Server: s.Server, Weight: uint32(s.Weight), Description: s.Description,
		})
	}
	for _, s := range c.Stores {
		page := &statepb.CatalogDefinedStore{
			Name: s.Name, PublisherMode: uint32(s.PublisherMode), ByteLimit: s.ByteLimit, MessageLimit: s.MessageLimit,
			MaxMessageSize: s.MaxMessageSize, DynamicDurableLimit: s.DynamicDurableLimit,
		}
		for _, d := range s.Durables {
			page.Durables = append(page.Durables, &statepb.CatalogDefinedDurable{
				Name: d.Name, Kind: uint32(d.Kind), Matcher: d.Matcher, Prefetch: uint32(d.Prefetch),
			})
		}
		for _, t := range s.Templates {
			page.Templates = append(page.Templates, &statepb.CatalogDefinedDurable{
				Name: t.Name, Kind: uint32(t.Kind), Prefetch: uint32(t.Prefetch),
			})
		}
		out.Stores = append(out.Stores, page)
	}
	return out
}

// times returns the fields of a tuning in the order of the page, which never
// changes; later ones are appended.
func times(t *realm.Tuning) []*time.Duration {
	return []*time.Duration{&t.Tick, &t.Heartbeat, &t.ElectionTimeout, &t.ClientHeartbeat, &t.ClientTimeout, &t.SyncInterval, &t.SuspendGrace}
}

// definition returns the realm of a page. It may be anything: Validate it.
func definition(p *statepb.CatalogDefinition) *realm.Realm {
	r := &realm.Realm{Name: p.GetName()}
	for _, c := range p.GetClusters() {
		r.Clusters = append(r.Clusters, definedCluster(c))
	}
	for _, e := range p.GetEndpoints() {
		out := realm.Endpoint{
			Name: e.GetName(), Store: e.GetStore(), Templates: e.GetTemplates(), DefaultDurable: e.GetDefaultDurable(),
			Subscribers: make(map[string]string, len(e.GetSubscribers())),
		}
		for _, s := range e.GetSubscribers() {
			out.Subscribers[s.GetName()] = s.GetDurable()
		}
		r.Endpoints = append(r.Endpoints, out)
	}
	return r
}

func definedCluster(p *statepb.CatalogDefinedCluster) realm.Cluster {
	c := realm.Cluster{Name: p.GetName(), Durability: realm.Durability(narrow(p.GetDurability()))}
	c.Tuning.Profile = realm.Profile(narrow(p.GetProfile()))
	for i, t := range times(&c.Tuning) {
		if i < len(p.GetTimes()) {
			*t = time.Duration(p.GetTimes()[i])
		}
	}
	c.Backup = realm.Backup{Every: time.Duration(p.GetBackupEvery()), Keep: int(p.GetBackupKeep())}
	for _, s := range p.GetServices() {
		c.Services = append(c.Services, realm.Service{
			Name: s.GetName(), Server: s.GetServer(), Weight: int(s.GetWeight()), Description: s.GetDescription(),
		})
	}
	for _, s := range p.GetStores() {
		out := realm.Store{
			Name: s.GetName(), PublisherMode: realm.PublisherMode(narrow(s.GetPublisherMode())),
			ByteLimit: s.GetByteLimit(), MessageLimit: s.GetMessageLimit(),
			MaxMessageSize: s.GetMaxMessageSize(), DynamicDurableLimit: s.GetDynamicDurableLimit(),
		}
		for _, d := range s.GetDurables() {
			out.Durables = append(out.Durables, realm.Durable{
				Name: d.GetName(), Kind: realm.Kind(narrow(d.GetKind())), Matcher: d.GetMatcher(), Prefetch: int(d.GetPrefetch()),
			})
		}
		for _, t := range s.GetTemplates() {
			out.Templates = append(out.Templates, realm.Template{
				Name: t.GetName(), Kind: realm.Kind(narrow(t.GetKind())), Prefetch: int(t.GetPrefetch()),
			})
		}
		c.Stores = append(c.Stores, out)
	}
	return c
}

// narrow keeps a number that is too great for an enumeration too great.
func narrow(n uint32) uint8 { return uint8(min(n, 255)) }
