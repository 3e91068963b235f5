package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/journal"
)

// journalDir lies inside the data, so that both are set aside together.
const journalDir = "journal"

// aheadBytes is how far blocks are written ahead of a lone publisher.
const aheadBytes = 1 << 20

// The kinds of records in the journal. They are on disk: never renumber.
const (
	journalEntry journal.Kind = 1
	journalHard  journal.Kind = 2
	journalMoved journal.Kind = 3 // an entry that was there before, in a segment with little else
)

// journalShelf keeps entries and hard states in a journal, and all else in
// Pebble: records of copies, edges, pages, and the positions of entries below
// the first index.
//
// An entry at an index ends what the journal says of higher ones, on replay too.
// Positions from the first index on are in memory; below it they are in Pebble,
// for entries that live. A checkpoint moves them.
//
// After a crash Pebble may be behind the journal in checkpoints, which are made
// again from the log. It is never ahead of what was promised.
type journalShelf struct {
	*pebbleShelf
	journal *journal.Journal
	syncs   bool // mode sync
	segment int64
	thrift  thrift
	writes  sync.Pool // of *journalWrite

	where struct {
		sync.RWMutex
		hot  map[uint32]*hotEnd          // by generation
		hard map[uint32]hardPlace        // by generation
		live map[uint64]int64            // segment -> bytes of records that are needed
		cold map[uint32]map[uint64]int64 // of live, what Pebble says of each generation
		pins map[uint64]int              // segment -> open captures that may read it
		// Generations that were dropped: a write may come late.
		dropped map[uint32]bool
		// Writes that are in the journal, or about to be, and not in the account; with
		// the first segment that they can be in.
		flying map[*journalWrite]uint64
	}

	// Of tidy alone.
	floor uint64           // as Pebble has it
	kept  int              // full segments that only captures still need
	seen  uint64           // the last full segment when the floor was looked for
	tried map[uint64]bool  // segments out of which hot entries were moved, or could not be
	stuck map[uint64]int64 // segments out of which nothing could be moved, when so much was needed
}

// journalWrite is the memory of one write.
type journalWrite struct {
	records []journal.Record
	at      []journal.Position
}

// hardPlace is the last hard state of a generation.
type hardPlace struct {
	hardState
	segment uint64 // where it was written last, 0 if Pebble has it
	damaged bool
}

// openJournal opens the journal beside s, whose data is in dir.
func openJournal(s *pebbleShelf, dir string, nonce uint32, segment int64) (*journalShelf, error) {
	if segment == 0 {
		segment = journal.DefaultSegmentBytes
	}
	js := &journalShelf{pebbleShelf: s, syncs: s.disk.opts.Mode == Sync, segment: segment, thrift: usual, tried: map[uint64]bool{}, stuck: map[uint64]int64{}}
	if s.disk.opts.eager {
		js.thrift = eager
	}
	js.writes.New = func() any { return new(journalWrite) }
	w := &js.where
	w.hot, w.hard, w.live = map[uint32]*hotEnd{}, map[uint32]hardPlace{}, map[uint64]int64{}
	w.pins = map[uint64]int{}
	w.flying, w.cold, w.dropped = map[*journalWrite]uint64{}, map[uint32]map[uint64]int64{}, map[uint32]bool{}
	path := s.disk.PathJoin(dir, journalDir)
	if err := makeDir(s.disk, path); err != nil {
		return nil, err
	}
	var err error
	if js.floor, err = js.readFloor(); err != nil {
		return nil, err
	}
	last, err := js.countCold()
	if err != nil {
		return nil, err
	}
	o := journal.Options{Dir: path, After: max(last, js.floor), FS: s.disk, Nonce: nonce, SegmentBytes: segment, Floor: js.floor, Ahead: min(aheadBytes, segment/4)}
	if js.journal, err = journal.Open(o, js.replay); err != nil {
		var corrupt *journal.CorruptError
		if errors.As(err, &corrupt) {
			err = &CorruptError{What: "the journal", Err: err}
		}
		return nil, err
	}
	if err := js.count(); err != nil {
		return nil, errors.Join(err, js.journal.Close())
	}
	return js, nil
}

