package service

import (
	"cmp"
	"slices"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

const (
	// ackDelay is how long acknowledgements wait for an entry to ride on.
	ackDelay = 2e6 // nanoseconds
	// maxRanges bounds the ranges of one command, 64 KiB of them; more go into
	// the next.
	maxRanges = 4096
)

// Commands implements [cluster.Leading]: settlements ride along, or go when
// they have waited long enough; releases and watermarks go at once.
func (s *Service) Commands(dst [][]byte, riding bool, now cluster.Now) [][]byte {
	if s.ackUnset {
		s.ackUnset = false
		if s.ackDue == 0 {
			s.ackDue = now.Mono + ackDelay
		}
	}
	from := len(dst)
	if riding || s.urgent || s.ackDue != 0 && now.Mono >= s.ackDue {
		for _, t := range s.waiting {
			t.waits = false
			dst = s.take(t, dst)
		}
		s.waiting, s.ackDue, s.urgent = s.waiting[:0], 0, false
	}
	dst = s.upkeeping(dst, now)
	if n := len(dst) - from; n > 0 || riding {
		s.entries.push(n)
	}
	return dst
}

// take turns what a durable has waiting into commands.
func (s *Service) take(t *duty, dst [][]byte) [][]byte {
	for _, attach := range t.detached {
		dst = append(dst, store.AppendDetach(nil, t.id, attach))
		s.issued.push(issued{})
	}
	t.detached = t.detached[:0]
	if t.mark != 0 {
		dst = append(dst, store.AppendWatermark(nil, t.id, message.ID(t.mark)))
		s.issued.push(issued{duty: t})
		t.mark = 0
	}
	var last *issued
	for ranges := range slices.Chunk(t.releases, maxRanges) {
		dst = append(dst, store.AppendRelease(nil, t.id, s.storeRanges(ranges), true))
		last = s.issued.push(issued{duty: t, released: ranges})
	}
	if len(t.acks) > 0 {
		t.acks = coalesce(t.acks)
	}
	for ranges := range slices.Chunk(t.acks, maxRanges) {
		dst = append(dst, store.AppendSettle(nil, t.id, s.storeRanges(ranges)))
		last = s.issued.push(issued{duty: t, settled: ranges})
	}
	if last != nil {
		last.waiters = t.waiters // whoever waits, waits for the last of them
		t.waiters = nil
	}
	// The commands that were issued keep the ranges.
	t.acks, t.releases, t.compact = nil, nil, 0
	return dst
}

// coalesce sorts runs and joins those that touch or overlap.
func coalesce(runs []dispatch.Run) []dispatch.Run {
	slices.SortFunc(runs, func(a, b dispatch.Run) int { return cmp.Compare(a.First, b.First) })
	out := runs[:1]
	for _, r := range runs[1:] {
		if last := &out[len(out)-1]; r.First <= last.Last+1 {
			last.Last = max(last.Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// storeRanges is valid until it is called again.
func (s *Service) storeRanges(runs []dispatch.Run) []store.Range {
	s.ranges = s.ranges[:0]
	for _, r := range runs {
		s.ranges = append(s.ranges, store.Range(r))
	}
	return s.ranges
}

// Deadline implements [cluster.Leading].
func (s *Service) Deadline() int64 {
	if s.urgent || s.ackUnset {
		return 1
	}
	d := earliest(s.ackDue, s.upkeep.deadline())
	if s.suspension.since != 0 {
		return earliest(d, s.suspension.until)
	}
	if !s.quorum {
		return d // nothing is handed out, however late: ticks say when there is one again
	}
	for _, t := range s.delayed {
		if due := t.d.Deadline(); due != 0 {
			d = earliest(d, due+s.suspension.before)
		}
	}
	return d
}

func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Settled implements [cluster.Leading]: it hands out what is owed. Without a
// quorum another leader may be handing out the same, so nothing goes; nor does
// anything while the cluster is suspended.
func (s *Service) Settled(quorum bool, now cluster.Now) {
	s.quorum = quorum
	if s.suspended(now) || !quorum {
		return
	}
	s.delayed = slices.DeleteFunc(s.delayed, func(t *duty) bool {
		due := t.d.Deadline()
		if due != 0 && s.clock(now) >= due {
			s.heat(t)
		}
		t.delays = due != 0
		return !t.delays
	})
	// Handing out may end a subscription, which heats its durable again.
	for len(s.hot) > 0 {
		s.hot, s.heating = s.heating[:0], s.hot
		for _, t := range s.heating {
			t.hot = false
			s.handOut(t, now)
		}
		clear(s.heating)
	}
}

func (s *Service) handOut(t *duty, now cluster.Now) {
	if s.durables[t.id] != t {
		return // deleted meanwhile
	}
	s.next = t.d.Next(s.clock(now), s.next[:0])
	for i := range s.next {
		d := &s.next[i]
		sub := s.subs[d.Sub]
		sub.left -= min(d.Messages, sub.left)
		sub.Deliver(s.delivery(t.id, d))
	}
	clear(s.next)
	if id, ok := t.d.WantWatermark(); ok {
		t.mark = uint64(id)
		s.want(t, true)
	}
	if t.d.Deadline() != 0 && !t.delays {
		t.delays = true
		s.delayed = append(s.delayed, t)
	}
}

// delivery copies what the dispatcher reuses, and looks up the counts where
// there are any.
func (s *Service) delivery(durable uint64, d *dispatch.Delivery) Delivery {
	out := Delivery{Batch: d.Batch, Bytes: d.Bytes}
	if !d.Whole() {
		out.Ranges = make([]Range, len(d.Spans))
		for i, sp := range d.Spans {
			out.Ranges[i] = Range{First: sp.First, Last: sp.Last}
		}
	}
	if !d.Counted {
		return out
	}
	for _, sp := range d.Spans {
		for id := sp.First; id <= sp.Last; id++ {
			ended, possible := s.counts(durable, id)
			if ended += sp.Ended; ended+possible > 0 {
				out.Counts = append(out.Counts, Count{ID: id, Ended: ended, Possible: possible})
			}
		}
	}
	return out
}
