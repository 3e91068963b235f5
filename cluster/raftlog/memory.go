package raftlog

import (
	"maps"
	"slices"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// memoryShelf keeps copies in memory. Entries and pages are kept as they were
// given: nothing is copied.
type memoryShelf struct {
	mu          sync.RWMutex
	closed      bool
	next        uint32
	records     map[uint64]copyRecord
	generations map[uint32]*memoryCopy
	kept        int64 // bytes of all entries, as counted in room
	room        *room
	making      sync.WaitGroup // room
}

// memoryCopy is one generation.
type memoryCopy struct {
	edge    edge
	entries table
	pages   map[string][]byte
	shared  bool // a capture holds pages: copy before the next change
	pins    map[*memoryCapture]struct{}
}

func newMemoryShelf(next uint32) *memoryShelf {
	return &memoryShelf{
		next:        max(next, 1),
		records:     map[uint64]copyRecord{},
		generations: map[uint32]*memoryCopy{},
		room:        heapRoom,
	}
}

func (s *memoryShelf) generation() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next - 1
}

func (s *memoryShelf) copies() (map[uint64]copyRecord, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.records), nil
}

func (s *memoryShelf) prepare(*change) {}

func (s *memoryShelf) commit(changes []*change, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	before := s.kept
	for _, c := range changes {
		s.apply(c)
	}
	s.room.keep(s.kept-before, &s.making)
}

func (s *memoryShelf) apply(c *change) {
	if g := s.generations[c.drop]; g != nil {
		s.kept -= g.entries.bytes
		delete(s.generations, c.drop)
	}
	if c.drop == c.generation {
		return
	}
	if c.remove {
		delete(s.records, c.group)
		return // nothing is put where nothing is
	}
	if c.record != nil {
		s.records[c.group] = *c.record
	}
	g := s.generations[c.generation]
	if g == nil {
		g = &memoryCopy{pages: map[string][]byte{}, pins: map[*memoryCapture]struct{}{}}
		s.generations[c.generation] = g
	}
	s.kept -= g.entries.bytes
	for _, r := range c.dead {
		g.drop(r)
	}
	g.entries.drop(c.cut, nil)
	for _, e := range c.entries {
		g.entries.put(e)
	}
	if c.edge != nil {
		g.edge = *c.edge
	}
	g.put(c.pages)
	g.entries.tidy()
	s.kept += g.entries.bytes
}

// drop removes dead entries; who has pinned them keeps them.
func (g *memoryCopy) drop(r cluster.Range) {
	g.entries.drop(r, func(e *pb.Entry) {
		for pin := range g.pins {
			if e.GetIndex() <= pin.edge.applied {
				pin.kept[e.GetIndex()] = e.GetData()
			}
		}
	})
}

func (g *memoryCopy) put(pages []cluster.Page) {
	if len(pages) > 0 && g.shared {
		g.pages = maps.Clone(g.pages)
		g.shared = false
	}
	for _, p := range pages {
		if p.Value == nil {
			delete(g.pages, string(p.Key))
		} else {
			g.pages[string(p.Key)] = p.Value
		}
	}
}

// recover never finds anything: what existed before the process is gone.
func (s *memoryShelf) recover(generation uint32) (view, error) {
	v := view{generation: generation, first: 1, conf: &pb.ConfState{}}
	v.terms.add(0, 0)
	return v, nil
}

func (s *memoryShelf) scan(generation uint32, r cluster.Range, yield func(*pb.Entry) bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	g := s.generations[generation]
	if g == nil {
		return nil
	}
	for i := r.Lo; i < r.Hi; i++ {
		if e := g.entries.get(i); e != nil && !yield(e) {
			return nil
		}
	}
	return nil
}

func (s *memoryShelf) close() error {
	defer s.making.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.room.keep(-s.kept, &s.making)
	}
	s.closed = true
	s.generations, s.records, s.kept = nil, nil, 0
	return nil
}

// memoryCapture is a pinned view of a memoryCopy.
type memoryCapture struct {
	shelf *memoryShelf
	copy  *memoryCopy
	edge  edge
	pages map[string][]byte
	kept  map[uint64][]byte // entries that died since
}

func (s *memoryShelf) capture(group uint64) (cluster.Capture, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	g := s.generations[s.records[group].generation]
	if g == nil {
		// A copy that a former process had.
		g = &memoryCopy{pins: map[*memoryCapture]struct{}{}}
	}
	g.shared = true
	c := &memoryCapture{shelf: s, copy: g, edge: g.edge, pages: g.pages, kept: map[uint64][]byte{}}
	g.pins[c] = struct{}{}
	return c, nil
}

func (c *memoryCapture) Applied() uint64 { return c.edge.applied }

func (c *memoryCapture) Pages(yield func(key, value []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(c.pages)) {
		if err := yield([]byte(key), c.pages[key]); err != nil {
			return err
		}
	}
	return nil
}

func (c *memoryCapture) Entries(live []cluster.Range, yield func(index uint64, data []byte) error) error {
	for _, r := range live {
		for i := r.Lo; i < min(r.Hi, c.edge.applied+1); i++ {
			data, ok := c.entry(i)
			if !ok {
				return &CorruptError{Index: i, What: "it is pinned and not there"}
			}
			if err := yield(i, data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *memoryCapture) entry(index uint64) ([]byte, bool) {
	c.shelf.mu.RLock()
	defer c.shelf.mu.RUnlock()
	if data, ok := c.kept[index]; ok {
		return data, true
	}
	if e := c.copy.entries.get(index); e != nil {
		return e.GetData(), true
	}
	return nil, false
}

func (c *memoryCapture) Close() error {
	c.shelf.mu.Lock()
	defer c.shelf.mu.Unlock()
	delete(c.copy.pins, c)
	return nil
}
