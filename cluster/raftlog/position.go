package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/journal"
)

// placed is where an entry is in the journal.
type placed struct {
	at      journal.Position
	term    uint64
	kind    pb.EntryType
	damaged bool
}

// size is what an entry takes, about.
func (p *placed) size() int64 { return int64(p.at.Length) + entryHeader }

// hotEnd is the entries of a generation from the first index on.
type hotEnd struct {
	base    uint64 // index of entries[0]
	entries []placed

	// During replay: what is not one piece with entries, up to an index.
	loose   map[uint64]placed
	highest uint64
	hole    uint64 // an entry that is there though one before it is not
}

// find returns the entry at index, or nil.
func (h *hotEnd) find(index uint64) *placed {
	if h == nil || index < h.base || index-h.base >= uint64(len(h.entries)) {
		return nil
	}
	return &h.entries[index-h.base]
}

// window is a piece of the hot end from an index on, and the index at which it
// begins.
func (h *hotEnd) window(from uint64) ([]placed, uint64) {
	n := uint64(len(h.entries))
	lo := uint64(0)
	if from > h.base {
		lo = min(from-h.base, n)
	}
	return h.entries[lo:min(n, lo+window)], h.base + lo
}

// place notes an entry at the hot end; where is held, or nobody else is there yet.
func (s *journalShelf) place(generation uint32, index uint64, p placed) {
	h := s.where.hot[generation]
	if h == nil {
		h = &hotEnd{base: index}
		s.where.hot[generation] = h
	}
	h.end(index)
	end := h.base + uint64(len(h.entries))
	switch {
	case len(h.entries) == 0:
		h.base = index
	case index <= h.base:
		s.forget(h.entries)
		h.base, h.entries = index, h.entries[:0]
	case index <= end:
		s.forget(h.entries[index-h.base:])
		h.entries = h.entries[:index-h.base]
	default: // Only during replay: what is between was moved, or is no more.
		for i, e := range h.entries {
			h.loosen(h.base+uint64(i), e)
		}
		s.forget(h.entries)
		h.base, h.entries = index, h.entries[:0]
	}
	h.entries = append(h.entries, p)
	s.where.live[p.at.Segment] += p.size()
}

// placeMoved notes, on replay, that an entry is elsewhere now. Its former record
// may be gone, and with it what it ended: entries from there on of lower terms.
func (s *journalShelf) placeMoved(generation uint32, index uint64, p placed) {
	h := s.where.hot[generation]
	if h == nil {
		h = &hotEnd{base: index}
		s.where.hot[generation] = h
	}
	was := h.find(index)
	switch {
	case was == nil:
		h.loosen(index, p)
	case was.term > p.term: // it had been overwritten when it was moved
	default:
		*was = p
		keep := index - h.base + 1
		for keep < uint64(len(h.entries)) && h.entries[keep].term >= p.term {
			keep++
		}
		for i := keep; i < uint64(len(h.entries)); i++ {
			if e := h.entries[i]; e.term >= p.term {
				h.loosen(h.base+i, e) // what is before it was moved, too
			}
		}
		h.entries = h.entries[:keep]
	}
}

func (h *hotEnd) loosen(index uint64, p placed) {
	if h.loose == nil {
		h.loose = map[uint64]placed{}
	}
	if h.loose[index].term <= p.term {
		h.loose[index] = p
	}
	h.highest = max(h.highest, index)
}

// end drops loose entries from an index on.
func (h *hotEnd) end(index uint64) {
	if len(h.loose) == 0 || index > h.highest {
		return
	}
	for i := range h.loose {
		if i >= index {
			delete(h.loose, i)
		}
	}
	h.highest = index
}

