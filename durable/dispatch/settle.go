package dispatch

import (
	"fmt"

	"github.com/perdure/perdure/message"
)

// Verdict judges an acknowledgement or a nack.
type Verdict uint8

const (
	OK       Verdict = iota // all of it counts, or has no effect
	NotOwner                // some of it is not the subscriber's to settle; the rest was done
)

// Ack accepts that a subscriber is done with the ids from first to last. What
// it may settle leaves its window, is not handed out again, and is appended to
// dst, ascending: the caller proposes its settlement and reports it with Gone.
//
// What is pending and held by nobody, as after a change of leader, is accepted
// from whoever is attached, unless it lies above the watermark: it was never
// delivered to anyone. What is settling already is appended again, so that
// whoever waits for its settlement waits for the right one. What is not pending
// is OK and not appended.
//
// NotOwner if another subscriber holds some of it, or sub is not attached (it
// was closed by force, or its time was up); what was held by others stays so.
func (d *Dispatcher) Ack(sub uint64, first, last message.ID, dst []Run) ([]Run, Verdict) {
	slot, ok := d.slots[sub]
	if !ok {
		return dst, NotOwner
	}
	verdict, from := OK, len(dst)
	last = min(last, lastID)
	for at := first; at <= last; {
		c, ok := d.claims.find(at)
		if !ok || c.first > at {
			end := last
			if ok {
				end = min(end, c.first-1)
			}
			var v Verdict
			dst, v = d.ackUnclaimed(at, end, dst, from)
			verdict = max(verdict, v)
			at = end + 1
			continue
		}
		end := min(c.last, last)
		switch {
		case c.state == held && c.slot != slot:
			verdict = NotOwner
		case c.state == settling:
			dst = appendRun(dst, from, at, end)
		default:
			d.takeClaim(at, end)
			d.addClaim(span{first: at, last: end, state: settling})
			dst = appendRun(dst, from, at, end)
		}
		at = end + 1
	}
	d.rank(slot)
	return dst, verdict
}

// ackUnclaimed accepts what is pending among ids that nobody holds.
func (d *Dispatcher) ackUnclaimed(first, last message.ID, dst []Run, from int) ([]Run, Verdict) {
	for at := first; at <= last; {
		id, n, ok := d.src.NextRun(at)
		if !ok || id > last {
			break
		}
		end := min(last, lastOf(id, n))
		if w := d.src.Watermark(); end > w {
			if id > w {
				return dst, NotOwner
			}
			end = w
		}
		for {
			if _, ok := d.takeFree(id, end); !ok {
				break
			}
		}
		d.addClaim(span{first: id, last: end, state: settling})
		dst = appendRun(dst, from, id, end)
		at = end + 1
	}
	return dst, OK
}

// Nack gives back the ids from first to last that sub holds, to be delivered
// again: next, or not before notBefore, in the time that Next is given. 0 is
// next. What was given back is appended to dst, ascending: the caller proposes
// its release and reports it with Released.
//
// NotOwner if another subscriber holds some of it, or sub is not attached. What
// nobody holds is left as it is.
//
// A time is rounded up to a multiple of DelayStep, so that many nacks of one
// delay are few runs.
func (d *Dispatcher) Nack(sub uint64, first, last message.ID, notBefore int64, dst []Run) ([]Run, Verdict) {
	slot, ok := d.slots[sub]
	if !ok {
		return dst, NotOwner
	}
	verdict, from := OK, len(dst)
	last = min(last, lastID)
	for at := first; at <= last; {
		c, ok := d.claims.find(at)
		if !ok || c.first > last {
			break
		}
		start, end := max(c.first, at), min(c.last, last)
		at = end + 1
		if c.state != held {
			continue
		}
		if c.slot != slot {
			verdict = NotOwner
			continue
		}
		c, _ = d.takeClaim(start, end)
		if notBefore > 0 {
			d.addClaim(span{first: start, last: end, state: delayed, due: roundUp(notBefore), ended: endedMore(c.ended)})
		} else {
			d.giveBack(c)
		}
		dst = appendRun(dst, from, start, end)
	}
	d.rank(slot)
	return dst, verdict
}

// Recall takes back what all subscribers hold, as if it had never been handed out:
// it is free again, and nothing is to be released or counted. It returns how much
// that was. Credit is not given back: whoever has a copy grants it when it is done.
func (d *Dispatcher) Recall() uint64 {
	n := d.total[held]
	for at := message.ID(0); d.total[held] > 0; {
		c, ok := d.claims.find(at)
		if !ok {
			panic(fmt.Sprintf("dispatch: %d ids are held and nobody knows them", d.total[held]))
		}
		at = c.last + 1
		if c.state == held {
			d.takeClaim(c.first, c.last)
			d.addFree(span{first: c.first, last: c.last, ended: c.ended})
			d.rank(c.slot)
		}
	}
	return n
}

// Gone forgets the ids from first to last: a settlement of them was applied, or
// they were removed (a limit, a time to live, a purge). Credit is not given
// back: whoever held them grants it when it is done with them.
func (d *Dispatcher) Gone(first, last message.ID) {
	for {
		c, ok := d.takeClaim(first, last)
		if !ok {
			break
		}
		if c.state == held {
			d.rank(c.slot)
		}
	}
	for {
		if _, ok := d.takeFree(first, last); !ok {
			break
		}
	}
}

// Released says that one release of the ids from first to last was applied: the
// record's counts have it now.
func (d *Dispatcher) Released(first, last message.ID) {
	last = min(last, lastID)
	for at := first; at <= last; {
		c, ok := d.free.find(at)
		if !ok || c.first > last {
			break
		}
		start, end := max(c.first, at), min(c.last, last)
		at = end + 1
		if c.ended > 0 {
			c, _ = d.takeFree(start, end)
			c.ended--
			d.addFree(c)
		}
	}
	for at := first; at <= last; {
		c, ok := d.claims.find(at)
		if !ok || c.first > last {
			break
		}
		start, end := max(c.first, at), min(c.last, last)
		at = end + 1
		if c.ended > 0 {
			c, _ = d.takeClaim(start, end)
			c.ended--
			d.addClaim(c)
		}
	}
}
