package raftlog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/journal"
)

// read returns an entry, or nil if its segment was released meanwhile: then it
// is dead, or elsewhere.
func (s *journalShelf) read(generation uint32, index uint64, p placed) (*pb.Entry, error) {
	r, err := s.journal.Read(p.at)
	switch {
	case errors.Is(err, journal.ErrReleased):
		return nil, nil
	case errors.Is(err, journal.ErrClosed):
		return nil, ErrClosed
	case err == nil && (r.Kind != journalEntry && r.Kind != journalMoved || r.Generation != generation || r.Index != index || r.Term != p.term):
		err = fmt.Errorf("at %v there is entry %d of term %d of copy %d", p.at, r.Index, r.Term, r.Generation)
	}
	if err != nil {
		s.damaged.Add(1)
		return nil, &CorruptError{Index: index, What: "its record", Err: err}
	}
	return newEntry(index, p.term, p.kind, r.Data), nil
}

// readAgain reads an entry that is not where it was. nil if it is dead.
func (s *journalShelf) readAgain(generation uint32, index uint64, was placed) (*pb.Entry, error) {
	for {
		p, err := s.lookUp(generation, index)
		if err != nil || p == nil {
			return nil, err
		}
		if p.at == was.at {
			return nil, &CorruptError{Index: index, What: fmt.Sprintf("its record at %v is gone with its segment", p.at)}
		}
		if e, err := s.read(generation, index, *p); err != nil || e != nil {
			return e, err
		}
		was = *p
	}
}

// lookUp returns where an entry is now, nil if nowhere.
func (s *journalShelf) lookUp(generation uint32, index uint64) (*placed, error) {
	s.where.RLock()
	defer s.where.RUnlock()
	if p := s.where.hot[generation].find(index); p != nil {
		return new(*p), nil
	}
	return s.coldOne(s.db, generation, index)
}

// positions returns where the entries in r are that from and hot know, ascending.
func (s *journalShelf) positions(from pebble.Reader, generation uint32, r cluster.Range, hot []placed, base uint64) (at []uint64, places []placed, err error) {
	if r.Lo < base || len(hot) == 0 {
		err = s.cold(from, generation, cluster.Range{Lo: r.Lo, Hi: min(r.Hi, max(base, r.Lo))}, func(index uint64, p placed) bool {
			at, places = append(at, index), append(places, p)
			return len(at) < window
		})
		if err != nil || len(at) == window {
			return at, places, err
		}
	}
	for i := max(r.Lo, base); i < r.Hi && i-base < uint64(len(hot)) && len(at) < window; i++ {
		at, places = append(at, i), append(places, hot[i-base])
	}
	return at, places, nil
}

func (s *journalShelf) scan(generation uint32, r cluster.Range, yield func(*pb.Entry) bool) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return ErrClosed
	}
	// The hot end is looked at before Pebble: what moves in between is seen there.
	return s.each(s.db, generation, r, func(from uint64) ([]placed, uint64) {
		s.where.RLock()
		defer s.where.RUnlock()
		h := s.where.hot[generation]
		if h == nil {
			return nil, math.MaxUint64
		}
		entries, base := h.window(from)
		return slices.Clone(entries), base
	}, yield)
}

// each yields entries in r until yield returns false. hot is asked again for each
// piece.
func (s *journalShelf) each(from pebble.Reader, generation uint32, r cluster.Range, hot func(from uint64) ([]placed, uint64), yield func(*pb.Entry) bool) error {
	for r.Lo < r.Hi {
		entries, base := hot(r.Lo)
		at, places, err := s.positions(from, generation, r, entries, base)
		if err != nil || len(at) == 0 {
			return err
		}
		for i, index := range at {
			e, err := s.read(generation, index, places[i])
			if err == nil && e == nil {
				e, err = s.readAgain(generation, index, places[i])
			}
			if err != nil {
				return err
			}
			if e != nil && !yield(e) {
				return nil
			}
		}
		r.Lo = at[len(at)-1] + 1
	}
	return nil
}

