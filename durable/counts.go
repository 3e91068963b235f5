package durable

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/perdure/perdure/message"
)

// Counts is how many deliveries of a message have ended without an
// acknowledgement: nacked, timed out, given back. It holds the messages where
// that is above zero, and only while they are pending. The zero value is empty.
type Counts struct {
	pages []countPage // ascending, none empty
	track Tracker
}

type countPage struct {
	page    uint64 // id >> 12
	entries []countEntry
	mark    Mark
}

type countEntry struct {
	at    uint16 // id & 4095, ascending
	ended uint32
}

// Add adds one ended delivery of id, and stops at the highest number there is.
func (c *Counts) Add(id message.ID) {
	page, at := uint64(id)>>pageBits, uint16(id&pageMask)
	i, ok := c.find(page)
	if !ok {
		c.pages = slices.Insert(c.pages, i, countPage{page: page})
	}
	p := &c.pages[i]
	j, ok := p.find(at)
	switch {
	case !ok:
		p.entries = slices.Insert(p.entries, j, countEntry{at: at, ended: 1})
	case p.entries[j].ended == math.MaxUint32:
		return
	default:
		p.entries[j].ended++
	}
	c.track.Touch(&p.mark, page)
}

// Append says that n deliveries of id have ended, which must be above every id of
// which anything was said.
func (c *Counts) Append(id message.ID, n uint32) {
	page, at := uint64(id)>>pageBits, uint16(id&pageMask)
	if k := len(c.pages); k == 0 || c.pages[k-1].page != page {
		c.pages = append(c.pages, countPage{page: page})
	}
	p := &c.pages[len(c.pages)-1]
	p.entries = append(p.entries, countEntry{at: at, ended: n})
	c.track.Touch(&p.mark, page)
}

// Last returns the highest id that has a count, 0 if there is none.
func (c *Counts) Last() message.ID {
	if len(c.pages) == 0 {
		return 0
	}
	p := &c.pages[len(c.pages)-1]
	return message.ID(p.page<<pageBits | uint64(p.entries[len(p.entries)-1].at))
}

// Each yields the messages that have a count, ascending.
func (c *Counts) Each(yield func(id message.ID, ended uint32)) {
	for i := range c.pages {
		for _, e := range c.pages[i].entries {
			yield(message.ID(c.pages[i].page<<pageBits|uint64(e.at)), e.ended)
		}
	}
}

// Get returns how many deliveries of id have ended.
func (c *Counts) Get(id message.ID) uint32 {
	if i, ok := c.find(uint64(id) >> pageBits); ok {
		if j, ok := c.pages[i].find(uint16(id & pageMask)); ok {
			return c.pages[i].entries[j].ended
		}
	}
	return 0
}

// Empty reports whether nothing is counted, which is so nearly always.
func (c *Counts) Empty() bool { return len(c.pages) == 0 }

// Len returns how many messages have a count.
func (c *Counts) Len() int {
	n := 0
	for i := range c.pages {
		n += len(c.pages[i].entries)
	}
	return n
}

// RemoveRange forgets the counts of first to last, both included.
func (c *Counts) RemoveRange(first, last message.ID) {
	lo, hi := uint64(first), uint64(last)
	i, _ := c.find(lo >> pageBits)
	keep := i
	j := i
	for ; j < len(c.pages) && c.pages[j].page <= hi>>pageBits; j++ {
		p := &c.pages[j]
		a, b := 0, len(p.entries)
		if p.page == lo>>pageBits {
			a, _ = p.find(uint16(lo & pageMask))
		}
		if p.page == hi>>pageBits {
			if at, ok := p.find(uint16(hi & pageMask)); ok {
				b = at + 1
			} else {
				b = at
			}
		}
		if a < b {
			p.entries = slices.Delete(p.entries, a, b)
			if len(p.entries) == 0 {
				c.track.Drop(&p.mark, p.page)
				continue
			}
			c.track.Touch(&p.mark, p.page)
		}
		if keep != j {
			c.pages[keep] = *p
		}
		keep++
	}
	c.pages = slices.Delete(c.pages, keep, j)
}

// AppendPage implements [Source].
func (c *Counts) AppendPage(dst []byte, page uint64) ([]byte, *Mark) {
	i, ok := c.find(page)
	if !ok {
		return dst, nil
	}
	p := &c.pages[i]
	for _, e := range p.entries {
		dst = binary.BigEndian.AppendUint16(dst, e.at)
		dst = binary.AppendUvarint(dst, uint64(e.ended))
	}
	return dst, &p.mark
}

// LoadPage adds a page that [Tracker.Changed] yielded, in any order.
func (c *Counts) LoadPage(page uint64, value []byte) error {
	p := countPage{page: page}
	for next := 0; len(value) > 0; {
		if len(value) < 3 {
			return fmt.Errorf("%w: count page %d is cut off", ErrPage, page)
		}
		at := int(binary.BigEndian.Uint16(value))
		n, used := Uvarint(value[2:])
		if used <= 0 || at < next || at > pageMask || n == 0 || n > math.MaxUint32 {
			return fmt.Errorf("%w: count page %d: entry %d", ErrPage, page, len(p.entries))
		}
		p.entries = append(p.entries, countEntry{at: uint16(at), ended: uint32(n)})
		next = at + 1
		value = value[2+used:]
	}
	i, ok := c.find(page)
	if ok || len(p.entries) == 0 {
		return fmt.Errorf("%w: count page %d is there twice or empty", ErrPage, page)
	}
	c.track.Loaded(&p.mark, page)
	c.pages = slices.Insert(c.pages, i, p)
	return nil
}

// Tracker returns the books of the pages.
func (c *Counts) Tracker() *Tracker { return &c.track }

// Move makes c the counts of another owner: all its pages are new.
func (c *Counts) Move() {
	c.track = Tracker{}
	for i := range c.pages {
		p := &c.pages[i]
		p.mark = Mark{}
		c.track.Touch(&p.mark, p.page)
	}
}

// Pages yields the number of every page.
func (c *Counts) Pages(yield func(page uint64)) {
	for i := range c.pages {
		yield(c.pages[i].page)
	}
}

func (c *Counts) find(page uint64) (int, bool) {
	return slices.BinarySearchFunc(c.pages, page, func(p countPage, page uint64) int {
		switch {
		case p.page < page:
			return -1
		case p.page > page:
			return 1
		}
		return 0
	})
}

func (p *countPage) find(at uint16) (int, bool) {
	return slices.BinarySearchFunc(p.entries, at, func(e countEntry, at uint16) int {
		return int(e.at) - int(at)
	})
}
