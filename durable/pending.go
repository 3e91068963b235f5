package durable

import (
	"fmt"
	"slices"

	"github.com/perdure/perdure/message"
)

const (
	pageBits = 12
	pageIDs  = 1 << pageBits
	pageMask = pageIDs - 1

	// A region of so many pages is kept as one list while it holds at most
	// listMost ids: pages would cost a durable that wants few of a store's
	// messages more than the ids.
	regionBits  = 16
	regionMask  = 1<<regionBits - 1
	regionPages = 1 << (regionBits - pageBits)
	listMost    = 2048
)

// Pending is the set of messages that a durable wants and nobody has
// acknowledged. The zero value is empty.
//
// Invariants, in the order that check tests them:
//
//  1. spans ascend and do not overlap;
//  2. a bitmap holds as many ids as its count says, at least one, never all;
//  3. two runs never touch: they would be one;
//  4. a region is a list, of at least one id, exactly if it holds at most
//     listMost;
//  5. size is the sum of the counts.
type Pending struct {
	spans []span
	size  uint64
	free  []*bitmap // at most maxFree, so that pages that come and go cost nothing
	spare []uint16  // likewise the memory of a list
	track Tracker
}

const maxFree = 8

// AddRange adds the n ids from first on, and returns how many of them are new.
func (p *Pending) AddRange(first message.ID, n uint64) (added uint64) {
	if n == 0 {
		return 0
	}
	before := p.size
	lo, hi := uint64(first), uint64(first)+n-1
	if lo>>regionBits == hi>>regionBits {
		p.addPart(lo, hi)
		return p.size - before
	}
	if lo&regionMask != 0 {
		p.addPart(lo, lo|regionMask)
		lo = lo | regionMask + 1
	}
	page, end := lo>>pageBits, hi>>regionBits*regionPages
	if hi&regionMask == regionMask {
		end += regionPages
	}
	if page < end {
		p.addRun(page, end)
	}
	if hi&regionMask != regionMask {
		p.addPart(hi&^regionMask, hi)
	}
	return p.size - before
}

// AddIDs adds ids, which ascend, and returns how many of them are new.
func (p *Pending) AddIDs(ids []message.ID) (added uint64) {
	for i := 0; i < len(ids); {
		j := i + 1
		for j < len(ids) && ids[j] == ids[j-1]+1 {
			j++
		}
		added += p.AddRange(ids[i], uint64(j-i))
		i = j
	}
	return added
}

// Remove removes id and reports whether it was pending. Removing an id twice,
// or one never added, does nothing: acknowledgements are repeated.
func (p *Pending) Remove(id message.ID) bool {
	return p.removePart(uint64(id), uint64(id)) == 1
}

// RemoveRange removes the ids from first to last, both included, and returns
// how many of them were pending.
func (p *Pending) RemoveRange(first, last message.ID) (removed uint64) {
	if first > last {
		return 0
	}
	lo, hi := uint64(first), uint64(last)
	if lo>>regionBits == hi>>regionBits {
		return p.removePart(lo, hi)
	}
	if lo&regionMask != 0 {
		removed += p.removePart(lo, lo|regionMask)
		lo = lo | regionMask + 1
	}
	page, end := lo>>pageBits, hi>>regionBits*regionPages
	if hi&regionMask == regionMask {
		end += regionPages
	}
	removed += p.removePages(page, end)
	if hi&regionMask != regionMask {
		removed += p.removePart(hi&^regionMask, hi)
	}
	return removed
}

// Len returns how many messages are pending: the backlog, exactly.
func (p *Pending) Len() uint64 { return p.size }

// Floor returns the lowest pending id, 0 if there is none.
func (p *Pending) Floor() message.ID {
	first, _, _ := p.NextRun(0)
	return first
}

// Last returns the highest pending id, 0 if there is none.
func (p *Pending) Last() message.ID {
	if len(p.spans) == 0 {
		return 0
	}
	return message.ID(p.spans[len(p.spans)-1].last())
}

// Contains reports whether id is pending.
func (p *Pending) Contains(id message.ID) bool {
	page := uint64(id) >> pageBits
	i, ok := p.find(page)
	return ok && p.spans[i].has(uint64(id))
}

// NextRun returns the first pending id at or above from, and how many ids from
// it on are pending without a gap. ok is false if nothing is pending there.
func (p *Pending) NextRun(from message.ID) (first message.ID, n uint64, ok bool) {
	start := uint64(from)
	i, inside := p.find(start >> pageBits)
	if inside {
		if start, inside = p.spans[i].next(start); !inside {
			i++
		}
	}
	if i == len(p.spans) {
		return 0, 0, false
	}
	if !inside {
		start, _ = p.spans[i].next(p.spans[i].page << pageBits)
	}
	return message.ID(start), p.runEnd(i, start) - start, true
}

// runEnd returns the first id above start that is not pending; start is, and
// belongs to span i.
func (p *Pending) runEnd(i int, start uint64) uint64 {
	for {
		s := &p.spans[i]
		gap := s.nextGap(start)
		if i++; gap != s.end()<<pageBits || i == len(p.spans) || !p.spans[i].begins(gap) {
			return gap
		}
		start = gap
	}
}

// Runs yields every maximal run of pending ids in [first, last], ascending,
// until yield returns false. The set must not change meanwhile.
func (p *Pending) Runs(first, last message.ID, yield func(first message.ID, n uint64) bool) {
	for from := first; from <= last; {
		id, n, ok := p.NextRun(from)
		if !ok || id > last {
			return
		}
		n = min(n, uint64(last-id)+1)
		if !yield(id, n) {
			return
		}
		from = id + message.ID(n)
		if from < id {
			return // the highest id there can be
		}
	}
}

// String describes the set, up to 10 runs of it, for logs and tests.
func (p *Pending) String() string {
	text := fmt.Sprintf("%d pending:", p.size)
	shown := 0
	p.Runs(0, ^message.ID(0), func(first message.ID, n uint64) bool {
		if shown++; shown > 10 {
			text += " ..."
			return false
		}
		if n == 1 {
			text += fmt.Sprintf(" %d", uint64(first))
		} else {
			text += fmt.Sprintf(" %d-%d", uint64(first), uint64(first)+n-1)
		}
		return true
	})
	return text
}

// find returns the span that holds page, or where one would be inserted.
func (p *Pending) find(page uint64) (int, bool) {
	n := len(p.spans)
	// Publishing touches the last span, settling in order the first.
	if n == 0 || page >= p.spans[n-1].end() {
		return n, false
	}
	if page >= p.spans[n-1].page {
		return n - 1, true
	}
	if first := &p.spans[0]; page < first.end() {
		return 0, page >= first.page
	}
	return slices.BinarySearchFunc(p.spans, page, func(s span, page uint64) int {
		switch {
		case s.page > page:
			return 1
		case s.end() <= page:
			return -1
		}
		return 0
	})
}
