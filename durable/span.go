package durable

import "slices"

// span is a part of a pending set: a run of full pages, the bitmap of one page,
// or the list of a region.
type span struct {
	page uint64   // first, or only, page; the number of the span's saved page
	full uint64   // length of a run in pages; 0 if it is none
	bits *bitmap  // of page; nil if it is none
	list []uint16 // ids in the region that begins at page, ascending
	mark Mark
}

// end returns the number of the first page after s.
func (s *span) end() uint64 {
	switch {
	case s.full > 0:
		return s.page + s.full
	case s.bits != nil:
		return s.page + 1
	}
	return s.page + regionPages
}

// count returns how many ids s holds.
func (s *span) count() uint64 {
	switch {
	case s.full > 0:
		return s.full << pageBits
	case s.bits != nil:
		return uint64(s.bits.count)
	}
	return uint64(len(s.list))
}

// has reports whether id, which lies in one of the pages of s, is in s.
func (s *span) has(id uint64) bool {
	switch {
	case s.full > 0:
		return true
	case s.bits != nil:
		return s.bits.has(uint(id & pageMask))
	}
	_, found := slices.BinarySearch(s.list, uint16(id))
	return found
}

// begins reports whether id is the first that s could hold, and it does.
func (s *span) begins(id uint64) bool { return s.page<<pageBits == id && s.has(id) }

// next returns the first member of s at or above id, which lies in its pages.
func (s *span) next(id uint64) (uint64, bool) {
	switch {
	case s.full > 0:
		return id, true
	case s.bits != nil:
		at, found := s.bits.next(uint(id & pageMask))
		return s.page<<pageBits | uint64(at), found
	}
	at, _ := slices.BinarySearch(s.list, uint16(id))
	if at == len(s.list) {
		return 0, false
	}
	return s.page<<pageBits | uint64(s.list[at]), true
}

// nextGap returns the first id above id, a member, that is not in s.
func (s *span) nextGap(id uint64) uint64 {
	switch {
	case s.full > 0:
		return s.end() << pageBits
	case s.bits != nil:
		return s.page<<pageBits + uint64(s.bits.nextGap(uint(id&pageMask)))
	}
	at, _ := slices.BinarySearch(s.list, uint16(id))
	return s.page<<pageBits + uint64(s.list[runLast(s.list, at)]) + 1
}

// last returns the highest member of s.
func (s *span) last() uint64 {
	switch {
	case s.full > 0:
		return s.end()<<pageBits - 1
	case s.bits != nil:
		return s.page<<pageBits | uint64(s.bits.last())
	}
	return s.page<<pageBits | uint64(s.list[len(s.list)-1])
}

// addPages adds [lo, hi], which lies in one region that is kept in pages.
func (p *Pending) addPages(lo, hi uint64) {
	page, last := lo>>pageBits, hi>>pageBits
	if page == last {
		p.addBits(page, uint(lo&pageMask), uint(hi&pageMask))
		return
	}
	if lo&pageMask != 0 {
		p.addBits(page, uint(lo&pageMask), pageMask)
		page++
	}
	whole := last
	if hi&pageMask == pageMask {
		whole++
	}
	if page < whole {
		p.addRun(page, whole)
	}
	if whole == last {
		p.addBits(last, 0, uint(hi&pageMask))
	}
}

// dropPages removes [lo, hi], which lies in one region that is kept in pages,
// and returns how many ids there were.
func (p *Pending) dropPages(lo, hi uint64) (removed uint64) {
	page, end := lo>>pageBits, hi>>pageBits
	if page == end {
		return p.removeBits(page, uint(lo&pageMask), uint(hi&pageMask))
	}
	if lo&pageMask != 0 {
		removed += p.removeBits(page, uint(lo&pageMask), pageMask)
		page++
	}
	whole := end
	if hi&pageMask == pageMask {
		whole++
	}
	removed += p.removePages(page, whole)
	if whole == end {
		removed += p.removeBits(end, 0, uint(hi&pageMask))
	}
	return removed
}

// addBits adds [lo, hi] of one page.
func (p *Pending) addBits(page uint64, lo, hi uint) {
	if lo == 0 && hi == pageMask {
		p.addRun(page, page+1)
		return
	}
	i, ok := p.find(page)
	if !ok {
		p.spans = slices.Insert(p.spans, i, span{page: page, bits: p.newBitmap()})
	}
	if p.spans[i].full == 0 {
		p.addAt(i, lo, hi)
	}
}

// addAt adds [lo, hi], not all, to the bitmap of span i.
func (p *Pending) addAt(i int, lo, hi uint) {
	s := &p.spans[i]
	added := s.bits.set(lo, hi)
	if added == 0 {
		return
	}
	p.size += added
	p.track.Touch(&s.mark, s.page)
	if s.bits.count == pageIDs {
		p.freeBitmap(s.bits)
		s.bits, s.full = nil, 1
		p.merge(i)
	}
}

