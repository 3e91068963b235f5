package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// planned is a definition of the cluster that was found good.
type planned struct {
	stores []plannedStore // ascending by id
}

type plannedStore struct {
	id       uint64
	spec     storeSpec
	durables []plannedDurable
}

type plannedDurable struct {
	id      uint64
	name    string
	options durable.Options
	matcher *message.Matcher
}

// deploy applies a Deploy: all of it, or nothing if it is not sound. A durable
// keeps kind and matcher for life; a definition that changes them must give it
// another id, which deletes the old one.
func (m *Machine) deploy(c *statepb.Deploy) (Result, error) {
	if c.Revision <= m.revision {
		return Result{Code: Stale, Last: m.revision, Detail: fmt.Sprintf("revision %d is not above %d", c.Revision, m.revision)}, nil
	}
	plan, err := m.plan(c)
	if err != nil {
		return invalid(err.Error()), nil
	}
	if m.suspended && m.deletes(plan) {
		return isSuspended("no definition that deletes a store or a durable is deployed"), nil
	}
	m.revision = c.Revision
	for _, s := range slices.Clone(m.stores) {
		if _, ok := slices.BinarySearchFunc(plan.stores, s.id, plannedStore.compare); !ok {
			m.dropStore(s)
		}
	}
	var taken []string
	for i := range plan.stores {
		names, err := m.deployStore(&plan.stores[i])
		if err != nil {
			return Result{}, err
		}
		taken = append(taken, names...)
	}
	if len(taken) > 0 {
		return Result{Code: NameTaken, Detail: "dynamic durables have these names: " + strings.Join(taken, ", ")}, nil
	}
	return Result{}, nil
}

// Deletes reports whether a Deploy would delete a store or a durable: a suspended
// cluster refuses it then.
func (m *Machine) Deletes(c *statepb.Deploy) bool {
	plan, err := m.plan(c)
	return err == nil && m.deletes(plan)
}

func (m *Machine) deletes(plan planned) bool {
	for _, s := range m.stores {
		i, stays := slices.BinarySearchFunc(plan.stores, s.id, plannedStore.compare)
		if !stays || len(m.missing(s, plan.stores[i].durables)) > 0 {
			return true
		}
	}
	return false
}

func (p plannedStore) compare(id uint64) int   { return cmp.Compare(p.id, id) }
func (p plannedDurable) compare(id uint64) int { return cmp.Compare(p.id, id) }

// plan checks a definition and parses what it says.
func (m *Machine) plan(c *statepb.Deploy) (planned, error) {
	var plan planned
	storeNames, durables := make(map[string]bool), make(map[uint64]bool)
	for _, s := range c.Stores {
		if s.Id == 0 || storeNames[s.Name] {
			return plan, fmt.Errorf("store %d %q: no id, or the name is used twice", s.Id, s.Name)
		}
		if err := message.ValidName(s.Name); err != nil {
			return plan, fmt.Errorf("store %d: %w", s.Id, err)
		}
		storeNames[s.Name] = true
		p := plannedStore{id: s.Id, spec: storeSpec{
			name: s.Name, byteLimit: s.ByteLimit, messageLimit: s.MessageLimit, maxMessage: s.MaxMessageSize,
			noconfirm: s.Noconfirm, dynamicLimit: s.DynamicDurableLimit,
		}}
		for _, t := range s.Templates {
			p.spec.templates = append(p.spec.templates, Template{Name: t.Name, Kind: durableKind(t.Kind), Prefetch: t.Prefetch})
		}
		if err := p.planDurables(m, s, durables); err != nil {
			return plan, fmt.Errorf("store %q: %w", s.Name, err)
		}
		plan.stores = append(plan.stores, p)
	}
	slices.SortFunc(plan.stores, func(a, b plannedStore) int { return a.compare(b.id) })
	for i := 1; i < len(plan.stores); i++ {
		if plan.stores[i].id == plan.stores[i-1].id {
			return plan, fmt.Errorf("store %d is there twice", plan.stores[i].id)
		}
	}
	return plan, nil
}