// replay takes a record that the journal holds.
func (s *journalShelf) replay(r journal.Record, at journal.Position) error {
	p := placed{at: at, term: r.Term, kind: pb.EntryType(r.Type), damaged: r.Damaged}
	switch r.Kind {
	case journalEntry:
		s.place(r.Generation, r.Index, p)
	case journalMoved:
		s.placeMoved(r.Generation, r.Index, p)
	case journalHard:
		h := hardPlace{segment: at.Segment, damaged: r.Damaged}
		if !r.Damaged {
			var err error
			h.hardState, err = parseHard(r.Data)
			h.damaged = err != nil
		}
		s.where.hard[r.Generation] = h
	default:
		return fmt.Errorf("raftlog: record of kind %d in the journal at %v: upgrade this server", r.Kind, at)
	}
	return nil
}

// countCold reads what Pebble says of entries below the first index, and returns
// the last segment that it names. A place that cannot be read is found out by who
// reads the entry.
func (s *journalShelf) countCold() (last uint64, err error) {
	copies, err := s.copies()
	if err != nil {
		return 0, err
	}
	for _, r := range copies {
		it, err := s.positionsIn(s.db, r.generation, cluster.Range{Hi: math.MaxUint64})
		if err != nil {
			return 0, err
		}
		for ok := it.First(); ok; ok = it.Next() {
			_, p, err := parsePosition(it)
			if err != nil {
				s.report(err)
				continue
			}
			s.coldComes(r.generation, &p)
			last = max(last, p.at.Segment)
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return 0, s.corrupt(err, 0)
		}
	}
	return last, nil
}

func (s *journalShelf) report(err error) {
	s.damaged.Add(1)
	s.disk.opts.Logger.Error("log engine: stored data is damaged", slog.Any("err", err))
}

// coldComes notes that Pebble names an entry; where is held, or nobody else is
// there yet.
func (s *journalShelf) coldComes(generation uint32, p *placed) {
	m := s.where.cold[generation]
	if m == nil {
		m = map[uint64]int64{}
		s.where.cold[generation] = m
	}
	m[p.at.Segment] += p.size()
}

// coldGoes notes that Pebble names an entry no more. false says that it was not on
// the account: its segment was lost.
func (s *journalShelf) coldGoes(generation uint32, p *placed) bool {
	m := s.where.cold[generation]
	n := p.size()
	if m[p.at.Segment] < n {
		return false
	}
	if m[p.at.Segment] -= n; m[p.at.Segment] == 0 {
		delete(m, p.at.Segment)
	}
	return true
}

// count makes the account of what is live, after replay: of the generations
// that are named, what lies below the first index is where Pebble says.
func (s *journalShelf) count() error {
	copies, err := s.copies()
	if err != nil {
		return err
	}
	w := &s.where
	named := map[uint32]bool{}
	for _, r := range copies {
		named[r.generation] = true
	}
	maps.DeleteFunc(w.hot, func(g uint32, _ *hotEnd) bool { return !named[g] })
	maps.DeleteFunc(w.hard, func(g uint32, _ hardPlace) bool { return !named[g] })
	clear(w.live)
	full := s.journal.Full()
	for g := range named {
		if err := s.joinHard(g); err != nil {
			return err
		}
		content, err := s.value(s.db, appendKey(nil, g, kindEdge))
		if err != nil {
			return err
		}
		e, err := parseEdge(content)
		if err != nil {
			return &CorruptError{What: "an edge", Err: err}
		}
		if h := w.hot[g]; h != nil {
			h.join(e)
			for i := range h.entries {
				w.live[h.entries[i].at.Segment] += h.entries[i].size()
			}
		}
		for n, bytes := range w.cold[g] {
			if _, there := slices.BinarySearch(full, n); there {
				w.live[n] += bytes
				continue
			}
			// After a power cut in mode async; else somebody removed a file. Who reads
			// what was there finds out.
			s.disk.opts.Logger.Error("log engine: entries are lost with a segment of the journal", slog.Uint64("segment", n), slog.Int64("bytes", bytes))
			delete(w.cold[g], n)
		}
	}
	return nil
}

