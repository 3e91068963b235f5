package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// pageBatches is how many batches a page of an index holds.
const pageBatches = 128

// batch says where one stored batch is and how much of it is needed.
type batch struct {
	first  message.ID
	live   uint64 // pairs of durable and message that are pending; never 0
	entry  uint64 // index of the log entry
	stamp  int64  // T of the entry
	count  uint32
	offset uint32 // of the batch's bytes in the entry's data
	bytes  uint32
}

// last returns the id of the last message.
func (b *batch) last() message.ID { return b.first + message.ID(b.count) - 1 }

// usage is what b counts for in the limits of its store.
func (b *batch) usage() (messages, bytes uint64) {
	messages = min(uint64(b.count), b.live)
	return messages, messages * share(uint64(b.bytes), uint64(b.count))
}

// share is the accounted size of one of n messages: rounded up.
func share(bytes, n uint64) uint64 { return (bytes + n - 1) / n }

// index is the batches of one store that somebody needs, ascending by id. A
// batch belongs to page number/128, where number counts the batches that were
// ever stored, so that pages do not depend on which other batches are dead.
//
// Few pages are open at a time, so that a backlog of small batches takes a dozen
// bytes of memory for each.
type index struct {
	pages []*indexPage // ascending, none empty
	next  uint64       // number of the next batch
	hot   []*indexPage // that are open, and nil; at most hotPages
	hand  int          // of hot: what is closed next
	free  []*indexPage
	room  [][]batch // memory for pages that are opened
	buf   []byte    // for pages that are closed
	track durable.Tracker
}

const (
	// hotPages is how many pages of an index may be open: 6 MB, and all of 50
	// million small messages that came in batches of 64 KiB.
	hotPages = 1024
	// maxFree bounds what is kept for reuse, so that pages that come and go cost
	// nothing.
	maxFree = 4
)

// indexPage is a page of an index: open, or closed as it is saved.
type indexPage struct {
	number  uint64
	last    message.ID // of the last batch
	count   int        // batches, of a closed page
	batches []batch    // ascending; dead ones are gone; nil: closed
	closed  []byte     // what appendTo would append
	at      int        // in hot, of an open page
	mark    durable.Mark
}

// add appends a batch.
func (x *index) add(b batch) {
	number := x.next / pageBatches
	x.next++
	n := len(x.pages)
	if n == 0 || x.pages[n-1].number != number {
		x.pages = append(x.pages, x.newPage(number))
		n++
	}
	p := x.pages[n-1]
	x.open(p)
	x.track.Touch(&p.mark, number)
	p.batches = append(p.batches, b)
	p.last = b.last()
}

// open makes the batches of p accessible. If too many pages are open, it closes
// the one that was opened first.
func (x *index) open(p *indexPage) {
	if p.batches != nil {
		return
	}
	p.batches = decodeBatches(p.closed, x.batches())
	p.closed = nil
	if len(x.hot) < hotPages {
		p.at = len(x.hot)
		x.hot = append(x.hot, p)
		return
	}
	tail := x.pages[len(x.pages)-1]
	for x.hot[x.hand] == tail && p != tail {
		x.hand = (x.hand + 1) % hotPages // it will be needed next
	}
	if old := x.hot[x.hand]; old != nil {
		x.buf = old.appendTo(x.buf[:0])
		old.closed, old.count = bytes.Clone(x.buf), len(old.batches)
		x.giveRoom(old)
	}
	p.at, x.hot[x.hand] = x.hand, p
	x.hand = (x.hand + 1) % hotPages
}

// batches returns memory for the batches of a page.
func (x *index) batches() []batch {
	if n := len(x.room); n > 0 {
		b := x.room[n-1]
		x.room = x.room[:n-1]
		return b
	}
	return make([]batch, 0, pageBatches)
}

func (x *index) giveRoom(p *indexPage) {
	if len(x.room) < maxFree {
		x.room = append(x.room, p.batches[:0])
	}
	p.batches = nil
}

// len returns how many batches p has.
func (p *indexPage) len() int {
	if p.batches == nil {
		return p.count
	}
	return len(p.batches)
}

// find returns page and position of the batch that holds id; if there is none,
// of the first batch after it.
func (x *index) find(id message.ID) (page, at int, found bool) {
	page, _ = slices.BinarySearchFunc(x.pages, id, func(p *indexPage, id message.ID) int {
		return cmp.Compare(p.last, id)
	})
	if page == len(x.pages) {
		return page, 0, false
	}
	p := x.pages[page]
	x.open(p)
	at, found = slices.BinarySearchFunc(p.batches, id, func(b batch, id message.ID) int {
		switch {
		case b.last() < id:
			return -1
		case b.first > id:
			return 1
		}
		return 0
	})
	return page, at, found
}

// release takes one pending pair from each of the n messages from first on. It
// returns by how much the accounted messages and bytes fell, and calls died for
// each batch that nobody needs any more. ok is false if one of the messages is
// not there.
func (x *index) release(first message.ID, n uint64, died func(entry uint64)) (messages, bytes uint64, ok bool) {
	end := first + message.ID(n) // exclusive
	page, at, ok := x.find(first)
	for ok && first < end {
		p := x.pages[page]
		x.open(p)
		x.track.Touch(&p.mark, p.number)
		keep := at
		for ; at < len(p.batches) && first < end; at++ {
			b := &p.batches[at]
			k := uint64(min(b.last()+1, end) - first)
			if b.first > first || b.live < k {
				return messages, bytes, false
			}
			m0, b0 := b.usage()
			b.live -= k
			m1, b1 := b.usage()
			messages, bytes = messages+m0-m1, bytes+b0-b1
			first += message.ID(k)
			if b.live == 0 {
				died(b.entry)
				continue
			}
			p.batches[keep] = *b
			keep++
		}
		p.batches = slices.Delete(p.batches, keep, at)
		if len(p.batches) == 0 {
			x.drop(page)
		} else {
			p.last = p.batches[len(p.batches)-1].last()
			page++
		}
		at, ok = 0, page < len(x.pages)
	}
	return messages, bytes, first == end
}

// drop takes the page at a position, which is open, out.
func (x *index) drop(page int) {
	p := x.pages[page]
	x.track.Drop(&p.mark, p.number)
	if page == 0 && len(x.pages) > 64 {
		x.pages[0] = nil
		x.pages = x.pages[1:] // settling a backlog in order: nothing moves
	} else {
		x.pages = slices.Delete(x.pages, page, page+1)
	}
	x.hot[p.at] = nil
	x.giveRoom(p)
	if len(x.free) < maxFree {
		x.free = append(x.free, p)
	}
}

func (x *index) newPage(number uint64) *indexPage {
	if n := len(x.free); n > 0 {
		p := x.free[n-1]
		x.free = x.free[:n-1]
		*p = indexPage{number: number}
		return p
	}
	return &indexPage{number: number}
}

// get returns the batch that holds id. It is valid until the index is used
// again.
func (x *index) get(id message.ID) (*batch, bool) {
	page, at, found := x.find(id)
	if !found {
		return nil, false
	}
	return &x.pages[page].batches[at], true
}

// each yields every batch, ascending; they are not to be changed.
func (x *index) each(yield func(*batch)) {
	var scratch []batch
	for _, p := range x.pages {
		list := p.batches
		if list == nil {
			scratch = decodeBatches(p.closed, scratch[:0])
			list = scratch
		}
		for i := range list {
			yield(&list[i])
		}
	}
}
