package durable

import (
	"math/bits"
	"slices"
)

// addPart adds [lo, hi], which lies in one region.
func (p *Pending) addPart(lo, hi uint64) {
	i, ok := p.find(lo >> pageBits)
	page := lo >> regionBits * regionPages
	switch {
	case ok && p.spans[i].full > 0 && lo>>pageBits == hi>>pageBits:
		return
	case ok && p.spans[i].bits != nil && hi-lo < pageMask && lo>>pageBits == hi>>pageBits:
		p.addAt(i, uint(lo&pageMask), uint(hi&pageMask))
		return
	case ok && p.spans[i].list != nil:
		if p.extend(i, uint16(lo), uint16(hi)) {
			return
		}
		p.expand(i)
	case !ok && hi-lo < listMost && !p.paged(i, page):
		p.spans = slices.Insert(p.spans, i, span{page: page, list: p.newList(i)})
		p.extend(i, uint16(lo), uint16(hi))
		return
	}
	p.addPages(lo, hi)
}

// paged reports whether a region, without a list, has pages. i is where a span
// of the region would be inserted.
func (p *Pending) paged(i int, page uint64) bool {
	return i > 0 && p.spans[i-1].end() > page || i < len(p.spans) && p.spans[i].page < page+regionPages
}

// newList returns memory for a list that is to be span i.
func (p *Pending) newList(i int) []uint16 {
	if i > 0 && i == len(p.spans) && p.spans[i-1].list != nil {
		// Ids rise, so nothing will be added to the one before.
		if list := p.spans[i-1].list; cap(list)-len(list) > len(list)/4 {
			p.spans[i-1].list = append(make([]uint16, 0, len(list)), list...)
			p.spare = list[:0]
		}
	}
	if list := p.spare; list != nil {
		p.spare = nil
		return list
	}
	return make([]uint16, 0, 4)
}

// extend adds [lo, hi] to the list of span i. It does nothing and returns false
// if that would be too long.
func (p *Pending) extend(i int, lo, hi uint16) bool {
	s := &p.spans[i]
	n, list := int(hi-lo)+1, s.list
	from, to := len(list), len(list)
	if to > 0 && list[to-1] >= lo {
		from, to = bounds(list, lo, hi)
	}
	added := n - (to - from)
	if len(list)+added > listMost {
		return false
	}
	if added == 0 {
		return true
	}
	p.track.Touch(&s.mark, s.page)
	p.size += uint64(added)
	tail := len(list) - to
	list = slices.Grow(list, added)[:len(list)+added]
	if tail > 0 {
		copy(list[from+n:], list[to:to+tail])
	}
	for k := range n {
		list[from+k] = lo + uint16(k)
	}
	s.list = list
	return true
}

// bounds returns where the members in [lo, hi] begin and end.
func bounds(list []uint16, lo, hi uint16) (from, to int) {
	from, _ = slices.BinarySearch(list, lo)
	to = from
	if n := int(hi-lo) + 1; from+n <= len(list) && list[from+n-1] == hi {
		return from, from + n // all of them are there
	}
	to, found := slices.BinarySearch(list[from:], hi)
	if found {
		to++
	}
	return from, from + to
}

// runLast returns where the run that begins at a position ends.
func runLast(list []uint16, at int) int {
	first := list[at]
	// What is left is often one run.
	if n := len(list) - 1; int(list[n]-first) == n-at {
		return n
	}
	last := at
	for last+1 < len(list) && list[last+1] == list[last]+1 {
		last++
	}
	return last
}

// expand turns the list of span i into pages. More ids are to be added.
func (p *Pending) expand(i int) {
	s := p.spans[i]
	p.spans[i].list = nil
	p.cut(i, i+1)
	p.size -= uint64(len(s.list))
	base := s.page << pageBits
	for at := 0; at < len(s.list); at++ {
		last := runLast(s.list, at)
		p.addPages(base+uint64(s.list[at]), base+uint64(s.list[last]))
		at = last
	}
	p.spare = s.list[:0]
}

// removePart removes [lo, hi], which lies in one region, and returns how many
// ids there were.
func (p *Pending) removePart(lo, hi uint64) uint64 {
	page := lo >> pageBits
	i, ok := p.find(page)
	if !ok || p.spans[i].list == nil {
		var removed uint64
		if one := hi>>pageBits == page && hi-lo < pageMask; !one {
			removed = p.dropPages(lo, hi)
		} else if ok {
			removed = p.removeAt(i, page, uint(lo&pageMask), uint(hi&pageMask))
			// Most often this page alone says that the region is no list.
			if i, ok = p.find(page); ok && p.spans[i].count() > listMost {
				return removed
			}
		}
		if removed > 0 {
			p.shrink(lo >> regionBits * regionPages)
		}
		return removed
	}
	s := &p.spans[i]
	from, to := bounds(s.list, uint16(lo), uint16(hi))
	if from == to {
		return 0
	}
	p.size -= uint64(to - from)
	if to-from == len(s.list) {
		p.cut(i, i+1)
	} else {
		p.track.Touch(&s.mark, s.page)
		s.list = slices.Delete(s.list, from, to)
	}
	return uint64(to - from)
}

// shrink makes a list of the region that begins at page, which is kept in pages
// and lost some ids, if it has few enough.
func (p *Pending) shrink(page uint64) {
	i, _ := p.find(page)
	n, j := uint64(0), i
	for ; j < len(p.spans) && p.spans[j].page < page+regionPages; j++ {
		if n += p.spans[j].count(); n > listMost {
			return
		}
	}
	if n == 0 {
		return
	}
	list := slices.Grow(p.spare[:0], int(n))
	p.spare = nil
	for k := i; k < j; k++ {
		at := uint16(p.spans[k].page << pageBits)
		for w, word := range p.spans[k].bits.words {
			for ; word != 0; word &= word - 1 {
				list = append(list, at+uint16(w*64+bits.TrailingZeros64(word)))
			}
		}
	}
	p.cut(i, j)
	p.spans = slices.Insert(p.spans, i, span{page: page, list: list})
	p.track.Touch(&p.spans[i].mark, page)
}
