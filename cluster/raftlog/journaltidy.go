package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/perdure/perdure/cluster/journal"
)

// thrift is what tidy lets be: disk is paid for with writes.
type thrift struct {
	part   int64 // a segment is rewritten when this part of it, or less, is needed
	allow  int64 // segments that may lie about before any is
	behind int   // segments that an opening may have to read before entries move for it
}

var (
	usual = thrift{part: 4, allow: 4, behind: 8}
	eager = thrift{part: 1} // moves whatever it can
)

// flush puts on disk what was appended.
func (s *journalShelf) flush() error { return s.journal.Sync() }

// tidy releases the segments in which nothing is needed, and moves the little that
// is needed out of others. One goroutine at a time calls it.
func (s *journalShelf) tidy() error {
	s.life.RLock()
	defer s.life.RUnlock()
	full := []uint64(nil)
	if !s.life.closed {
		full = s.journal.Full()
	}
	if len(full) == 0 {
		return nil
	}
	if err := s.release(full); err != nil {
		return err
	}
	// The segment behind them is there: the floor may have to be it.
	if last := full[len(full)-1]; last != s.seen && s.journal.Current() > last {
		if err := s.raise(full); err != nil {
			return err
		}
		s.seen = last
	}
	if n := s.sparse(full); n != 0 {
		return s.relocate(n, false)
	}
	from, _ := slices.BinarySearch(full, s.floor)
	if len(full)-from > s.thrift.behind && !s.tried[full[from]] {
		return s.relocate(full[from], true)
	}
	return nil
}

// release lets segments go, once what says that nothing in them is needed is on
// disk. A segment that a capture may read stays until that is closed.
func (s *journalShelf) release(full []uint64) error {
	var gone []uint64
	w := &s.where
	w.Lock()
	settled := s.settled(full[len(full)-1] + 1)
	s.kept = 0
	for _, n := range full {
		switch {
		case w.live[n] != 0 || n >= settled:
		case w.pins[n] > 0:
			s.kept++
		default:
			gone = append(gone, n)
			delete(w.live, n)
			delete(s.stuck, n)
			delete(s.tried, n)
		}
	}
	w.Unlock()
	if len(gone) == 0 {
		return nil
	}
	if err := s.keepHard(gone[len(gone)-1]); err != nil {
		return err
	}
	for _, n := range gone {
		if err := s.journal.Release(n); err != nil {
			return err
		}
	}
	return nil
}

// settled returns the first segment of which the account may lack something, at
// most most; where is held.
func (s *journalShelf) settled(most uint64) uint64 {
	for _, n := range s.where.flying {
		most = min(most, n)
	}
	return most
}

// keepHard puts on disk what Pebble holds, with the hard states that only segments
// up to last have.
func (s *journalShelf) keepHard(last uint64) (err error) {
	b := s.newBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := s.batchHard(b, last); err != nil {
		return err
	}
	if b.Empty() {
		if err := b.LogData(nil, nil); err != nil {
			return err
		}
	}
	// What Pebble names must not be ahead of the journal on disk.
	if err := s.journal.Sync(); err != nil {
		return err
	}
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	s.disk.syncDeferred()
	return nil
}

func (s *journalShelf) batchHard(b *pebble.Batch, last uint64) error {
	w := &s.where
	w.Lock()
	defer w.Unlock()
	for generation, h := range w.hard {
		if h.segment == 0 || h.segment > last || h.damaged {
			continue
		}
		key := appendKey(nil, generation, kindHard)
		if err := b.Set(key, sealed(key, h.encode()), nil); err != nil {
			return err
		}
		h.segment = 0
		w.hard[generation] = h
	}
	return nil
}

// raise brings the floor up: the first segment that an opening has to read.
func (s *journalShelf) raise(full []uint64) error {
	last := full[len(full)-1]
	if err := s.keepHard(last); err != nil {
		return err
	}
	floor := s.lowest(last + 1)
	if floor <= max(s.floor, full[0]) {
		return nil
	}
	// The journal's word that all before it was on disk goes first.
	if err := s.journal.Raise(floor); err != nil {
		return err
	}
	key := appendKey(nil, 0, kindFloor)
	if err := s.db.Set(key, sealed(key, binary.BigEndian.AppendUint64(nil, floor)), pebble.Sync); err != nil {
		return fmt.Errorf("raftlog: raise the journal's floor: %w", err)
	}
	s.floor = floor
	return nil
}

// lowest returns the first segment that an opening has to read, at most most.
func (s *journalShelf) lowest(most uint64) uint64 {
	w := &s.where
	w.RLock()
	defer w.RUnlock()
	most = s.settled(most)
	for _, h := range w.hot {
		for i := range h.entries {
			most = min(most, h.entries[i].at.Segment)
		}
	}
	for _, h := range w.hard {
		if h.segment != 0 {
			most = min(most, h.segment)
		}
	}
	return most
}

