package raftlog

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// chunkSize is how many neighbouring entries of a table share an array.
const chunkSize = 64

type chunk struct {
	used    int
	bytes   int64
	entries [chunkSize]*pb.Entry
}

// table holds entries by index. It may have holes of any size. It is not safe
// for use by several goroutines.
type table struct {
	chunks map[uint64]*chunk // by index / chunkSize
	order  []uint64          // keys of chunks in the order they were made; may name dropped ones
	bytes  int64             // of data, and of overhead
}

// overhead is about what an entry costs in memory besides its data.
const overhead = 128

func cost(e *pb.Entry) int64 { return int64(len(e.GetData())) + overhead }

func (t *table) get(index uint64) *pb.Entry {
	if c := t.chunks[index/chunkSize]; c != nil {
		return c.entries[index%chunkSize]
	}
	return nil
}

func (t *table) put(e *pb.Entry) {
	index := e.GetIndex()
	at := index / chunkSize
	c := t.chunks[at]
	if c == nil {
		c = &chunk{}
		if t.chunks == nil {
			t.chunks = map[uint64]*chunk{}
		}
		t.chunks[at] = c
		t.order = append(t.order, at)
	}
	t.clear(c, index%chunkSize)
	c.entries[index%chunkSize] = e
	c.used++
	c.bytes += cost(e)
	t.bytes += cost(e)
}

// clear empties one slot. It leaves an empty chunk in place.
func (t *table) clear(c *chunk, slot uint64) *pb.Entry {
	e := c.entries[slot]
	if e != nil {
		c.entries[slot] = nil
		c.used--
		c.bytes -= cost(e)
		t.bytes -= cost(e)
	}
	return e
}

// drop removes the entries in r and hands each to gone, if that is not nil. Its
// cost is that of the chunks there are, however wide r is.
func (t *table) drop(r cluster.Range, gone func(*pb.Entry)) {
	if r.Lo >= r.Hi {
		return
	}
	lo, hi := r.Lo/chunkSize, (r.Hi-1)/chunkSize
	if hi-lo < uint64(len(t.chunks)) {
		for at := lo; at <= hi; at++ {
			t.dropIn(at, r, gone)
		}
		return
	}
	for at := range t.chunks {
		if at >= lo && at <= hi {
			t.dropIn(at, r, gone)
		}
	}
}

func (t *table) dropIn(at uint64, r cluster.Range, gone func(*pb.Entry)) {
	c := t.chunks[at]
	if c == nil {
		return
	}
	for slot := range uint64(chunkSize) {
		if i := at*chunkSize + slot; i < r.Lo || i >= r.Hi {
			continue
		}
		if e := t.clear(c, slot); e != nil && gone != nil {
			gone(e)
		}
	}
	if c.used == 0 {
		delete(t.chunks, at)
	}
}

// evict drops the chunk that was made first. It reports false if there is none.
func (t *table) evict() bool {
	for len(t.order) > 0 {
		at := t.order[0]
		t.order = t.order[1:]
		if c := t.chunks[at]; c != nil {
			t.bytes -= c.bytes
			delete(t.chunks, at)
			return true
		}
	}
	return false
}

// tidy forgets the order of chunks that are gone, when they are the most of it.
func (t *table) tidy() {
	if len(t.order) < 64 || len(t.order) < 2*len(t.chunks) {
		return
	}
	kept := t.order[:0:0]
	seen := make(map[uint64]bool, len(t.chunks))
	for _, at := range t.order {
		if t.chunks[at] != nil && !seen[at] {
			seen[at] = true
			kept = append(kept, at)
		}
	}
	t.order = kept
}

// termRun says that entries from index from on have this term, up to the next run.
type termRun struct{ from, term uint64 }

// terms are the terms of a log as runs: there are as many as elections that
// left entries. The first run begins at the index before the first entry.
type terms []termRun

// add notes the term of the entry behind the last.
func (t *terms) add(index, term uint64) {
	if n := len(*t); n == 0 || (*t)[n-1].term != term {
		*t = append(*t, termRun{index, term})
	}
}

// at returns the term of an index at or behind the first run's.
func (t terms) at(index uint64) uint64 {
	for i := len(t) - 1; i > 0; i-- {
		if t[i].from <= index {
			return t[i].term
		}
	}
	return t[0].term
}

// last returns the term of the last entry.
func (t terms) last() uint64 { return t[len(t)-1].term }

// cut forgets the terms from index on.
func (t *terms) cut(index uint64) {
	n := len(*t)
	for n > 1 && (*t)[n-1].from >= index {
		n--
	}
	// The rest is copied on the next add: readers may hold the old runs.
	*t = (*t)[:n:n]
}

// rise makes index the one before the first entry.
func (t *terms) rise(index uint64) {
	n := 0
	for n+1 < len(*t) && (*t)[n+1].from <= index {
		n++
	}
	kept := append(terms(nil), (*t)[n:]...)
	kept[0].from = index
	*t = kept
}