// join ends the replay of a copy with an edge. It drops what lies below the first
// index, and what had been overwritten by an entry that is there no more: then its
// term is below that of an entry before it. Where something else is missing there
// is a hole.
func (h *hotEnd) join(e edge) {
	for i, p := range h.entries {
		h.loosen(h.base+uint64(i), p)
	}
	h.base, h.entries = e.first, make([]placed, 0, len(h.loose))
	term := e.termBefore
	for p, ok := h.loose[h.base]; ok && p.term >= term; p, ok = h.loose[h.base+uint64(len(h.entries))] {
		h.entries, term = append(h.entries, p), p.term
	}
	last := h.base + uint64(len(h.entries))
	for i, p := range h.loose {
		if i >= last && p.term >= term && (h.hole == 0 || i < h.hole) {
			h.hole = i
		}
	}
	h.loose = nil
}

// forget takes entries off the account.
func (s *journalShelf) forget(entries []placed) {
	for i := range entries {
		s.where.live[entries[i].at.Segment] -= entries[i].size()
	}
}

func positionKey(generation uint32, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(make([]byte, 0, entryKeySize), generation, kindPosition), index)
}

// positionSize is that of a position: segment (8), offset (4), length (4), term
// (8), type (1).
const positionSize = 25

// putPosition writes where an entry is.
func putPosition(b *pebble.Batch, generation uint32, index uint64, p *placed) error {
	op := b.SetDeferred(entryKeySize, recordHeader+positionSize)
	binary.BigEndian.AppendUint64(appendKey(op.Key[:0], generation, kindPosition), index)
	be := binary.BigEndian
	v := op.Value[recordHeader:]
	be.PutUint64(v, p.at.Segment)
	be.PutUint32(v[8:], p.at.Offset)
	be.PutUint32(v[12:], p.at.Length)
	be.PutUint64(v[16:], p.term)
	v[24] = byte(p.kind)
	seal(op.Key, op.Value, 0)
	return op.Finish()
}

func decodePosition(key, value []byte) (p placed, err error) {
	v, err := unseal(key, value)
	if err == nil && len(v) != positionSize {
		err = fmt.Errorf("a position has %d bytes, not %d", len(v), positionSize)
	}
	if err != nil {
		return p, err
	}
	be := binary.BigEndian
	p.at = journal.Position{Segment: be.Uint64(v), Offset: be.Uint32(v[8:]), Length: be.Uint32(v[12:])}
	p.term, p.kind = be.Uint64(v[16:]), pb.EntryType(v[24])
	return p, nil
}

// parsePosition reads what an iterator of positions is at.
func parsePosition(it *pebble.Iterator) (index uint64, p placed, err error) {
	index = binary.BigEndian.Uint64(it.Key()[5:])
	v, err := it.ValueAndErr()
	if err == nil {
		p, err = decodePosition(it.Key(), v)
	}
	if err != nil {
		err = &CorruptError{Index: index, What: "where it is", Err: err}
	}
	return index, p, err
}

func (s *journalShelf) positionsIn(from pebble.Reader, generation uint32, r cluster.Range) (*pebble.Iterator, error) {
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: positionKey(generation, r.Lo), UpperBound: positionKey(generation, r.Hi)})
	if err != nil {
		return nil, s.corrupt(err, r.Lo)
	}
	return it, nil
}

// cold yields the positions of entries below the first index.
func (s *journalShelf) cold(from pebble.Reader, generation uint32, r cluster.Range, yield func(uint64, placed) bool) error {
	it, err := s.positionsIn(from, generation, r)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		index, p, err := parsePosition(it)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !yield(index, p) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return s.corrupt(err, r.Lo)
	}
	return nil
}

// coldOne returns the position of one entry below the first index, or nil.
func (s *journalShelf) coldOne(from pebble.Reader, generation uint32, index uint64) (*placed, error) {
	key := positionKey(generation, index)
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.corrupt(err, index)
	}
	p, err := decodePosition(key, v)
	if err != nil {
		return nil, errors.Join(&CorruptError{Index: index, What: "where it is", Err: err}, closer.Close())
	}
	return &p, closer.Close()
}
