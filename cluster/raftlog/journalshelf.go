package raftlog

import (
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
		hot  map[uint32]*hotEnd   // by generation
		hard map[uint32]hardPlace // by generation
		live map[uint64]int64     // segment -> bytes of records that are needed
		pins int                  // open captures: nothing is released
		// Writes that are in the journal, or about to be, and not in the account; with
		// the first segment that they can be in.
		flying map[*journalWrite]uint64
	}

	// Of tidy alone.
	floor uint64          // as Pebble has it
	seen  uint64          // the last full segment when the floor was looked for
	stuck map[uint64]bool // segments out of which nothing more can be moved
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
	js := &journalShelf{pebbleShelf: s, syncs: s.disk.opts.Mode == Sync, segment: segment, thrift: usual, stuck: map[uint64]bool{}}
	if s.disk.opts.eager {
		js.thrift = eager
	}
	js.writes.New = func() any { return new(journalWrite) }
	w := &js.where
	w.hot, w.hard, w.live = map[uint32]*hotEnd{}, map[uint32]hardPlace{}, map[uint64]int64{}
	w.flying = map[*journalWrite]uint64{}
	path := s.disk.PathJoin(dir, journalDir)
	if err := makeDir(s.disk, path); err != nil {
		return nil, err
	}
	var err error
	if js.floor, err = js.readFloor(); err != nil {
		return nil, err
	}
	o := journal.Options{Dir: path, FS: s.disk, Nonce: nonce, SegmentBytes: segment, Floor: js.floor, Ahead: min(aheadBytes, segment/4)}
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
		err = s.cold(s.db, g, cluster.Range{Hi: math.MaxUint64}, func(_ uint64, p placed) bool {
			w.live[p.at.Segment] += p.size()
			return true
		})
		if err != nil {
			return err
		}
	}
	full := s.journal.Full()
	for n, live := range w.live {
		if _, there := slices.BinarySearch(full, n); !there {
			// After a power cut in mode async; else somebody removed a file. Who reads
			// what was there finds out.
			s.disk.opts.Logger.Error("log engine: entries are lost with a segment of the journal", slog.Uint64("segment", n), slog.Int64("bytes", live))
			delete(w.live, n)
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
		if err := s.dropCold(c.drop); err != nil {
			return nil, err
		}
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

// dropCold takes a generation off the account.
func (s *journalShelf) dropCold(generation uint32) error {
	w := &s.where
	if h := w.hot[generation]; h != nil {
		s.forget(h.entries)
		delete(w.hot, generation)
	}
	delete(w.hard, generation)
	return s.cold(s.db, generation, cluster.Range{Hi: math.MaxUint64}, func(_ uint64, p placed) bool {
		w.live[p.at.Segment] -= p.size()
		return true
	})
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
		} else if err := putPosition(b, c.generation, index, &h.entries[i]); err != nil {
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
		if err != nil || index >= r.Hi {
			return err
		}
		s.where.live[p.at.Segment] -= p.size()
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

func (s *journalShelf) close() error {
	err := s.journal.Close()
	return errors.Join(err, s.pebbleShelf.close())
}