// joinHard ends the replay of a copy's hard states: Pebble may have one that is
// newer, from a segment that was released, and it must not be written over.
func (s *journalShelf) joinHard(generation uint32) error {
	h, ok := s.where.hard[generation]
	if !ok || h.damaged {
		return nil
	}
	content, err := s.value(s.db, appendKey(nil, generation, kindHard))
	if err != nil || content == nil {
		return err
	}
	kept, err := parseHard(content)
	if err != nil {
		return nil // recover says so, of the copy that it is
	}
	h.hardState = newer(kept, h.hardState)
	s.where.hard[generation] = h
	return nil
}

// prepare does nothing: what a checkpoint moves is known when it is written.
func (s *journalShelf) prepare(*change) {}

func (s *journalShelf) commit(changes []*change, wait bool) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return
	}
	if err := s.write(changes, wait); err != nil {
		fatal(s.disk.opts, fmt.Errorf("raftlog: write: %w", err))
	}
}

// write appends entries and hard states, then writes the rest to Pebble: nothing
// there is ahead of the journal.
func (s *journalShelf) write(changes []*change, wait bool) error {
	w := s.writes.Get().(*journalWrite)
	s.where.Lock()
	s.where.flying[w] = s.journal.Current()
	s.where.Unlock()
	defer func() {
		s.where.Lock()
		delete(s.where.flying, w)
		s.where.Unlock()
		clear(w.records)
		w.records, w.at = w.records[:0], w.at[:0]
		s.writes.Put(w)
	}()
	switched := false
	for _, c := range changes {
		w.add(c)
		switched = switched || c.record != nil || c.remove || c.drop != 0
	}
	if len(w.records) > 0 {
		var err error
		if w.at, err = s.journal.Append(w.at, w.records); err != nil {
			return err
		}
	}
	if wait && s.syncs {
		if err := s.journal.Sync(); err != nil {
			return err
		}
	}
	at := w.at
	for _, c := range changes {
		var err error
		if at, err = s.move(c, at); err != nil {
			return err
		}
	}
	if wait && switched {
		return s.db.LogData(nil, pebble.Sync)
	}
	return nil
}

// add appends the records of a change, which are one step.
func (w *journalWrite) add(c *change) {
	from := len(w.records)
	if c.hard != nil {
		w.records = append(w.records, journal.Record{Kind: journalHard, Generation: c.generation, Data: c.hard.encode()})
	}
	for _, e := range c.entries {
		r := journal.Record{
			Kind: journalEntry, Type: uint8(e.GetType()), Generation: c.generation, Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData(),
		}
		if c.summed {
			_, r.Summed = cluster.EntrySum(e)
		}
		w.records = append(w.records, r)
	}
	for i := from; i < len(w.records)-1; i++ {
		w.records[i].More = true
	}
}

// move carries out a change in memory and in Pebble, so that a reader sees each
// entry in one of them. at has the positions of its records and of those of the
// changes behind it, which it returns.
func (s *journalShelf) move(c *change, at []journal.Position) ([]journal.Position, error) {
	w := &s.where
	w.Lock()
	defer w.Unlock()
	if c.drop != 0 {
		s.dropGeneration(c.drop)
	}
	if w.dropped[c.generation] {
		if c.hard != nil {
			at = at[1:]
		}
		return at[len(c.entries):], nil // nobody reads it any more
	}
	if c.hard != nil {
		w.hard[c.generation] = hardPlace{hardState: *c.hard, segment: at[0].Segment}
		at = at[1:]
	}
	if !c.cold {
		for i, e := range c.entries {
			s.place(c.generation, e.GetIndex(), placed{at: at[i], term: e.GetTerm(), kind: e.GetType()})
		}
	}
	rest := *c
	rest.entries, rest.hard, rest.cut = nil, nil, cluster.Range{}
	if c.cold || !rest.empty() {
		rest.dead = nil
		byLo := func(a, b cluster.Range) int { return cmp.Compare(a.Lo, b.Lo) }
		if !slices.IsSortedFunc(c.dead, byLo) {
			c.dead = slices.SortedFunc(slices.Values(c.dead), byLo)
		}
		if err := s.keep(c, &rest, at); err != nil {
			return nil, err
		}
	}
	return at[len(c.entries):], nil
}