func (s *journalShelf) recover(generation uint32) (view, error) {
	v, err := s.outline(generation)
	if err != nil {
		return v, err
	}
	s.where.RLock()
	defer s.where.RUnlock()
	if h, ok := s.where.hard[generation]; ok {
		if h.damaged {
			return v, &CorruptError{What: fmt.Sprintf("its hard state in segment %d of the journal", h.segment)}
		}
		v.hard = newer(v.hard, h.hardState)
	}
	h := s.where.hot[generation]
	if h == nil {
		return v, nil
	}
	for i := range h.entries {
		p := &h.entries[i]
		if p.damaged {
			return v, &CorruptError{Index: v.last + 1, What: fmt.Sprintf("its record at %v", p.at)}
		}
		v.last++
		v.terms.add(v.last, p.term)
	}
	if h.hole != 0 {
		return v, &CorruptError{Index: v.last + 1, What: fmt.Sprintf("the log goes on with entry %d", h.hole)}
	}
	return v, nil
}

// newer joins two hard states of one copy, of which neither term, vote nor commit
// ever fell.
func newer(a, b hardState) hardState {
	if a.term > b.term {
		a, b = b, a
	}
	if a.term == b.term && b.vote == 0 {
		b.vote = a.vote
	}
	b.commit = max(a.commit, b.commit)
	return b
}

// journalCapture is a pinned view of one copy.
type journalCapture struct {
	*pebbleCapture
	shelf *journalShelf
	hot   []placed
	base  uint64
	pins  []uint64  // segments that it may read
	once  sync.Once // for its end
}

func (s *journalShelf) capture(group uint64) (cluster.Capture, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	s.where.Lock() // no change is half carried out
	defer s.where.Unlock()
	c, err := s.pin(group)
	if err != nil {
		return nil, err
	}
	jc := &journalCapture{pebbleCapture: c, shelf: s, base: c.edge.first}
	// All that it sees is on the account now. What moves later stays readable where it
	// was; what is written later it does not see, and that comes and goes as ever.
	for n, bytes := range s.where.live {
		if bytes != 0 {
			jc.pins = append(jc.pins, n)
			s.where.pins[n]++
		}
	}
	if h := s.where.hot[c.generation]; h != nil && h.base <= c.edge.applied {
		n := min(uint64(len(h.entries)), c.edge.applied+1-h.base)
		jc.hot, jc.base = slices.Clone(h.entries[:n]), h.base
	}
	return jc, nil
}

func (c *journalCapture) unpin() {
	w := &c.shelf.where
	w.Lock()
	defer w.Unlock()
	for _, n := range c.pins {
		if w.pins[n]--; w.pins[n] == 0 {
			delete(w.pins, n)
		}
	}
}

func (c *journalCapture) Entries(live []cluster.Range, yield func(index uint64, data []byte) error) error {
	for _, r := range live {
		r.Hi = min(r.Hi, c.edge.applied+1)
		var failed error
		err := c.piece(r, func(e *pb.Entry) bool {
			if e.GetIndex() != r.Lo {
				return false
			}
			failed = yield(r.Lo, e.GetData())
			r.Lo++
			return failed == nil
		})
		if failed != nil {
			err = failed
		} else if err == nil && r.Lo < r.Hi {
			err = &CorruptError{Index: r.Lo, What: "it is pinned and not there"}
		}
		if err != nil {
			return inGroup(err, c.group)
		}
	}
	return nil
}

// piece yields entries in r. It reads about pieceBytes at a time, and holds nothing
// while it yields: the reader may be slow.
func (c *journalCapture) piece(r cluster.Range, yield func(*pb.Entry) bool) error {
	for r.Lo < r.Hi {
		entries, err := c.read(r)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if !yield(e) {
				return nil
			}
		}
		r.Lo = entries[len(entries)-1].GetIndex() + 1
	}
	return nil
}

func (c *journalCapture) read(r cluster.Range) (entries []*pb.Entry, err error) {
	s := c.shelf
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return nil, ErrClosed
	}
	size := 0
	hot := func(from uint64) ([]placed, uint64) { return c.hot, c.base }
	err = s.each(c.snapshot, c.generation, r, hot, func(e *pb.Entry) bool {
		entries = append(entries, e)
		size += len(e.GetData())
		return size < pieceBytes
	})
	return entries, err
}

func (c *journalCapture) Close() error {
	c.once.Do(c.unpin)
	return c.pebbleCapture.Close()
}
