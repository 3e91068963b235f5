package catalog

import (
	"cmp"
	"fmt"
	"slices"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

// Loaded ends loading: it checks that the pages belong together and reads the
// newest definition. applied is the index of the last entry in the state.
func (m *Machine) Loaded(applied uint64) error {
	slices.SortFunc(m.revisions, func(a, b Revision) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortFunc(m.clusters, func(a, b *statepb.CatalogCluster) int { return cmp.Compare(a.GetId(), b.GetId()) })
	slices.SortFunc(m.endpoints, func(a, b *statepb.CatalogEndpoint) int { return cmp.Compare(a.GetId(), b.GetId()) })
	slices.SortFunc(m.servers, func(a, b *statepb.CatalogServer) int { return cmp.Compare(a.GetId(), b.GetId()) })
	m.current, m.defined, m.view = nil, nil, nil
	if m.newest != nil {
		m.current = definition(m.newest.GetDefinition())
		if err := m.current.Validate(); err != nil {
			return fmt.Errorf("catalog: revision %d at index %d is not valid: %w", m.newest.GetNumber(), applied, err)
		}
		m.newest = nil
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("catalog: state at index %d: %w; the state is damaged, replace this replica", applied, err)
	}
	return nil
}

// check reports the first thing in the state that contradicts another, so that
// nothing later meets it.
func (m *Machine) check() error {
	newest := uint64(0)
	if n := len(m.revisions); n > 0 {
		newest = m.revisions[n-1].Number
	}
	if newest != m.meta.GetRevision() {
		return fmt.Errorf("the newest revision is %d, not %d", newest, m.meta.GetRevision())
	}
	if n := len(m.meta.GetRealmId()); n != 0 && n != 16 {
		return fmt.Errorf("the realm id has %d bytes", n)
	}
	if m.current == nil {
		if len(m.clusters)+len(m.endpoints) > 0 {
			return fmt.Errorf("there are ids without a definition")
		}
	} else if err := m.checkNames(); err != nil {
		return err
	}
	for _, s := range m.servers {
		if s.GetId() == 0 || s.GetId() > m.meta.GetLastServer() {
			return fmt.Errorf("server %q has id %d, the highest given is %d", s.GetName(), s.GetId(), m.meta.GetLastServer())
		}
	}
	return nil
}

// checkNames checks that exactly what is defined has ids.
func (m *Machine) checkNames() error {
	if len(m.clusters) != len(m.current.Clusters) || len(m.endpoints) != len(m.current.Endpoints) {
		return fmt.Errorf("%d clusters and %d endpoints have ids, %d and %d are defined",
			len(m.clusters), len(m.endpoints), len(m.current.Clusters), len(m.current.Endpoints))
	}
	named := make(map[string]bool, len(m.clusters))
	for _, c := range m.clusters {
		named[c.GetName()] = true
	}
	if len(named) != len(m.clusters) {
		return fmt.Errorf("two clusters have one name")
	}
	for _, e := range m.endpoints {
		if m.names().endpoints[e.GetName()] == nil || e.GetId() > m.meta.GetLastEndpoint() {
			return fmt.Errorf("endpoint %q has id %d but no definition", e.GetName(), e.GetId())
		}
	}
	for _, c := range m.clusters {
		defined := m.names().clusters[c.GetName()]
		switch {
		case defined == nil || c.GetId() > m.meta.GetLastCluster():
			return fmt.Errorf("cluster %q has id %d but no definition", c.GetName(), c.GetId())
		case len(c.GetStores()) != len(defined.Stores) || len(c.GetReplicas()) != len(defined.Services):
			return fmt.Errorf("cluster %q has ids for other stores or services than are defined", c.GetName())
		}
		for _, r := range c.GetReplicas() {
			if service(defined, r.GetService()) == nil || r.GetId() > c.GetLastReplica() {
				return fmt.Errorf("cluster %q has replica %d of service %q, which is not defined", c.GetName(), r.GetId(), r.GetService())
			}
		}
		for i, s := range c.GetStores() {
			if s.GetName() != defined.Stores[i].Name || len(s.GetDurables()) != len(defined.Stores[i].Durables) || s.GetId() > m.meta.GetLastStore() {
				return fmt.Errorf("store %q has ids for other durables than are defined", s.GetName())
			}
			for j, d := range s.GetDurables() {
				if d.GetName() != defined.Stores[i].Durables[j].Name || d.GetId() > m.meta.GetLastDurable() {
					return fmt.Errorf("durable %q of store %q has id %d but no definition", d.GetName(), s.GetName(), d.GetId())
				}
			}
		}
	}
	return nil
}

func service(c *realm.Cluster, name string) *realm.Service {
	for i := range c.Services {
		if c.Services[i].Name == name {
			return &c.Services[i]
		}
	}
	return nil
}
