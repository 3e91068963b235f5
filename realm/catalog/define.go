package catalog

import (
	"bytes"
	"errors"
	"fmt"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
)

// Revision is a definition that was applied.
type Revision struct {
	Number   uint64 // from 1 on
	Stamp    int64  // cluster time, ns since 1970
	File     string
	Document []byte // as applied; not to be changed
}

// define applies a definition.
func (m *Machine) define(c *statepb.CatalogApply, stamp int64) Result {
	if n := len(m.revisions); n > 0 && bytes.Equal(m.revisions[n-1].Document, c.GetDocument()) {
		// Whoever repeats an Apply whose answer was lost must not be told that
		// somebody else was faster.
		return m.result(OK, "")
	}
	if c.GetCheck() && c.GetExpectedRevision() != m.meta.GetRevision() {
		return m.result(Conflict, fmt.Sprintf("the realm is at revision %d, not %d; look at what changed and apply again",
			m.meta.GetRevision(), c.GetExpectedRevision()))
	}
	next := definition(c.GetDefinition())
	if err := next.Validate(); err != nil {
		return invalid(m.meta.GetRevision(), err)
	}
	r := evaluate(m.current, next)
	if r.Code != OK {
		r.Revision = m.meta.GetRevision()
		return r
	}
	m.meta.Revision++
	m.current, m.defined = next, nil
	m.addRevision(Revision{
		Number: m.meta.GetRevision(), Stamp: stamp, File: c.GetFile(), Document: bytes.Clone(c.GetDocument()),
	})
	m.number()
	m.putMeta()
	r.Revision = m.meta.GetRevision()
	return r
}

func (m *Machine) addRevision(r Revision) {
	m.revisions = append(m.revisions, r)
	m.put(revisionKey(r.Number), &statepb.CatalogRevision{
		Number: r.Number, Stamp: r.Stamp, File: r.File, Document: r.Document, Definition: definitionPage(m.current),
	})
}

// evaluate says what going from current to next comes to.
func evaluate(current, next *realm.Realm) Result {
	if problems := realm.CheckChange(current, next); len(problems) > 0 {
		return Result{Code: Invalid, Problems: problems, Detail: "the change is not possible; see the problems"}
	}
	return Result{Code: OK, Changes: realm.Diff(current, next), Problems: next.Warnings()}
}

func invalid(revision uint64, err error) Result {
	r := Result{Code: Invalid, Revision: revision, Detail: "the definition is not valid; see the problems"}
	if problems := (*realm.Problems)(nil); errors.As(err, &problems) {
		r.Problems = *problems
	} else {
		r.Problems = []realm.Problem{{Path: "document", Message: err.Error()}}
	}
	return r
}

// number gives ids to what is new in the current definition and forgets those
// of what is gone.
func (m *Machine) number() {
	old, defined := m.clusters, m.names()
	m.clusters = nil
	known := make(map[string]*statepb.CatalogCluster, len(old))
	for _, was := range old {
		if defined.clusters[was.GetName()] == nil {
			m.remove(clusterKey(was.GetId()))
			continue
		}
		known[was.GetName()] = was
		m.clusters = append(m.clusters, was)
	}
	for i := range m.current.Clusters {
		c := &m.current.Clusters[i]
		m.numberCluster(c, known[c.Name])
	}
	var endpoints []*statepb.CatalogEndpoint
	numbered := map[string]bool{}
	for _, was := range m.endpoints {
		if defined.endpoints[was.GetName()] == nil {
			m.remove(endpointKey(was.GetId()))
			continue
		}
		numbered[was.GetName()] = true
		endpoints = append(endpoints, was)
	}
	m.endpoints = endpoints
	for _, e := range m.current.Endpoints {
		if !numbered[e.Name] {
			m.numberEndpoint(e.Name)
		}
	}
}

// numberCluster numbers what is new of a cluster; page has the ids it has, nil
// if it is new itself.
func (m *Machine) numberCluster(c *realm.Cluster, page *statepb.CatalogCluster) {
	if page == nil {
		m.meta.LastCluster = max(m.meta.GetLastCluster()+1, FirstCluster)
		page = &statepb.CatalogCluster{Id: m.meta.GetLastCluster(), Name: c.Name, Created: m.meta.GetRevision()}
		for _, s := range c.Services {
			page.LastReplica++
			page.Replicas = append(page.Replicas, &statepb.CatalogReplica{Service: s.Name, Id: page.GetLastReplica()})
		}
		m.clusters = append(m.clusters, page)
	}
	stores := make([]*statepb.CatalogStore, 0, len(c.Stores))
	for i := range c.Stores {
		stores = append(stores, m.numberStore(page.GetStores(), &c.Stores[i]))
	}
	page.Stores = stores
	m.put(clusterKey(page.GetId()), page)
}

func (m *Machine) numberStore(old []*statepb.CatalogStore, s *realm.Store) *statepb.CatalogStore {
	var page *statepb.CatalogStore
	for _, was := range old {
		if was.GetName() == s.Name {
			page = was
		}
	}
	if page == nil {
		m.meta.LastStore++
		page = &statepb.CatalogStore{Id: m.meta.GetLastStore(), Name: s.Name, Created: m.meta.GetRevision()}
	}
	known := make(map[string]*statepb.CatalogDurable, len(page.GetDurables()))
	for _, was := range page.GetDurables() {
		known[was.GetName()] = was
	}
	durables := make([]*statepb.CatalogDurable, 0, len(s.Durables))
	for _, d := range s.Durables {
		was := known[d.Name]
		if was == nil {
			m.meta.LastDurable++
			was = &statepb.CatalogDurable{Id: m.meta.GetLastDurable(), Name: d.Name, Created: m.meta.GetRevision()}
		}
		durables = append(durables, was)
	}
	page.Durables = durables
	return page
}

func (m *Machine) numberEndpoint(name string) {
	m.meta.LastEndpoint++
	page := &statepb.CatalogEndpoint{Id: m.meta.GetLastEndpoint(), Name: name, Created: m.meta.GetRevision()}
	m.endpoints = append(m.endpoints, page)
	m.put(endpointKey(page.GetId()), page)
}
