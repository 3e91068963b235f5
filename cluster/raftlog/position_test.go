package raftlog

import (
	"math/rand/v2"
	"testing"

	"github.com/perdure/perdure/cluster/journal"
)

// replayModel is one copy's hot end as a journal would have it: the records of
// each segment, and which of them is in force.
type replayModel struct {
	rng     *rand.Rand
	records []replayRecord // in order; those of released segments are gone
	current uint64         // segment
	first   uint64
	before  uint64 // term of the entry before the first
	log     []placed
	next    uint32
}

type replayRecord struct {
	moved bool
	index uint64
	placed
}

func (m *replayModel) last() uint64 { return m.first + uint64(len(m.log)) - 1 }

func (m *replayModel) term(index uint64) uint64 {
	if index < m.first {
		return m.before
	}
	return m.log[index-m.first].term
}

func (m *replayModel) write(moved bool, index, term uint64) journal.Position {
	m.next++
	at := journal.Position{Segment: m.current, Offset: m.next}
	m.records = append(m.records, replayRecord{moved, index, placed{at: at, term: term}})
	return at
}

// put appends entries from an index on, which ends what was there.
func (m *replayModel) put(from, term uint64, n int) {
	m.log = m.log[:from-m.first]
	for i := range uint64(n) {
		m.log = append(m.log, placed{at: m.write(false, from+i, term), term: term})
	}
}

// overwrite is what a new leader does.
func (m *replayModel) overwrite() {
	if len(m.log) > 0 {
		from := m.first + m.rng.Uint64N(uint64(len(m.log)))
		m.put(from, m.term(m.last())+1, 1+m.rng.IntN(4))
	}
}

// relocate moves what is needed of a segment, the last first. An overwrite may
// come between the look and the move.
func (m *replayModel) relocate() {
	segment := 1 + m.rng.Uint64N(m.current)
	type move struct {
		index uint64
		placed
	}
	var moves []move
	for i, p := range m.log {
		if p.at.Segment == segment && segment != m.current {
			moves = append(moves, move{m.first + uint64(i), p})
		}
	}
	if m.rng.IntN(3) == 0 {
		m.overwrite()
	}
	for i := len(moves) - 1; i >= 0; i-- {
		v := moves[i]
		at := m.write(true, v.index, v.term)
		if v.index >= m.first && v.index <= m.last() {
			if p := &m.log[v.index-m.first]; p.at == v.at {
				p.at = at
			}
		}
	}
}

// release drops the segments in which nothing is in force.
func (m *replayModel) release() {
	needed := map[uint64]bool{m.current: true}
	for _, p := range m.log {
		needed[p.at.Segment] = true
	}
	var kept []replayRecord
	for _, r := range m.records {
		if needed[r.at.Segment] {
			kept = append(kept, r)
		}
	}
	m.records = kept
}

func (m *replayModel) step() {
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		m.put(m.last()+1, max(m.term(m.last()), 1)+m.rng.Uint64N(2), 1+m.rng.IntN(5))
	case 3:
		m.overwrite()
	case 4, 5:
		m.current++
	case 6, 7:
		m.relocate()
	case 8:
		m.release()
	case 9: // a checkpoint
		n := m.rng.IntN(len(m.log) + 1)
		m.before = m.term(m.first + uint64(n) - 1)
		m.log, m.first = m.log[n:], m.first+uint64(n)
	}
}

// replay reads the records as an opening does.
func (m *replayModel) replay() *hotEnd {
	s := &journalShelf{}
	s.where.hot, s.where.live = map[uint32]*hotEnd{}, map[uint64]int64{}
	for _, r := range m.records {
		if r.moved {
			s.placeMoved(1, r.index, r.placed)
		} else {
			s.place(1, r.index, r.placed)
		}
	}
	h := s.where.hot[1]
	if h == nil {
		h = &hotEnd{}
	}
	h.join(edge{first: m.first, termBefore: m.before})
	return h
}

// Whatever is appended, overwritten, moved and released, replay finds the entries
// that are in force, no others, and no hole.
func TestReplay(t *testing.T) {
	for seed := range uint64(4000 / sparse / sparse) {
		m := &replayModel{rng: rand.New(rand.NewPCG(seed, 9)), current: 1, first: 1}
		for n := range 60 {
			m.step()
			h := m.replay()
			if h.base != m.first || len(h.entries) != len(m.log) || h.hole != 0 {
				t.Fatalf("seed %d step %d: replay gives %d entries from %d on, hole %d; want %d from %d", seed, n, len(h.entries), h.base, h.hole, len(m.log), m.first)
			}
			for i := range m.log {
				if h.entries[i].term != m.log[i].term {
					t.Fatalf("seed %d step %d: entry %d has term %d, want %d", seed, n, h.base+uint64(i), h.entries[i].term, m.log[i].term)
				}
			}
		}
	}
}
