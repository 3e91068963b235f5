package dispatch

import (
	"fmt"
	"math"

	"github.com/perdure/perdure/message"
)

// pass is the state of one call of Next.
type pass struct {
	head  span // what is handed out next; empty if first > last
	batch Batch
	size  int64  // bytes of one message of batch
	spans []Span // of all deliveries; reused by the next call

	// The delivery that is being filled, always the last of dst.
	open bool
	slot int32
	left int64 // messages it may still take
	from int   // in spans
}

// Next appends to dst everything that can go out at now, which is the caller's
// monotonic time in ns, and returns it. The subscribers hold it from then on
// and their credit has been spent.
//
// Per subscriber, deliveries are in the order in which they must arrive.
func (d *Dispatcher) Next(now int64, dst []Delivery) []Delivery {
	d.expire(now)
	p := &d.pass
	p.spans = p.spans[:0]
	p.head = span{first: 1, last: 0}
	p.batch = Batch{}
	for len(d.ready) > 0 || len(d.tight) > 0 {
		if !d.findHead() {
			break
		}
		d.enterBatch(dst)
		room := d.fitting()
		if room == 0 {
			d.closeDelivery(dst)
			var ok bool
			if dst, ok = d.openDelivery(dst); !ok {
				break
			}
			room = d.fitting()
		}
		last := min(p.head.last, p.batch.Last(), p.head.first+message.ID(room)-1)
		d.handOut(&dst[len(dst)-1], last)
	}
	d.closeDelivery(dst)
	return dst
}

// findHead makes pass.head the run to hand out next: what was returned before
// what is new. False if there is nothing that may go out.
func (d *Dispatcher) findHead() bool {
	if d.pass.head.first <= d.pass.head.last {
		return true
	}
	for {
		c, ok := d.free.find(0)
		if !ok {
			break
		}
		first, n, ok := d.src.NextRun(c.first)
		if !ok || first > c.last { // settled or removed, and nobody said so
			d.takeFree(c.first, c.last)
			continue
		}
		if first > c.first {
			d.takeFree(c.first, first-1)
		}
		c.first, c.last = first, min(c.last, lastOf(first, n))
		d.pass.head = c
		return true
	}
	return d.findNew()
}

// findNew makes pass.head the next run of ids that were never handed out.
func (d *Dispatcher) findNew() bool {
	for !d.done {
		first, n, ok := d.src.NextRun(d.cursor)
		if !ok {
			d.done = true
			break
		}
		last := min(lastOf(first, n), d.src.Limit())
		if first > last {
			break
		}
		// Above the cursor only settling ids are claimed: they go to nobody.
		if c, ok := d.claims.find(first); ok && c.first <= last {
			if c.first <= first {
				d.cursor = c.last + 1
				continue
			}
			last = c.first - 1
		}
		d.pass.head = span{first: first, last: last}
		return true
	}
	return false
}

// enterBatch makes pass.batch the batch of the head. A delivery has one batch.
func (d *Dispatcher) enterBatch(dst []Delivery) {
	p := &d.pass
	if id := p.head.first; p.batch.Count == 0 || id < p.batch.First || id > p.batch.Last() {
		d.closeDelivery(dst)
		b, ok := d.src.Batch(id)
		if !ok || b.Count == 0 || id < b.First || id > b.Last() {
			// To go on would be to lose the message, to wait would be for ever.
			panic(fmt.Sprintf("dispatch: %v is pending but no batch holds it", id))
		}
		p.batch, p.size = b, int64(b.MessageBytes())
	}
}

// fitting is how many messages of the batch the open delivery may still take.
func (d *Dispatcher) fitting() int64 {
	if !d.pass.open {
		return 0
	}
	return min(d.pass.left, d.subs[d.pass.slot].fits(d.pass.size))
}

// openDelivery begins a delivery to whoever is to be served next. False if
// nobody has room for even one message of the batch.
func (d *Dispatcher) openDelivery(dst []Delivery) ([]Delivery, bool) {
	p := &d.pass
	slot, ok := d.pick(p.size)
	if !ok {
		return dst, false
	}
	s := &d.subs[slot]
	p.open, p.slot, p.left, p.from = true, slot, math.MaxInt64, len(p.spans)
	if len(d.ready) > 1 {
		// Others wait: a large batch must not all go to one.
		p.left = max(1, s.window/2)
	}
	d.serves++
	s.served = d.serves
	return append(dst, Delivery{Sub: s.id, Batch: p.batch}), true
}

// closeDelivery ends the open delivery, if any.
func (d *Dispatcher) closeDelivery(dst []Delivery) {
	p := &d.pass
	if !p.open {
		return
	}
	p.open = false
	dst[len(dst)-1].Spans = p.spans[p.from:len(p.spans):len(p.spans)]
	d.rank(p.slot)
}

// handOut moves the head's ids up to last into the open delivery.
func (d *Dispatcher) handOut(to *Delivery, last message.ID) {
	p := &d.pass
	c := span{first: p.head.first, last: last, slot: p.slot, ended: p.head.ended, state: held}
	if p.head.state == returned {
		d.takeFree(c.first, c.last)
	} else {
		d.cursor = last + 1
	}
	d.addClaim(c)
	p.head.first = last + 1

	n := int64(c.size())
	p.left -= n
	s := &d.subs[p.slot]
	s.messages -= n
	s.bytes -= n * p.size
	d.credit -= uint64(n)
	to.Messages += uint64(n)
	to.Bytes += uint64(n * p.size)
	to.Counted = to.Counted || c.ended > 0 || d.src.Counted(c.first, c.last)
	if k := len(p.spans); k > p.from && p.spans[k-1].Last+1 == c.first && p.spans[k-1].Ended == uint32(c.ended) {
		p.spans[k-1].Last = c.last
		return
	}
	p.spans = append(p.spans, Span{First: c.first, Last: c.last, Ended: uint32(c.ended)})
}

// lastOf is the last of n ids from first on.
func lastOf(first message.ID, n uint64) message.ID {
	if n == 0 {
		return first
	}
	if n-1 > uint64(lastID-first) {
		return lastID
	}
	return first + message.ID(n-1)
}