// addRun adds the pages [page, end) whole.
func (p *Pending) addRun(page, end uint64) {
	i, inside := p.find(page)
	if inside && p.spans[i].end() >= end && p.spans[i].full > 0 {
		return
	}
	p.removePages(page, end)
	i, _ = p.find(page)
	p.spans = slices.Insert(p.spans, i, span{page: page, full: end - page})
	p.size += (end - page) << pageBits
	p.track.Touch(&p.spans[i].mark, page)
	p.merge(i)
}

// merge joins the run at i with runs that it touches, so that runs are as long
// as can be.
func (p *Pending) merge(i int) {
	if i+1 < len(p.spans) {
		if s, next := &p.spans[i], &p.spans[i+1]; next.full > 0 && next.page == s.end() {
			p.track.Touch(&s.mark, s.page)
			s.full += next.full
			p.cut(i+1, i+2)
		}
	}
	if i > 0 {
		if prev, s := &p.spans[i-1], &p.spans[i]; prev.full > 0 && prev.end() == s.page {
			p.track.Touch(&prev.mark, prev.page)
			prev.full += s.full
			p.cut(i, i+1)
		}
	}
}

// removeBits removes [lo, hi] of one page and returns how many there were.
func (p *Pending) removeBits(page uint64, lo, hi uint) uint64 {
	if lo == 0 && hi == pageMask {
		return p.removePages(page, page+1)
	}
	i, ok := p.find(page)
	if !ok {
		return 0
	}
	return p.removeAt(i, page, lo, hi)
}

// removeAt is removeBits of a page of span i that is not removed whole.
func (p *Pending) removeAt(i int, page uint64, lo, hi uint) uint64 {
	if p.spans[i].full > 0 {
		i = p.split(i, page)
	}
	s := &p.spans[i]
	removed := s.bits.clear(lo, hi)
	if removed == 0 {
		return 0
	}
	p.size -= removed
	if s.bits.count == 0 {
		p.cut(i, i+1)
	} else {
		p.track.Touch(&s.mark, page)
	}
	return removed
}

// split makes page, inside the run at i, a bitmap that holds everything, and
// returns its span. The caller removes something from it.
func (p *Pending) split(i int, page uint64) int {
	s := p.spans[i]
	b := p.newBitmap()
	b.set(0, pageMask)
	middle := span{page: page, bits: b}
	if page == s.page {
		middle.mark = s.mark
		p.spans[i] = middle
	} else {
		p.spans[i].full = page - s.page
		p.track.Touch(&p.spans[i].mark, s.page)
		i++
		p.spans = slices.Insert(p.spans, i, middle)
	}
	p.track.Touch(&p.spans[i].mark, page)
	if right := s.end() - page - 1; right > 0 {
		p.spans = slices.Insert(p.spans, i+1, span{page: page + 1, full: right})
		p.track.Touch(&p.spans[i+1].mark, page+1)
	}
	return i
}

// removePages removes the pages [page, end) and returns how many ids they held.
func (p *Pending) removePages(page, end uint64) (removed uint64) {
	if page >= end {
		return 0
	}
	i, inside := p.find(page)
	if inside && p.spans[i].page < page {
		// A run that begins before: its head stays.
		s := &p.spans[i]
		stop := s.end()
		s.full = page - s.page
		p.track.Touch(&s.mark, s.page)
		removed += (min(stop, end) - page) << pageBits
		i++
		if stop > end {
			p.spans = slices.Insert(p.spans, i, span{page: end, full: stop - end})
			p.track.Touch(&p.spans[i].mark, end)
		}
	}
	j := i
	for ; j < len(p.spans) && p.spans[j].end() <= end; j++ {
		removed += p.spans[j].count()
	}
	if j < len(p.spans) && p.spans[j].page < end {
		// A run that goes on after: its tail becomes a run of its own.
		s := &p.spans[j]
		removed += (end - s.page) << pageBits
		tail := span{page: end, full: s.end() - end}
		p.track.Drop(&s.mark, s.page)
		p.track.Touch(&tail.mark, end)
		p.spans[j] = tail
	}
	p.cut(i, j)
	p.size -= removed
	return removed
}

// cut takes the spans [i, j) out. size is the caller's business.
func (p *Pending) cut(i, j int) {
	if i == j {
		return
	}
	for k := i; k < j; k++ {
		s := &p.spans[k]
		p.track.Drop(&s.mark, s.page)
		if s.bits != nil {
			p.freeBitmap(s.bits)
			s.bits = nil
		}
		if cap(s.list) > cap(p.spare) {
			p.spare = s.list[:0]
		}
		s.list = nil
	}
	if i == 0 && len(p.spans)-j > 64 {
		p.spans = p.spans[j:] // settling a backlog in order: nothing moves
		return
	}
	p.spans = slices.Delete(p.spans, i, j)
}

// newBitmap returns an empty bitmap.
func (p *Pending) newBitmap() *bitmap {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		*b = bitmap{}
		return b
	}
	return new(bitmap)
}

// freeBitmap keeps b for later, if there is room.
func (p *Pending) freeBitmap(b *bitmap) {
	if len(p.free) < maxFree {
		p.free = append(p.free, b)
	}
}
