package dispatch

import (
	"slices"

	"github.com/perdure/perdure/message"
)

// record is a Source for tests: plain, and slow where that is simpler.
type record struct {
	ids       []message.ID // pending, ascending
	batches   []Batch
	ended     map[message.ID]uint32 // counts above 0
	watermark message.ID
	idle      bool       // this leader has not raised it yet
	top       message.ID // the highest id given
}

func newRecord() *record { return &record{ended: make(map[message.ID]uint32)} }

func (r *record) NextRun(from message.ID) (message.ID, uint64, bool) {
	i, _ := slices.BinarySearch(r.ids, from)
	if i == len(r.ids) {
		return 0, 0, false
	}
	first, n := r.ids[i], uint64(1)
	for i+int(n) < len(r.ids) && r.ids[i+int(n)] == first+message.ID(n) && n < 100 {
		n++
	}
	return first, n, true
}

func (r *record) Batch(id message.ID) (Batch, bool) {
	i, found := slices.BinarySearchFunc(r.batches, id, func(b Batch, id message.ID) int {
		switch {
		case id < b.First:
			return 1
		case id > b.Last():
			return -1
		}
		return 0
	})
	if !found {
		return Batch{}, false
	}
	return r.batches[i], true
}

func (r *record) Counted(first, last message.ID) bool {
	for id := first; id <= last; id++ {
		if r.ended[id] > 0 {
			return true
		}
	}
	return false
}

func (r *record) Watermark() message.ID { return r.watermark }

func (r *record) Limit() message.ID {
	if r.idle {
		return 0
	}
	return r.watermark
}

func (r *record) raise(w message.ID) { r.watermark, r.idle = max(r.watermark, w), false }

// publish adds a batch of n messages, of which the durable wants those for
// which wants is true; nil wants all.
func (r *record) publish(n int, bytes uint32, wants func(i int) bool) Batch {
	b := Batch{First: r.top + 1, Count: uint32(n), Bytes: bytes, Index: uint64(len(r.batches) + 1)}
	r.batches = append(r.batches, b)
	for i := range n {
		r.top++
		if wants == nil || wants(i) {
			r.ids = append(r.ids, r.top)
		}
	}
	return b
}

func (r *record) contains(id message.ID) bool {
	_, ok := slices.BinarySearch(r.ids, id)
	return ok
}

// remove takes ids out of the pending set.
func (r *record) remove(first, last message.ID) {
	lo, _ := slices.BinarySearch(r.ids, first)
	hi, _ := slices.BinarySearch(r.ids, last+1)
	r.ids = slices.Delete(r.ids, lo, hi)
}

// release applies a release.
func (r *record) release(first, last message.ID) {
	for id := first; id <= last; id++ {
		if r.contains(id) {
			r.ended[id]++
		}
	}
}
