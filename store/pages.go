package store

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/perdure/perdure/durable"
)

// Kinds of pages: the first byte of a key.
const (
	pageMeta    = 1
	pageStore   = 2
	pageDurable = 3
	pagePending = 4
	pageCounts  = 5
	pageIndex   = 6
	pageSession = 7
	pageLoad    = 8

	// pageStaged is added to the kinds of the pages of what is being loaded.
	pageStaged = 64
)

// Sources of pages that belong to the machine as a whole.
type (
	metaPages    struct{ *Machine }
	storePages   struct{ *Machine }
	durablePages struct{ *Machine }
)

func (s metaPages) AppendPage(dst []byte, _ uint64) ([]byte, *durable.Mark) {
	return s.appendTo(dst), &s.metaMark
}

func (s storePages) AppendPage(dst []byte, id uint64) ([]byte, *durable.Mark) {
	x := s.store(id)
	if x == nil {
		return dst, nil
	}
	return x.appendTo(dst), &x.mark
}

func (s durablePages) AppendPage(dst []byte, id uint64) ([]byte, *durable.Mark) {
	d := s.byID[id]
	if d == nil {
		return dst, nil
	}
	return d.appendTo(dst), &d.pageMark
}

// AppendPage implements [durable.Source].
func (l *sessions) AppendPage(dst []byte, id uint64) ([]byte, *durable.Mark) {
	x := l.byID[id]
	if x == nil {
		return dst, nil
	}
	return x.appendTo(dst), &x.mark
}

// AppendPage implements [durable.Source].
func (x *index) AppendPage(dst []byte, number uint64) ([]byte, *durable.Mark) {
	i, ok := slices.BinarySearchFunc(x.pages, number, func(p *indexPage, number uint64) int {
		switch {
		case p.number < number:
			return -1
		case p.number > number:
			return 1
		}
		return 0
	})
	if !ok {
		return dst, nil
	}
	return x.pages[i].appendTo(dst), &x.pages[i].mark
}

// sources calls visit with everything that holds pages, in the order of keys
// within each kind.
func (m *Machine) sources(visit func(kind byte, owner uint64, t *durable.Tracker, s durable.Source)) {
	visit(pageMeta, 0, &m.metaTrack, metaPages{m})
	visit(pageStore, 0, &m.storeTrack, storePages{m})
	visit(pageDurable, 0, &m.durableTrack, durablePages{m})
	for _, d := range m.durables {
		visit(pagePending, d.id, d.pending.Tracker(), &d.pending)
		visit(pageCounts, d.id, d.counts.Tracker(), &d.counts)
	}
	for _, s := range m.stores {
		visit(pageIndex, s.id, &s.index.track, &s.index)
	}
	visit(pageSession, 0, &m.sessions.track, &m.sessions)
	visit(pageLoad, 0, &m.loads.track, &m.loads)
	if g := m.loads.staged; g != nil {
		g.state.sources(func(kind byte, owner uint64, t *durable.Tracker, s durable.Source) {
			visit(kind|pageStaged, owner, t, s)
		})
	}
}

// Changed yields key and value of the pages that changed since it was last
// called, a nil value for a page that is gone. The slices are valid during the
// call of yield only.
func (m *Machine) Changed(yield func(key, value []byte)) {
	slices.SortFunc(m.gone, func(a, b [durable.KeyLen]byte) int { return bytes.Compare(a[:], b[:]) })
	m.gone = slices.Compact(m.gone)
	for i := range m.gone {
		if !m.has(m.gone[i][:]) {
			yield(m.gone[i][:], nil)
		}
	}
	m.gone = m.gone[:0]
	m.sources(func(kind byte, owner uint64, t *durable.Tracker, s durable.Source) {
		if t.Unsaved() {
			m.buf = t.Changed(kind, owner, s, m.buf, yield)
		}
	})
}

// Hash returns the hash of the state: the sum over all pages of the hash of key
// and content. It is equal on replicas with equal state, and looks only at
// pages that changed since it was last called.
func (m *Machine) Hash() uint64 {
	var sum uint64
	m.sources(func(kind byte, owner uint64, t *durable.Tracker, s durable.Source) {
		var part uint64
		part, m.buf = t.Hash(kind, owner, s, m.buf)
		sum += part
	})
	return sum
}

// has reports whether there is a page with the key of a pending set, of counts
// or of an index: an owner may be deleted and come again between checkpoints.
func (m *Machine) has(key []byte) bool {
	kind, owner, page, _ := durable.ParseKey(key)
	if kind&pageStaged != 0 {
		return m.loads.has(kind, owner, page)
	}
	var mark *durable.Mark
	switch d, s := m.byID[owner], m.store(owner); {
	case kind == pagePending && d != nil:
		m.buf, mark = d.pending.AppendPage(m.buf[:0], page)
	case kind == pageCounts && d != nil:
		m.buf, mark = d.counts.AppendPage(m.buf[:0], page)
	case kind == pageIndex && s != nil:
		m.buf, mark = s.index.AppendPage(m.buf[:0], page)
	}
	return mark != nil
}

// forgetPage notes that a page goes together with its owner.
func (m *Machine) forgetPage(kind byte, owner uint64) func(page uint64) {
	return func(page uint64) {
		m.gone = append(m.gone, [durable.KeyLen]byte(durable.AppendKey(m.scratch.key[:0], kind, owner, page)))
	}
}

// dropPages forgets every page of d.
func (m *Machine) dropPages(d *durableState) {
	pending, counts := m.forgetPage(pagePending, d.id), m.forgetPage(pageCounts, d.id)
	d.pending.Pages(pending)
	d.pending.Tracker().Keys(pending)
	d.counts.Pages(counts)
	d.counts.Tracker().Keys(counts)
	m.durableTrack.Drop(&d.pageMark, d.id)
}

// dropIndex forgets every page of the index of s.
func (m *Machine) dropIndex(s *storeState) {
	forget := m.forgetPage(pageIndex, s.id)
	for _, p := range s.index.pages {
		forget(p.number)
	}
	s.index.track.Keys(forget)
	s.index = index{}
}

// LoadPage takes a page that [Machine.Changed] of an equal machine yielded, in
// any order. It keeps nothing of key and value. Loaded must follow.
func (m *Machine) LoadPage(key, value []byte) error {
	kind, owner, page, ok := durable.ParseKey(key)
	if !ok {
		return fmt.Errorf("%w: page key %x", ErrState, key)
	}
	var err error
	switch kind {
	case pageLoad:
		err = m.loads.decode(value)
	case pageMeta:
		err = m.loadMeta(value)
	case pageStore:
		err = m.loadStore(page, value)
	case pageDurable:
		err = m.loadDurable(page, value)
	case pagePending:
		err = m.loading(owner).pending.LoadPage(page, value)
	case pageCounts:
		err = m.loading(owner).counts.LoadPage(page, value)
	case pageIndex:
		err = m.loadingStore(owner).index.load(page, value)
	case pageSession:
		err = m.loadSession(page, value)
	default:
		if kind&pageStaged == 0 {
			err = fmt.Errorf("kind %d is not known", kind)
			break
		}
		if m.loads.staged == nil {
			m.loads.staged = newStaging()
		}
		return m.loads.staged.state.LoadPage(append([]byte{kind &^ pageStaged}, key[1:]...), value)
	}
	if err != nil {
		return fmt.Errorf("%w: page %d of kind %d, owner %d: %w", ErrState, page, kind, owner, err)
	}
	return nil
}
