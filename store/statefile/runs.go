package statefile

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	windowIDs    = 4096
	windowBytes  = windowIDs / 8
	segmentBytes = 32 << 10
	// segmentFull leaves room for a window of the shortest runs there are.
	segmentFull = segmentBytes - 2*windowIDs/2 - 2*binary.MaxVarintLen64
)

// runs are ascending runs of ids, written once and read from the front. They take
// about as much memory as their text in a file, and never more than a bit for each
// id between the first and the last.
//
// Of each run there are two varints: the gap since the one before, and its length.
// Where many runs lie in a window of 4096 ids, there are the gap to its first id,
// 0, and a bit of each id instead.
type runs struct {
	segments [][]byte
	next     uint64 // behind the last run
}

// runWriter appends to runs, to one after the other.
type runWriter struct {
	to    *runs
	kept  int64 // bytes of all runs written
	open  bool  // a window is
	base  uint64
	since uint64 // to.next when it was opened
	start int    // where it is in the last segment
	bits  [windowBytes / 8]uint64
}

// begin makes r what is appended to. What was before is complete.
func (w *runWriter) begin(r *runs) {
	if w.to == r {
		return
	}
	w.end()
	w.to = r
}

// end completes what was appended to.
func (w *runWriter) end() {
	if w.to == nil {
		return
	}
	w.close()
	if n := len(w.to.segments) - 1; n >= 0 {
		if s := w.to.segments[n]; cap(s)-len(s) > len(s)/8 {
			w.to.segments[n] = bytes.Clone(s)
		}
	}
	w.to = nil
}

// add appends a run, which is behind those before.
func (w *runWriter) add(r Run) {
	first := uint64(r.First)
	if w.open && (r.N > windowIDs || first-w.base > windowIDs-r.N) {
		w.close()
	}
	if !w.open {
		w.room()
		if r.N <= windowIDs {
			w.open, w.base, w.since, w.start = true, first, w.to.next, len(w.last())
			w.bits = [windowBytes / 8]uint64{}
		}
	}
	if w.open {
		for at := first - w.base; at < first-w.base+r.N; at++ {
			w.bits[at/64] |= 1 << (at % 64)
		}
	}
	w.put(first-w.to.next, r.N)
	w.to.next = first + r.N
}

// close ends the window, and writes it as bits if these are shorter.
func (w *runWriter) close() {
	if !w.open {
		return
	}
	w.open = false
	s := w.last()
	written := len(s) - w.start
	if written <= windowBytes+binary.MaxVarintLen64+1 {
		return
	}
	w.kept -= int64(written)
	w.to.segments[len(w.to.segments)-1] = s[:w.start]
	w.put(w.base-w.since, 0)
	s = w.last()
	for _, word := range w.bits {
		s = binary.LittleEndian.AppendUint64(s, word)
	}
	w.to.segments[len(w.to.segments)-1] = s
	w.kept += windowBytes
}

func (w *runWriter) last() []byte { return w.to.segments[len(w.to.segments)-1] }

// room begins a segment if a window might not fit into the last.
func (w *runWriter) room() {
	switch n := len(w.to.segments); {
	case n == 0:
		w.to.segments = append(w.to.segments, nil) // it may stay small
	case len(w.to.segments[n-1]) > segmentFull:
		w.to.segments = append(w.to.segments, make([]byte, 0, segmentBytes))
	}
}

func (w *runWriter) put(gap, n uint64) {
	s := w.last()
	before := len(s)
	s = binary.AppendUvarint(binary.AppendUvarint(s, gap), n)
	w.kept += int64(len(s) - before)
	w.to.segments[len(w.to.segments)-1] = s
}

// runCursor reads runs, which are complete.
type runCursor struct {
	of          *runs
	segment, at int
	next        uint64 // behind the present run
	base        uint64 // of the present window
	bits        []byte // of it; nil: there is none
	first, last uint64 // the present run; last is 0 before the first
}

// seek goes on to the first run that ends at or above id, and reports whether there
// is one. ids ascend.
func (c *runCursor) seek(id uint64) bool {
	for c.last < id {
		if !c.step() {
			return false
		}
	}
	return true
}

// step goes on to the next run, if there is one.
func (c *runCursor) step() bool {
	if c.bits != nil {
		at := nextBit(c.bits, int(c.next-c.base), 0)
		if at < windowIDs {
			c.run(c.base+uint64(at), uint64(nextBit(c.bits, at, ^uint64(0))-at))
			return true
		}
		c.bits = nil
	}
	for ; c.segment < len(c.of.segments); c.segment, c.at = c.segment+1, 0 {
		s := c.of.segments[c.segment]
		if c.at == len(s) {
			continue
		}
		gap, k := binary.Uvarint(s[c.at:])
		c.at += k
		n, k := binary.Uvarint(s[c.at:])
		c.at += k
		if n > 0 {
			c.run(c.next+gap, n)
			return true
		}
		c.base, c.bits = c.next+gap, s[c.at:c.at+windowBytes]
		c.at += windowBytes
		c.run(c.base, uint64(nextBit(c.bits, 0, ^uint64(0)))) // a window begins with a run
		return true
	}
	return false
}

func (c *runCursor) run(first, n uint64) {
	c.first, c.last, c.next = first, first+n-1, first+n
}

// nextBit returns where the first bit from a position on is that differs from those
// of flip: 1 with flip 0, 0 with all bits of flip set.
func nextBit(b []byte, from int, flip uint64) int {
	for ; from < windowIDs; from = from&^63 + 64 {
		word := (binary.LittleEndian.Uint64(b[from/64*8:]) ^ flip) >> (from % 64)
		if word != 0 {
			return from + bits.TrailingZeros64(word)
		}
	}
	return windowIDs
}
