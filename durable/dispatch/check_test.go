package dispatch

import (
	"fmt"
	"math"

	"github.com/perdure/perdure/message"
)

// check reports the first broken invariant of r.
func (r *runs) check() error {
	var prev *span
	for _, k := range r.chunks {
		if k.n == 0 || k.n > chunkSpans {
			return fmt.Errorf("a chunk of %d spans", k.n)
		}
		for i := range k.n {
			s := &k.spans[i]
			if s.first > s.last {
				return fmt.Errorf("empty span %+v", *s)
			}
			if prev != nil && prev.last >= s.first {
				return fmt.Errorf("%+v overlaps %+v", *prev, *s)
			}
			if prev != nil && prev.last+1 == s.first && prev.like(*s) {
				return fmt.Errorf("%+v and %+v are one span", *prev, *s)
			}
			prev = s
		}
	}
	return nil
}

// all returns the spans of r.
func (r *runs) all() []span {
	var out []span
	for _, k := range r.chunks {
		out = append(out, k.spans[:k.n]...)
	}
	return out
}

// check reports the first broken invariant of d against the record it reads.
func (d *Dispatcher) check(rec *record) error {
	if err := d.claims.check(); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	if err := d.free.check(); err != nil {
		return fmt.Errorf("free: %w", err)
	}
	where := make(map[message.ID]span)
	var total [states]uint64
	heldBy := make([]uint64, len(d.subs))
	entries := make(map[delay]bool)
	for _, e := range d.delays {
		entries[e] = true
	}
	for i, list := range [][]span{d.claims.all(), d.free.all()} {
		for _, s := range list {
			if (s.state == returned) != (i == 1) {
				return fmt.Errorf("%+v is in the wrong list", s)
			}
			total[s.state] += s.size()
			if s.state == held {
				heldBy[s.slot] += s.size()
				if s.first < d.subs[s.slot].low {
					return fmt.Errorf("%+v is below the lowest that its holder has", s)
				}
			}
			if s.state == delayed && !entries[delay{s.due, s.first}] {
				return fmt.Errorf("%+v would never return", s)
			}
			if s.state != settling && s.last >= d.cursor {
				return fmt.Errorf("%+v is above the cursor %d", s, d.cursor)
			}
			for id := s.first; id <= s.last; id++ {
				if _, twice := where[id]; twice {
					return fmt.Errorf("%d is in two places", id)
				}
				where[id] = s
			}
		}
	}
	for _, id := range rec.ids {
		if _, ok := where[id]; !ok && id < d.cursor {
			return fmt.Errorf("%d is pending, below the cursor %d, and nowhere", id, d.cursor)
		}
	}
	if total != d.total {
		return fmt.Errorf("counts %v, has %v", d.total, total)
	}
	if len(d.delays) > max(minSweep, d.sweepAt) {
		return fmt.Errorf("%d delays, to be swept at %d", len(d.delays), d.sweepAt)
	}
	return d.checkSubscribers(heldBy)
}

func (d *Dispatcher) checkSubscribers(heldBy []uint64) error {
	var credit uint64
	room := int64(math.MinInt64)
	listed := make(map[int32]bool)
	for _, slot := range d.tight {
		if listed[slot] || !d.subs[slot].listed {
			return fmt.Errorf("slot %d is listed as tight twice or without knowing", slot)
		}
		listed[slot] = true
	}
	for slot := range d.subs {
		s := &d.subs[slot]
		if s.held != heldBy[slot] {
			return fmt.Errorf("subscriber %d counts %d held, holds %d", s.id, s.held, heldBy[slot])
		}
		if got, ok := d.slots[s.id]; s.attached && (!ok || got != int32(slot)) {
			return fmt.Errorf("subscriber %d is not found in slot %d", s.id, slot)
		}
		if !s.attached && (s.held > 0 || s.messages != 0) {
			return fmt.Errorf("vacant slot %d: %+v", slot, *s)
		}
		if want := s.attached && s.messages > 0 && !s.tight; want != (s.at != nowhere) {
			return fmt.Errorf("subscriber %d ready: %t, in the heap at %d", s.id, want, s.at)
		}
		if s.at != nowhere && d.ready[s.at] != int32(slot) {
			return fmt.Errorf("subscriber %d is not at %d in the heap", s.id, s.at)
		}
		if s.tight {
			if !listed[int32(slot)] {
				return fmt.Errorf("subscriber %d is tight and not listed", s.id)
			}
			room = max(room, s.bytes)
		}
		credit += uint64(s.messages)
	}
	for i := int32(1); int(i) < len(d.ready); i++ {
		if d.less(i, (i-1)/2) {
			return fmt.Errorf("the heap is out of order at %d", i)
		}
	}
	if room > d.room {
		return fmt.Errorf("a tight subscriber has room for %d bytes, %d were noted", room, d.room)
	}
	if credit != d.credit {
		return fmt.Errorf("counts %d messages of credit, has %d", d.credit, credit)
	}
	return nil
}
