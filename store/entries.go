package store

import (
	"cmp"
	"slices"
)

// entries counts, for each log entry, its batches that somebody needs. It
// follows from the indexes of the stores, so it is not saved.
type entries struct {
	chunks []*entryChunk // ascending, none empty, but perhaps the last while an entry is applied
	newest uint64        // the entry last added to
	dead   []uint64      // to be told, each once
	free   []*entryChunk
}

// chunkEntries is how many entries one chunk counts for: neighbours are mostly
// needed alike, and 64 of them take less than 5 bytes each.
const chunkEntries = 64

type entryChunk struct {
	number uint64 // of its first entry, divided by chunkEntries
	live   [chunkEntries]uint32
	some   int // how many of live are not 0
}

// add notes another needed batch in the entry at index, which is the newest.
func (e *entries) add(index uint64) {
	number := index / chunkEntries
	if n := len(e.chunks); n == 0 || e.chunks[n-1].number != number {
		e.chunks = append(e.chunks, e.chunk(number))
	}
	c := e.chunks[len(e.chunks)-1]
	if c.live[index%chunkEntries] == 0 {
		c.some++
	}
	c.live[index%chunkEntries]++
	e.newest = index
}

// chunk returns an empty chunk.
func (e *entries) chunk(number uint64) *entryChunk {
	if n := len(e.free); n > 0 {
		c := e.free[n-1]
		e.free = e.free[:n-1]
		*c = entryChunk{number: number}
		return c
	}
	return &entryChunk{number: number}
}

// find returns the chunk of the entry at index, or where it would be.
func (e *entries) find(index uint64) (int, bool) {
	number := index / chunkEntries
	if n := len(e.chunks); n > 0 && e.chunks[n-1].number <= number {
		// What is added and dropped at once is at the end.
		if e.chunks[n-1].number == number {
			return n - 1, true
		}
		return n, false
	}
	if len(e.chunks) > 0 && e.chunks[0].number == number {
		return 0, true // and what goes in order is at the beginning
	}
	return slices.BinarySearchFunc(e.chunks, number, func(c *entryChunk, number uint64) int { return cmp.Compare(c.number, number) })
}

// drop notes that a batch of the entry at index is dead. now is the entry being
// applied: whether that one is dead is not known before its end.
func (e *entries) drop(index, now uint64) bool {
	i, ok := e.find(index)
	if !ok || e.chunks[i].live[index%chunkEntries] == 0 {
		return false
	}
	c := e.chunks[i]
	if c.live[index%chunkEntries]--; c.live[index%chunkEntries] > 0 {
		return true
	}
	c.some--
	if index != now {
		e.dead = append(e.dead, index)
		e.trim(i)
	}
	return true
}

// close ends the entry at index: if all its batches died with it, it is dead.
func (e *entries) close(index uint64) {
	if e.newest != index {
		return
	}
	i, ok := e.find(index)
	if ok && e.chunks[i].live[index%chunkEntries] > 0 {
		return
	}
	e.dead = append(e.dead, index)
	if ok {
		e.trim(i)
	}
}

// trim takes the chunk at i out if it is empty.
func (e *entries) trim(i int) {
	c := e.chunks[i]
	if c.some > 0 {
		return
	}
	if i == 0 && len(e.chunks) > 64 {
		e.chunks[0] = nil
		e.chunks = e.chunks[1:] // a backlog that is settled in order: nothing moves
	} else {
		e.chunks = slices.Delete(e.chunks, i, i+1)
	}
	if len(e.free) < maxFree {
		e.free = append(e.free, c)
	}
}

// Dead yields, ascending, the indexes of entries that have come to be unneeded
// since it was last called, each once, and only entries for which Live was once
// true.
func (m *Machine) Dead(yield func(index uint64)) {
	slices.Sort(m.entries.dead)
	for _, index := range m.entries.dead {
		yield(index)
	}
	m.entries.dead = m.entries.dead[:0]
}

// Live yields, ascending, the indexes from lo on and below hi of the entries
// that hold a message somebody needs.
func (m *Machine) Live(lo, hi uint64, yield func(index uint64)) {
	i, _ := m.entries.find(lo)
	for _, c := range m.entries.chunks[i:] {
		for k, live := range c.live {
			if index := c.number*chunkEntries + uint64(k); live > 0 && index >= lo {
				if index >= hi {
					return
				}
				yield(index)
			}
		}
	}
}
