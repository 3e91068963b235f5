package durable

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Contents of a page of a pending set; see the package comment.
const (
	pageRun  = 1
	pageList = 2
	pageBit  = 3
)

// AppendPage implements [Source].
func (p *Pending) AppendPage(dst []byte, page uint64) ([]byte, *Mark) {
	i, ok := p.find(page)
	if !ok || p.spans[i].page != page {
		return dst, nil
	}
	s := &p.spans[i]
	switch {
	case s.full > 0:
		dst = binary.AppendUvarint(append(dst, pageRun), s.full)
	case s.bits != nil:
		dst = append(dst, pageBit)
		for _, w := range s.bits.words {
			dst = binary.LittleEndian.AppendUint64(dst, w)
		}
	default:
		dst = append(dst, pageList)
		for _, id := range s.list {
			dst = binary.BigEndian.AppendUint16(dst, id)
		}
	}
	return dst, &s.mark
}

// LoadPage adds a page that [Tracker.Changed] yielded, in any order; Loaded
// must follow when all are there.
func (p *Pending) LoadPage(page uint64, value []byte) error {
	s := span{page: page}
	if len(value) == 0 || page > ^uint64(0)>>pageBits {
		return fmt.Errorf("%w: pending page %d is empty or out of range", ErrPage, page)
	}
	body := value[1:]
	switch value[0] {
	case pageRun:
		n, used := Uvarint(body)
		if used != len(body) || n == 0 || n > 1<<(64-pageBits)-page {
			return fmt.Errorf("%w: pending page %d: run of %d", ErrPage, page, n)
		}
		s.full = n
	case pageList:
		if page%regionPages != 0 || len(body) == 0 || len(body)%2 != 0 || len(body)/2 > listMost {
			return fmt.Errorf("%w: pending page %d: list of %d bytes", ErrPage, page, len(body))
		}
		s.list = make([]uint16, 0, len(body)/2)
		for ; len(body) > 0; body = body[2:] {
			id := binary.BigEndian.Uint16(body)
			if n := len(s.list); n > 0 && s.list[n-1] >= id {
				return fmt.Errorf("%w: pending page %d: ids do not ascend", ErrPage, page)
			}
			s.list = append(s.list, id)
		}
	case pageBit:
		if len(body) != pageIDs/8 {
			return fmt.Errorf("%w: pending page %d: bitmap of %d bytes", ErrPage, page, len(body))
		}
		s.bits = new(bitmap)
		for w := range s.bits.words {
			s.bits.words[w] = binary.LittleEndian.Uint64(body[8*w:])
		}
		s.bits.recount()
		if s.bits.count == 0 || s.bits.count == pageIDs {
			return fmt.Errorf("%w: pending page %d: bitmap of %d ids", ErrPage, page, s.bits.count)
		}
	default:
		return fmt.Errorf("%w: pending page %d: content %d is not known", ErrPage, page, value[0])
	}
	p.size += s.count()
	p.spans = append(p.spans, s)
	return nil
}

// Loaded checks that the pages given to LoadPage make a set.
func (p *Pending) Loaded() error {
	slices.SortFunc(p.spans, func(a, b span) int {
		if a.page < b.page {
			return -1
		}
		return 1
	})
	for i := range p.spans {
		s := &p.spans[i]
		if i > 0 {
			prev := &p.spans[i-1]
			if prev.end() > s.page || prev.end() == s.page && prev.full > 0 && s.full > 0 {
				return fmt.Errorf("%w: pending page %d overlaps or should be part of %d", ErrPage, s.page, prev.page)
			}
		}
		p.track.Loaded(&s.mark, s.page)
	}
	return p.listed()
}

// listed checks that no region is kept in pages that should be a list.
func (p *Pending) listed() error {
	for i := 0; i < len(p.spans); {
		page := p.spans[i].page / regionPages * regionPages
		if p.spans[i].bits == nil || i > 0 && p.spans[i-1].end() > page {
			i++ // a list, a run, or the region of one
			continue
		}
		n := uint64(0)
		for ; i < len(p.spans) && p.spans[i].page < page+regionPages; i++ {
			n += p.spans[i].count()
		}
		if n <= listMost {
			return fmt.Errorf("%w: pending page %d: pages for %d ids", ErrPage, page, n)
		}
	}
	return nil
}

// Tracker returns the books of the set's pages.
func (p *Pending) Tracker() *Tracker { return &p.track }

// Move makes p the set of another owner: all its pages are new.
func (p *Pending) Move() {
	p.track = Tracker{}
	for i := range p.spans {
		s := &p.spans[i]
		s.mark = Mark{}
		p.track.Touch(&s.mark, s.page)
	}
}

// Pages yields the number of every page of the set.
func (p *Pending) Pages(yield func(page uint64)) {
	for i := range p.spans {
		yield(p.spans[i].page)
	}
}

// Uvarint reads an unsigned varint as [binary.Uvarint] does, and refuses
// encodings that are longer than need be: state has one encoding.
func Uvarint(b []byte) (v uint64, used int) {
	v, used = binary.Uvarint(b)
	if used > 1 && b[used-1] == 0 {
		return 0, 0
	}
	return v, used
}
