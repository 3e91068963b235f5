package dispatch

import (
	"math"

	"github.com/perdure/perdure/message"
)

// DelayStep is the grain of delays, in ns. Without one, a client that nacks
// message after message with one delay would leave a run for each of them.
const DelayStep = 5_000_000

// minSweep is the least length of the heap of delays at which it is swept.
const minSweep = 64

// delay says when the delayed span that begins at first returns. It is stale if
// no delayed span of that time begins there any more.
type delay struct {
	due   int64
	first message.ID
}

// before orders delays by time, and by id where that is equal.
func (a delay) before(b delay) bool {
	return a.due < b.due || (a.due == b.due && a.first < b.first)
}

// Deadline is when the first delayed message returns, in the time that Next is
// given; 0 is never.
func (d *Dispatcher) Deadline() int64 {
	for len(d.delays) > 0 {
		if _, ok := d.delayedAt(d.delays[0]); ok {
			return d.delays[0].due
		}
		d.popDelay()
	}
	return 0
}

// expire returns what was delayed until now or before.
func (d *Dispatcher) expire(now int64) {
	for len(d.delays) > 0 && d.delays[0].due <= now {
		c, ok := d.delayedAt(d.delays[0])
		d.popDelay()
		if ok {
			d.takeClaim(c.first, c.last)
			d.addFree(span{first: c.first, last: c.last, ended: c.ended})
		}
	}
}

// delayedAt returns the span that e is about. False if e is stale.
func (d *Dispatcher) delayedAt(e delay) (span, bool) {
	c, ok := d.claims.find(e.first)
	return c, ok && c.first == e.first && c.state == delayed && c.due == e.due
}

// pushDelay adds an entry for c, which is delayed.
func (d *Dispatcher) pushDelay(c span) {
	if len(d.delays) >= d.sweepAt {
		d.sweep()
	}
	d.delays = append(d.delays, delay{c.due, c.first})
	h := d.delays
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// popDelay removes the first entry.
func (d *Dispatcher) popDelay() {
	n := len(d.delays) - 1
	d.delays[0] = d.delays[n]
	d.delays = d.delays[:n]
	d.sinkDelay(0)
}

// sinkDelay moves entry i down to where it belongs.
func (d *Dispatcher) sinkDelay(i int) {
	for h := d.delays; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// sweep drops stale entries, so that the heap stays in proportion to the
// delayed spans however long their delays are.
func (d *Dispatcher) sweep() {
	kept := d.delays[:0]
	for _, e := range d.delays {
		if _, ok := d.delayedAt(e); ok {
			kept = append(kept, e)
		}
	}
	d.delays = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		d.sinkDelay(i)
	}
	d.sweepAt = max(minSweep, 2*len(kept))
}

// roundUp rounds a time up to a multiple of DelayStep.
func roundUp(t int64) int64 {
	if t > math.MaxInt64-DelayStep {
		return t
	}
	return (t + DelayStep - 1) / DelayStep * DelayStep
}
