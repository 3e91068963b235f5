package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/perdure/perdure/message"
)

// check reports the first broken invariant of m, recomputing everything.
func (m *Machine) check() error {
	entryLives := make(map[uint64]uint32)
	for _, s := range m.stores {
		if err := m.checkStore(s, entryLives); err != nil {
			return fmt.Errorf("store %q: %w", s.spec.name, err)
		}
	}
	if g := m.loads.staged; g != nil {
		for _, s := range g.state.stores {
			if err := s.index.check(); err != nil {
				return fmt.Errorf("staged store %q: %w", s.spec.name, err)
			}
			s.index.each(func(b *batch) { entryLives[b.entry]++ })
		}
		if err := g.state.checkSessions(); err != nil {
			return fmt.Errorf("staged: %w", err)
		}
	}
	if err := m.entries.check(entryLives); err != nil {
		return err
	}
	return m.checkSessions()
}

// check compares what e counts with the truth.
func (e *entries) check(lives map[uint64]uint32) error {
	live := 0
	for i, c := range e.chunks {
		some := 0
		for k, n := range c.live {
			if index := c.number*chunkEntries + uint64(k); n != lives[index] {
				return fmt.Errorf("entry %d: live is %d, has %d batches", index, n, lives[index])
			}
			if n > 0 {
				some++
			}
		}
		if some == 0 || some != c.some || i > 0 && e.chunks[i-1].number >= c.number {
			return fmt.Errorf("chunk %d counts %d live entries, has %d, or is out of order", c.number, c.some, some)
		}
		live += some
	}
	if live != len(lives) {
		return fmt.Errorf("%d entries are live, %d known", len(lives), live)
	}
	return nil
}

// check tells whether the pages of x are as they should be.
func (x *index) check() error {
	open := 0
	for i, p := range x.pages {
		if (p.batches == nil) == (p.closed == nil) || p.len() == 0 || i > 0 && x.pages[i-1].number >= p.number {
			return fmt.Errorf("index page %d is open and closed, empty or out of order", p.number)
		}
		if p.batches != nil {
			if open++; x.hot[p.at] != p {
				return fmt.Errorf("index page %d is open and not hot", p.number)
			}
		}
	}
	hot := 0
	for _, p := range x.hot {
		if p != nil {
			hot++
		}
	}
	if hot != open {
		return fmt.Errorf("%d index pages are open, %d hot", open, hot)
	}
	return nil
}

func (m *Machine) checkStore(s *storeState, entryLives map[uint64]uint32) error {
	pairs := make(map[message.ID]uint64)
	var dynamic uint32
	for _, d := range m.durables {
		if d.store != s {
			continue
		}
		if d.matched != d.acked+d.pending.Len() {
			return fmt.Errorf("durable %q: matched %d, acked %d, pending %d", d.name, d.matched, d.acked, d.pending.Len())
		}
		if m.byID[d.id] != d || s.names[d.name] != d || len(d.scratch) > 0 {
			return fmt.Errorf("durable %q is not linked as it should be", d.name)
		}
		if d.dynamic {
			dynamic++
		}
		d.pending.Runs(0, ^message.ID(0), func(first message.ID, n uint64) bool {
			for k := range n {
				pairs[first+message.ID(k)]++
			}
			return true
		})
	}
	if dynamic != s.dynamic {
		return fmt.Errorf("%d dynamic durables, counted %d", dynamic, s.dynamic)
	}
	var messages, bytes, sum uint64
	prev := message.ID(0)
	err := s.index.check()
	s.index.each(func(b *batch) {
		if b.first <= prev || b.last() > s.last() {
			err = fmt.Errorf("batch %v after %v, last id is %v", b.first, prev, s.last())
		}
		prev = b.last()
		var want uint64
		for id := b.first; id <= b.last(); id++ {
			want += pairs[id]
		}
		if b.live != want || want == 0 {
			err = fmt.Errorf("batch %v: live is %d, %d pairs are pending", b.first, b.live, want)
		}
		sum += want
		entryLives[b.entry]++
		m0, b0 := b.usage()
		messages, bytes = messages+m0, bytes+b0
	})
	if err != nil {
		return err
	}
	if messages != s.messages || bytes != s.bytes {
		return fmt.Errorf("accounts %d messages and %d bytes, holds %d and %d", s.messages, s.bytes, messages, bytes)
	}
	var all uint64
	for _, n := range pairs {
		all += n
	}
	if all != sum {
		return fmt.Errorf("%d pairs are pending, the index has %d", all, sum)
	}
	return nil
}

func (m *Machine) checkSessions() error {
	n := 0
	for x, prev := m.sessions.first, (*session)(nil); x != nil; prev, x = x, x.next {
		n++
		if prev != nil && prev.used >= x.used || x.prev != prev {
			return fmt.Errorf("session %d is out of order", x.id)
		}
		if uint64(len(x.outcomes)) != min(x.last, maxOutcomes) || m.sessions.byID[x.id] != x {
			return fmt.Errorf("session %d: %d outcomes at sequence %d", x.id, len(x.outcomes), x.last)
		}
	}
	if n != len(m.sessions.byID) {
		return fmt.Errorf("%d sessions in order, %d known", n, len(m.sessions.byID))
	}
	return nil
}

// disk is where pages are saved.
type disk map[string][]byte

// save takes what changed in m.
func (d disk) save(t testing.TB, m *Machine) {
	t.Helper()
	seen := make(map[string]bool)
	m.Changed(func(key, value []byte) {
		if seen[string(key)] {
			t.Fatalf("page %x is yielded twice", key)
		}
		seen[string(key)] = true
		if value == nil {
			delete(d, string(key))
		} else {
			d[string(key)] = slices.Clone(value)
		}
	})
}

// hash is what the hash of the saved state must be, computed from nothing.
func (d disk) hash() (sum uint64) {
	for k, v := range d {
		sum += xxhash.Sum64(append([]byte(k), v...))
	}
	return sum
}

// load returns a machine made from the saved pages, given in map order, which
// must not matter.
func (d disk) load(t testing.TB, applied uint64) *Machine {
	t.Helper()
	m := New()
	for k, v := range d {
		if err := m.LoadPage([]byte(k), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Loaded(applied); err != nil {
		t.Fatal(err)
	}
	return m
}

// newBatch returns an encoded batch of messages whose field k is each of keys.
func newBatch(t testing.TB, tag int, keys ...string) []byte {
	t.Helper()
	var b message.Builder
	for _, k := range keys {
		m := &message.Message{Body: fmt.Appendf(nil, "body %d %s", tag, k)}
		if k != "" {
			m.SetString("k", k)
		}
		if err := b.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// plainBatch returns a batch of n messages without fields.
func plainBatch(t testing.TB, tag, n int) []byte {
	t.Helper()
	return newBatch(t, tag, slices.Repeat([]string{""}, n)...)
}