// keep writes to Pebble what of a change belongs there; where is held.
func (s *journalShelf) keep(c, rest *change, at []journal.Position) (err error) {
	b := s.newBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	if c.cold {
		for i, e := range c.entries {
			p := placed{at: at[i], term: e.GetTerm(), kind: e.GetType()}
			s.where.live[p.at.Segment] += p.size()
			s.coldComes(c.generation, &p)
			if err := putPosition(b, c.generation, e.GetIndex(), &p); err != nil {
				return err
			}
		}
	}
	if err := s.takeEdge(b, c); err != nil {
		return err
	}
	if err := s.takeDead(b, c); err != nil {
		return err
	}
	if err := encode(b, rest); err != nil {
		return err
	}
	return s.db.Apply(b, pebble.NoSync)
}

// dropGeneration takes a generation off the account; where is held.
func (s *journalShelf) dropGeneration(generation uint32) {
	w := &s.where
	if h := w.hot[generation]; h != nil {
		s.forget(h.entries)
		delete(w.hot, generation)
	}
	for n, bytes := range w.cold[generation] {
		w.live[n] -= bytes
	}
	delete(w.cold, generation)
	delete(w.hard, generation)
	w.dropped[generation] = true
}

// takeEdge moves what a checkpoint leaves below the first index to Pebble, but
// what is dead.
func (s *journalShelf) takeEdge(b *pebble.Batch, c *change) error {
	h := s.where.hot[c.generation]
	if c.edge == nil || h == nil || c.edge.first <= h.base {
		return nil
	}
	n := min(c.edge.first-h.base, uint64(len(h.entries)))
	dead := c.dead // ascending
	for i := range h.entries[:n] {
		index := h.base + uint64(i)
		for len(dead) > 0 && dead[0].Hi <= index {
			dead = dead[1:]
		}
		if len(dead) > 0 && dead[0].Lo <= index {
			s.forget(h.entries[i : i+1])
			continue
		}
		s.coldComes(c.generation, &h.entries[i])
		if err := putPosition(b, c.generation, index, &h.entries[i]); err != nil {
			return err
		}
	}
	h.entries, h.base = h.entries[n:], c.edge.first
	if cap(h.entries) > 1024 && len(h.entries) < cap(h.entries)/4 {
		h.entries = slices.Clone(h.entries)
	}
	return nil
}

// takeDead removes positions of entries that died below the first index.
func (s *journalShelf) takeDead(b *pebble.Batch, c *change) error {
	if len(c.dead) == 0 {
		return nil
	}
	it, err := s.positionsIn(s.db, c.generation, cluster.Range{Lo: c.dead[0].Lo, Hi: c.dead[len(c.dead)-1].Hi})
	if err != nil {
		return err
	}
	for _, r := range c.dead {
		if err := s.deadIn(b, it, c.generation, r); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return s.corrupt(err, c.dead[0].Lo)
	}
	return nil
}

func (s *journalShelf) deadIn(b *pebble.Batch, it *pebble.Iterator, generation uint32, r cluster.Range) error {
	n := 0
	for ok := it.SeekGE(positionKey(generation, r.Lo)); ok; ok = it.Next() {
		index, p, err := parsePosition(it)
		switch {
		case index >= r.Hi:
			return nil
		case err != nil: // it goes, whatever it said
			s.report(err)
			err = nil
		case s.coldGoes(generation, &p):
			s.where.live[p.at.Segment] -= p.size()
		}
		if n++; n < rangeDelete {
			err = b.Delete(it.Key(), nil)
		} else if n == rangeDelete {
			err = b.DeleteRange(positionKey(generation, r.Lo), positionKey(generation, r.Hi), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// generation returns a number that was never returned before. That is on disk
// before anything is written under it: the journal is not behind Pebble's log.
func (s *journalShelf) generation() uint32 {
	g := s.pebbleShelf.generation()
	s.life.RLock()
	defer s.life.RUnlock()
	if !s.life.closed {
		if err := s.db.LogData(nil, pebble.Sync); err != nil {
			fatal(s.disk.opts, fmt.Errorf("raftlog: count generations: %w", err))
		}
	}
	return g
}

func (s *journalShelf) close() error { return s.closeWith(s.journal.Close) }