// planDurables checks the durables of one store; seen are those of others.
func (p *plannedStore) planDurables(m *Machine, s *statepb.Store, seen map[uint64]bool) error {
	names := make(map[string]bool)
	for _, d := range s.Durables {
		if d.Id == 0 || d.Id&dynamicBit != 0 || seen[d.Id] || names[d.Name] {
			return fmt.Errorf("durable %d %q: bad id, or id or name are used twice", d.Id, d.Name)
		}
		if old := m.byID[d.Id]; old != nil && old.store.id != s.Id {
			return fmt.Errorf("durable %d %q belongs to store %q", d.Id, d.Name, old.store.spec.name)
		}
		if err := message.ValidName(d.Name); err != nil {
			return fmt.Errorf("durable %d: %w", d.Id, err)
		}
		seen[d.Id], names[d.Name] = true, true
		options, matcher, err := durable.Options{Kind: durableKind(d.Kind), Matcher: d.Matcher, Prefetch: d.Prefetch}.Canonical()
		if err != nil {
			return fmt.Errorf("durable %q: %w", d.Name, err)
		}
		p.durables = append(p.durables, plannedDurable{id: d.Id, name: d.Name, options: options, matcher: matcher})
	}
	slices.SortFunc(p.durables, func(a, b plannedDurable) int { return a.compare(b.id) })
	return nil
}

// deployStore creates or updates a store, and returns the names of durables
// that it cannot create because dynamic ones have them.
func (m *Machine) deployStore(p *plannedStore) (taken []string, err error) {
	i, ok := findStore(m.stores, p.id)
	if !ok {
		m.stores = slices.Insert(m.stores, i, newStore(p.id))
	}
	s := m.stores[i]
	m.storeTrack.Touch(&s.mark, s.id)
	s.spec = p.spec
	if err := m.dropMissing(s, p.durables); err != nil {
		return nil, err
	}
	blocked := s.blocked(p.durables)
	// Names move between durables: first all are free, then all are given.
	for i, w := range p.durables {
		if d := m.byID[w.id]; d != nil && !blocked[i] {
			delete(s.names, d.name)
		}
	}
	for i, w := range p.durables {
		if blocked[i] {
			taken = append(taken, w.name)
			continue
		}
		d := m.byID[w.id]
		if d == nil {
			d = &durableState{id: w.id, store: s, name: w.name, track: &m.durableTrack, options: w.options, matcher: w.matcher}
			m.link(d)
		}
		d.touch()
		d.name, d.options.Prefetch = w.name, w.options.Prefetch
		s.names[d.name] = d
	}
	return taken, nil
}

// blocked says which of want cannot have their names: a dynamic durable has it,
// or one that cannot give it up because it is blocked itself.
func (s *storeState) blocked(want []plannedDurable) []bool {
	blocked := make([]bool, len(want))
	for again := true; again; {
		again = false
		for i, w := range want {
			other := s.names[w.name]
			if blocked[i] || other == nil || other.id == w.id {
				continue
			}
			j, planned := slices.BinarySearchFunc(want, other.id, plannedDurable.compare)
			if !planned || blocked[j] {
				blocked[i], again = true, true
			}
		}
	}
	return blocked
}

// missing returns the static durables of s that are not in want.
func (m *Machine) missing(s *storeState, want []plannedDurable) (missing []*durableState) {
	m.each(s, func(d *durableState) {
		if _, ok := slices.BinarySearchFunc(want, d.id, plannedDurable.compare); !ok && !d.dynamic {
			missing = append(missing, d)
		}
	})
	return missing
}

// dropMissing deletes the static durables of s that are not in want.
func (m *Machine) dropMissing(s *storeState, want []plannedDurable) error {
	for _, d := range m.missing(s, want) {
		if err := m.dropDurable(d); err != nil {
			return err
		}
	}
	return nil
}

func newStore(id uint64) *storeState {
	return &storeState{id: id, names: make(map[string]*durableState)}
}

// dropStore deletes s and everything in it.
func (m *Machine) dropStore(s *storeState) {
	var all []*durableState
	m.each(s, func(d *durableState) { all = append(all, d) })
	for _, d := range all {
		m.dropPages(d)
		m.unlink(d)
	}
	s.index.each(func(b *batch) { m.entries.drop(b.entry, m.applied) })
	m.dropIndex(s)
	m.endSessions(s.id)
	m.storeTrack.Drop(&s.mark, s.id)
	if i, ok := findStore(m.stores, s.id); ok {
		m.stores = slices.Delete(m.stores, i, i+1)
	}
}
