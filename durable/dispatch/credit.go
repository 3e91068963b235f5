package dispatch

import (
	"math"

	"github.com/perdure/perdure/message"
)

// Credit is how much a subscriber may still be sent.
type Credit struct {
	Messages uint64
	Bytes    uint64
}

// Most credit that is kept for one subscriber: far above any window, and far
// from overflow however often it is granted.
const (
	maxMessages = 1 << 40
	maxBytes    = 1 << 56
)

// nowhere is the heap position of a subscriber that is not in the heap.
const nowhere = -1

// subscriber is one that is attached, or a vacant slot.
type subscriber struct {
	id       uint64
	messages int64 // of credit
	bytes    int64 // of credit; below 0 after a message larger than all of it
	window   int64 // the most messages of credit it ever had: its prefetch
	held     uint64
	low      message.ID // no id below it is held
	served   uint64     // when it was served last, counted in portions
	at       int32      // in the ready heap
	attached bool
	tight    bool // waits for bytes of credit
	listed   bool // is in the list of tight ones, though perhaps no longer tight
}

// fits is how many messages of size bytes s may be sent. One always passes,
// even if it is larger than all credit, when nothing else is outstanding.
func (s *subscriber) fits(size int64) int64 {
	if s.messages <= 0 {
		return 0
	}
	if s.bytes >= size {
		return min(s.messages, s.bytes/size)
	}
	if s.held == 0 {
		return 1
	}
	return 0
}

// hold notes that c was handed to s.
func (s *subscriber) hold(c span) {
	if s.held == 0 || c.first < s.low {
		s.low = c.first
	}
	s.held += c.size()
}

// grant adds credit. More credit may let a tight subscriber go on.
func (d *Dispatcher) grant(slot int32, c Credit) {
	s := &d.subs[slot]
	before := s.messages
	s.messages = min(maxMessages, s.messages+int64(min(c.Messages, maxMessages)))
	s.bytes = min(maxBytes, s.bytes+int64(min(c.Bytes, maxBytes)))
	s.window = max(s.window, s.messages)
	d.credit += uint64(s.messages - before)
	s.tight = false
	d.rank(slot)
}

// rank puts a subscriber where it belongs in the ready heap, after anything
// that decides about it has changed.
func (d *Dispatcher) rank(slot int32) {
	s := &d.subs[slot]
	if s.held == 0 {
		s.tight = false // one message passes now
	}
	switch {
	case s.attached && s.messages > 0 && !s.tight:
		if s.at == nowhere {
			s.at = int32(len(d.ready))
			d.ready = append(d.ready, slot)
			d.up(s.at)
			return
		}
		d.up(s.at)
		d.down(s.at)
	case s.at != nowhere:
		at, last := s.at, int32(len(d.ready)-1)
		d.swap(at, last)
		d.ready = d.ready[:last]
		s.at = nowhere
		if at < last {
			d.up(at)
			d.down(at)
		}
	}
}

// pick returns who gets the next message, of size bytes: of those that have
// room for it the one that holds least, and of equals the one served longest
// ago.
func (d *Dispatcher) pick(size int64) (int32, bool) {
	if len(d.tight) > 0 && size <= d.room {
		d.loosen()
	}
	for len(d.ready) > 0 {
		slot := d.ready[0]
		s := &d.subs[slot]
		if s.fits(size) > 0 {
			return slot, true
		}
		// Aside until it has more credit or a smaller message comes, so that
		// full subscribers are not looked at for each message.
		s.tight = true
		d.room = max(d.room, s.bytes)
		if !s.listed {
			s.listed = true
			d.tight = append(d.tight, slot)
		}
		d.rank(slot)
	}
	return 0, false
}

// loosen makes every tight subscriber a candidate again.
func (d *Dispatcher) loosen() {
	for _, slot := range d.tight {
		s := &d.subs[slot]
		s.tight, s.listed = false, false
		d.rank(slot)
	}
	d.tight, d.room = d.tight[:0], math.MinInt64
}

// less says whether the slot at position i of the ready heap is served before
// the one at j. No two slots are equal, so the order is the same everywhere.
func (d *Dispatcher) less(i, j int32) bool {
	a, b := &d.subs[d.ready[i]], &d.subs[d.ready[j]]
	if a.held != b.held {
		return a.held < b.held
	}
	if a.served != b.served {
		return a.served < b.served
	}
	return d.ready[i] < d.ready[j]
}

func (d *Dispatcher) swap(i, j int32) {
	d.ready[i], d.ready[j] = d.ready[j], d.ready[i]
	d.subs[d.ready[i]].at = i
	d.subs[d.ready[j]].at = j
}

func (d *Dispatcher) up(i int32) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.less(i, parent) {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d *Dispatcher) down(i int32) {
	for n := int32(len(d.ready)); ; {
		child := 2*i + 1
		if child >= n {
			return
		}
		if child+1 < n && d.less(child+1, child) {
			child++
		}
		if !d.less(child, i) {
			return
		}
		d.swap(i, child)
		i = child
	}
}