func (s *journalShelf) readFloor() (uint64, error) {
	content, err := s.value(s.db, appendKey(nil, 0, kindFloor))
	if err != nil || content == nil {
		return 0, err
	}
	if len(content) != 8 {
		return 0, &CorruptError{What: fmt.Sprintf("the journal's floor has %d bytes, not 8", len(content))}
	}
	return binary.BigEndian.Uint64(content), nil
}

// sparse returns the segment that is best rewritten, 0 if none is worth it.
func (s *journalShelf) sparse(full []uint64) uint64 {
	w := &s.where
	w.RLock()
	defer w.RUnlock()
	best, total := uint64(0), int64(0)
	for _, n := range full {
		live := w.live[n]
		total += live
		if live > 0 && live <= s.segment/s.thrift.part && !s.isStuck(n) && (best == 0 || live < w.live[best]) {
			best = n
		}
	}
	// What is kept for captures alone is no reason to move the rest.
	if int64(len(full)-s.kept) <= 2*(total/s.segment)+s.thrift.allow {
		return 0
	}
	return best
}

// moving is an entry that is to be moved.
type moving struct {
	record journal.Record
	from   journal.Position
	size   int64
}

// relocate appends again what is needed of a segment, or what an opening needs of
// it. Readers look again where a segment is gone.
func (s *journalShelf) relocate(segment uint64, hot bool) error {
	moves, err := s.movable(segment, hot)
	var corrupt *journal.CorruptError
	switch {
	case errors.Is(err, journal.ErrReleased):
		return nil
	case err != nil && !errors.As(err, &corrupt):
		return err
	case len(moves) > 0:
		if err := s.moveTo(moves); err != nil {
			return err
		}
		s.seen = 0 // look for the floor again
	}
	// Do not try again and again.
	if hot {
		s.tried[segment] = true
		return nil
	}
	s.where.RLock()
	defer s.where.RUnlock()
	if live := s.where.live[segment]; live > 0 {
		s.stuck[segment] = live
	}
	return nil
}

// isStuck says that what is needed of a segment could not be moved, and that it is
// not much less by now; where is held.
func (s *journalShelf) isStuck(segment uint64) bool {
	was, ok := s.stuck[segment]
	return ok && s.where.live[segment] > was/2
}

// movable returns what is needed of a segment, or its hot entries; nothing if it
// is too much. An entry whose record is damaged stays, so that it is found out by
// who reads it.
func (s *journalShelf) movable(segment uint64, hot bool) (moves []moving, err error) {
	left := s.segment / s.thrift.part
	err = s.journal.Scan(segment, func(r journal.Record, at journal.Position) error {
		if r.Kind != journalEntry && r.Kind != journalMoved || left < 0 {
			return nil
		}
		p, isHot, err := s.needed(r, at)
		if err != nil || p == nil || hot && !isHot {
			return err
		}
		left -= p.size()
		r.Kind, r.More, r.Data = journalMoved, false, slices.Clone(r.Data)
		moves = append(moves, moving{r, at, p.size()})
		return nil
	})
	if left < 0 {
		moves = nil
	}
	return moves, err
}

// needed returns the place of an entry if it is at.
func (s *journalShelf) needed(r journal.Record, at journal.Position) (p *placed, hot bool, err error) {
	s.where.RLock()
	if p = s.where.hot[r.Generation].find(r.Index); p != nil {
		p, hot = new(*p), true
	}
	s.where.RUnlock()
	if !hot {
		p, err = s.coldOne(s.db, r.Generation, r.Index)
	}
	if p != nil && p.at != at {
		p = nil
	}
	return p, hot, err
}

// moveTo appends entries, the last first (see placeMoved), and says where they
// are now.
func (s *journalShelf) moveTo(moves []moving) (err error) {
	slices.Reverse(moves)
	records := make([]journal.Record, len(moves))
	for i := range moves {
		records[i] = moves[i].record
	}
	at, err := s.journal.Append(nil, records)
	if err == nil {
		// Pebble must not know of a place that is not on disk.
		err = s.journal.Sync()
	}
	if err != nil {
		return err
	}
	b := s.newBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	s.where.Lock()
	defer s.where.Unlock()
	for i := range moves {
		if err := s.moved(b, &moves[i], at[i]); err != nil {
			return err
		}
	}
	return s.db.Apply(b, pebble.NoSync)
}

// moved says that an entry is at to now, if it is still needed; where is held.
func (s *journalShelf) moved(b *pebble.Batch, m *moving, to journal.Position) error {
	w := &s.where
	p := w.hot[m.record.Generation].find(m.record.Index)
	isHot := p != nil
	if !isHot {
		var err error
		if p, err = s.coldOne(s.db, m.record.Generation, m.record.Index); err != nil {
			return err
		}
	}
	if p == nil || p.at != m.from {
		return nil
	}
	if !isHot {
		if !s.coldGoes(m.record.Generation, p) {
			return nil
		}
		moved := *p
		moved.at = to
		s.coldComes(m.record.Generation, &moved)
	}
	p.at = to
	w.live[m.from.Segment] -= m.size
	w.live[to.Segment] += m.size
	if isHot {
		return nil
	}
	return putPosition(b, m.record.Generation, m.record.Index, p)
}
