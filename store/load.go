package store

import (
	"cmp"
	"fmt"
	"slices"
)

// While pages are loaded, a durable or store may first be heard of by a page
// that it owns. It stands in byID or stores until its own page comes; Loaded
// finds those for which none came, by their empty names.

func (m *Machine) loading(id uint64) *durableState {
	d := m.byID[id]
	if d == nil {
		d = &durableState{id: id, track: &m.durableTrack}
		m.byID[id] = d
		m.durables = append(m.durables, d)
	}
	return d
}

func (m *Machine) loadingStore(id uint64) *storeState {
	i, ok := findStore(m.stores, id)
	if !ok {
		m.stores = slices.Insert(m.stores, i, newStore(id))
	}
	return m.stores[i]
}

func (m *Machine) loadMeta(value []byte) error {
	m.metaTrack.Loaded(&m.metaMark, 0)
	return m.meta.decode(value)
}

func (m *Machine) loadStore(id uint64, value []byte) error {
	s := m.loadingStore(id)
	m.storeTrack.Loaded(&s.mark, id)
	return s.decode(value)
}

func (m *Machine) loadDurable(id uint64, value []byte) error {
	d := m.loading(id)
	m.durableTrack.Loaded(&d.pageMark, id)
	store, err := d.decode(value)
	if err != nil {
		return err
	}
	d.store = m.loadingStore(store)
	return nil
}

func (m *Machine) loadSession(id uint64, value []byte) error {
	x := &session{id: id}
	if m.sessions.byID[id] != nil {
		return fmt.Errorf("session is there twice")
	}
	m.sessions.byID[id] = x
	m.sessions.track.Loaded(&x.mark, id)
	m.sessions.loaded = append(m.sessions.loaded, x)
	return x.decode(value)
}

func (x *index) load(number uint64, value []byte) error {
	p, err := loadPage(number, value)
	if err != nil {
		return err
	}
	x.pages = append(x.pages, p)
	x.track.Loaded(&p.mark, number)
	return nil
}

// Loaded ends loading: it checks that the pages fit each other and builds what
// is not saved. applied is the entry at which the pages were taken.
func (m *Machine) Loaded(applied uint64) error {
	lives := []uint64{}
	if err := m.loadedState(applied, &lives); err != nil {
		return err
	}
	slices.Sort(lives)
	for _, index := range lives {
		m.entries.add(index)
	}
	return nil
}

// LoadedToSave is Loaded of a machine that is only read: it does not know which
// entries are needed, which takes memory for each of them.
func (m *Machine) LoadedToSave(applied uint64) error { return m.loadedState(applied, nil) }

// loadedState is Loaded but for the entries, which it adds to lives if that is not
// nil.
func (m *Machine) loadedState(applied uint64, lives *[]uint64) error {
	m.applied = applied
	if err := m.loaded(applied, lives, true); err != nil {
		return err
	}
	if g := m.loads.staged; g != nil {
		if g.load == 0 {
			return fmt.Errorf("%w: there are pages of a load that is not there", ErrState)
		}
		if err := g.state.loaded(applied, lives, false); err != nil {
			return fmt.Errorf("load %016x: %w", g.load, err)
		}
		if err := g.loaded(); err != nil {
			return fmt.Errorf("%w: load %016x: %w", ErrState, g.load, err)
		}
	}
	return nil
}

// loaded ends loading but for entries, which it adds to lives if that is not nil.
// whole is false for what of a saved state has come so far.
func (m *Machine) loaded(applied uint64, lives *[]uint64, whole bool) error {
	for _, s := range m.stores {
		if s.spec.name == "" {
			return fmt.Errorf("%w: store %d has pages but is not there", ErrState, s.id)
		}
		if err := s.index.loaded(s, applied, lives); err != nil {
			return err
		}
	}
	if err := m.loadedDurables(); err != nil {
		return err
	}
	if err := m.loadedSessions(); err != nil || !whole {
		return err
	}
	live := make([]uint64, len(m.stores))
	for i, s := range m.stores {
		s.index.each(func(b *batch) { live[i] += b.live })
	}
	if err := m.agrees(live); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// agrees says whether what is pending in the durables is what they count, and what
// the indexes of the stores hold: so many pairs of a durable and a message.
func (m *Machine) agrees(live []uint64) error {
	pairs := make([]uint64, len(m.stores))
	for _, d := range m.durables {
		if d.matched < d.acked || d.matched-d.acked != d.pending.Len() {
			return fmt.Errorf("durable %q wanted %d messages, %d were settled, %v", d.name, d.matched, d.acked, &d.pending)
		}
		i, _ := findStore(m.stores, d.store.id)
		if pairs[i] += d.pending.Len(); pairs[i] < d.pending.Len() {
			return fmt.Errorf("store %q: more messages are pending than can be, %v in durable %q", d.store.spec.name, &d.pending, d.name)
		}
	}
	for i, s := range m.stores {
		if pairs[i] != live[i] {
			return fmt.Errorf("store %q: %d messages are pending, the index knows %d", s.spec.name, pairs[i], live[i])
		}
	}
	return nil
}

// loadedDurables links the durables.
func (m *Machine) loadedDurables() error {
	loaded := m.durables
	m.durables = nil
	slices.SortFunc(loaded, func(a, b *durableState) int { return cmp.Compare(a.id, b.id) })
	for _, d := range loaded {
		if d.name == "" || d.store == nil || d.store.names[d.name] != nil {
			return fmt.Errorf("%w: durable %d %q has pages but is not there, or its name is used twice", ErrState, d.id, d.name)
		}
		if err := d.pending.Loaded(); err != nil {
			return fmt.Errorf("%w: durable %q: %w", ErrState, d.name, err)
		}
		if d.pending.Last() > d.store.last() {
			return fmt.Errorf("%w: durable %q: %v, the last id is %v", ErrState, d.name, &d.pending, d.store.last())
		}
		m.link(d)
	}
	return nil
}

// loaded puts the pages in order and adds up what they say.
func (x *index) loaded(s *storeState, applied uint64, lives *[]uint64) error {
	slices.SortFunc(x.pages, func(a, b *indexPage) int { return cmp.Compare(a.number, b.number) })
	for i, p := range x.pages {
		if i > 0 && (x.pages[i-1].number == p.number || x.pages[i-1].last >= p.head()) ||
			p.number > x.next/pageBatches || p.last > s.last() {
			return fmt.Errorf("%w: store %q: index page %d does not fit the others", ErrState, s.spec.name, p.number)
		}
	}
	var newest uint64
	x.each(func(b *batch) {
		messages, bytes := b.usage()
		s.messages += messages
		s.bytes += bytes
		newest = max(newest, b.entry)
		if lives != nil {
			*lives = append(*lives, b.entry)
		}
	})
	if newest > applied {
		return fmt.Errorf("%w: the index of store %q knows entry %d, only %d are applied", ErrState, s.spec.name, newest, applied)
	}
	return nil
}

// loadedSessions puts the sessions in the order of their last use.
func (m *Machine) loadedSessions() error {
	l := m.sessions.loaded
	m.sessions.loaded = nil
	slices.SortFunc(l, func(a, b *session) int { return cmp.Compare(a.used, b.used) })
	for i, x := range l {
		if x.used > m.used || x.active > m.running || x.id > m.session || i > 0 && l[i-1].used == x.used || m.store(x.store) == nil {
			return fmt.Errorf("%w: session %d does not fit the others", ErrState, x.id)
		}
		m.sessions.push(x)
	}
	return nil
}
