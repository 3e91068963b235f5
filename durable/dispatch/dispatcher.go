package dispatch

import (
	"errors"
	"fmt"
	"math"

	"github.com/perdure/perdure/message"
)

// ErrAttached means a subscriber cannot be attached: it is already, or the
// durable is standard and another one is. Detach first.
var ErrAttached = errors.New("dispatch: a subscriber is attached already")

// lastID is the highest id that a range may name: one less than the highest
// number, so that "the id after" always exists.
const lastID = message.ID(math.MaxUint64 - 1)

// Kind is how a durable shares its messages.
type Kind uint8

const (
	Standard Kind = iota + 1 // one subscriber at a time, in order
	Shared                   // each message to one of many subscribers
)

// Batch says where a batch lies and what is in it.
type Batch struct {
	First  message.ID // id of its first message
	Count  uint32     // of messages; their ids ascend by one
	Index  uint64     // of the log's entry
	Offset uint32     // of the publish command in the entry's data
	Bytes  uint32     // that it takes in the log
	Stamp  int64      // cluster time of publishing, ns since 1970
}

// Last is the id of the last message of b.
func (b Batch) Last() message.ID { return b.First + message.ID(b.Count) - 1 }

// MessageBytes is what one message of b costs in credit: its share of the
// stored bytes, rounded up, at least 1.
func (b Batch) MessageBytes() uint64 {
	if b.Count == 0 {
		return max(1, uint64(b.Bytes))
	}
	n := uint64(b.Count)
	return max(1, (uint64(b.Bytes)+n-1)/n)
}

// Source is the durable's replicated record, as it was last applied. It is read
// on the goroutine that calls the Dispatcher, and does not change meanwhile.
type Source interface {
	// NextRun returns the first pending id at or above from and how many
	// pending ids follow each other from there, or as many of them as are cheap
	// to know, at least 1. False if there is none.
	NextRun(from message.ID) (first message.ID, n uint64, ok bool)
	// Batch returns the batch that holds id. True for each pending id.
	Batch(id message.ID) (Batch, bool)
	// Counted says whether any of these messages has a count above 0.
	Counted(first, last message.ID) bool
	// Watermark is the highest id that any leader may have dispatched. It never
	// falls.
	Watermark() message.ID
	// Limit is the highest id that may be dispatched now: the watermark, or 0
	// while none was raised under this leader.
	Limit() message.ID
}

// Run is a run of ids. Both ends are included.
type Run struct{ First, Last message.ID }

// Span is a run of ids within a delivery.
type Span struct {
	First, Last message.ID
	// Ended is how many deliveries of these messages have ended without being
	// counted in the record yet. It is added to the counts that are shown.
	Ended uint32
}

// Delivery hands messages of one batch to one subscriber.
type Delivery struct {
	Sub   uint64
	Batch Batch
	// Spans are the messages, ascending. They are valid until Next is called
	// again.
	Spans    []Span
	Messages uint64 // how many; Batch.Count if it is all of them
	Bytes    uint64 // of credit that they took
	// Counted says that some message has a count above 0, in the record or as
	// Span.Ended. If false nobody needs to look.
	Counted bool
}

// Whole says whether d holds every message of its batch, so that the batch's
// bytes can be sent as they are.
func (d Delivery) Whole() bool { return d.Messages == uint64(d.Batch.Count) }

// Totals counts ids by where they are.
type Totals struct {
	Held     uint64 // by subscribers
	Returned uint64 // free again, wait for credit
	Delayed  uint64 // by a nack
	Settling uint64 // acknowledged, not applied yet
}

// Dispatcher hands out the messages of one durable. See the package comment.
//
// Invariants, in the order that check tests them:
//
//  1. claims and free are sound and disjoint, so an id is in one place;
//  2. every pending id below cursor is in one of them, none above but settling;
//  3. total and the subscribers' held count what claims and free hold;
//  4. each delayed span has an entry in delays;
//  5. a subscriber is in ready if it has credit for messages and is not tight.
//
// It is not safe for concurrent use: the group's loop owns it.
type Dispatcher struct {
	kind Kind
	src  Source

	cursor  message.ID // one past the highest id handed out
	claims  runs       // held, delayed, settling
	free    runs       // returned
	total   [states]uint64
	delays  []delay // a heap by due; may hold entries of spans that are gone
	sweepAt int     // length of delays at which those are swept out

	slots  map[uint64]int32 // by subscriber; never ranged over
	subs   []subscriber     // by slot
	vacant []int32          // slots that nobody uses
	ready  []int32          // a heap of slots: who is served first
	tight  []int32          // slots with too few bytes of credit; may be stale
	room   int64            // the most bytes of credit that a tight one has
	serves uint64           // portions handed out: the order of service
	credit uint64           // messages of credit of all subscribers

	done    bool       // no pending id at or above cursor, as of the last look
	asked   message.ID // the watermark last wanted
	askedAt message.ID // the watermark that there was then

	pass pass // the current call of Next
}

// New returns a Dispatcher that owes everything pending in src.
func New(kind Kind, src Source) *Dispatcher {
	if kind != Standard && kind != Shared {
		panic(fmt.Sprintf("dispatch: kind %d", kind))
	}
	return &Dispatcher{
		kind:    kind,
		src:     src,
		sweepAt: minSweep,
		slots:   make(map[uint64]int32),
		room:    math.MinInt64,
	}
}

// Attach adds a subscriber with its first credit. ErrAttached if it is attached
// already or, on a standard durable, another one is: detach that first.
func (d *Dispatcher) Attach(sub uint64, credit Credit) error {
	if _, ok := d.slots[sub]; ok || (d.kind == Standard && len(d.slots) > 0) {
		return fmt.Errorf("%w: cannot attach %d", ErrAttached, sub)
	}
	var slot int32
	if n := len(d.vacant); n > 0 {
		slot = d.vacant[n-1]
		d.vacant = d.vacant[:n-1]
	} else {
		slot = int32(len(d.subs))
		d.subs = append(d.subs, subscriber{})
	}
	listed := d.subs[slot].listed
	d.subs[slot] = subscriber{id: sub, attached: true, listed: listed, at: nowhere, served: d.serves}
	d.slots[sub] = slot
	d.grant(slot, credit)
	return nil
}

// Grant adds to the credit of a subscriber. One that is not attached is
// ignored: its grant crossed with its end.
func (d *Dispatcher) Grant(sub uint64, credit Credit) {
	if slot, ok := d.slots[sub]; ok {
		d.grant(slot, credit)
	}
}

// Detach removes a subscriber. What it held is free at once. Those ids are
// appended to dst, ascending: the caller proposes their release, and reports it
// with Released.
func (d *Dispatcher) Detach(sub uint64, dst []Run) []Run {
	slot, ok := d.slots[sub]
	if !ok {
		return dst
	}
	s := &d.subs[slot]
	from := len(dst)
	for at := s.low; s.held > 0; {
		c, ok := d.claims.find(at)
		if !ok {
			panic(fmt.Sprintf("dispatch: subscriber %d holds %d ids that nobody knows", sub, s.held))
		}
		at = c.last + 1
		if c.state == held && c.slot == slot {
			d.takeClaim(c.first, c.last)
			d.giveBack(c)
			dst = appendRun(dst, from, c.first, c.last)
		}
	}
	delete(d.slots, sub)
	d.credit -= uint64(s.messages)
	s.messages, s.bytes, s.attached = 0, 0, false
	d.rank(slot)
	d.vacant = append(d.vacant, slot)
	return dst
}

// Added says that the pending set grew above the cursor.
func (d *Dispatcher) Added() { d.done = false }

// Unacked is how many messages a subscriber holds.
func (d *Dispatcher) Unacked(sub uint64) uint64 {
	if slot, ok := d.slots[sub]; ok {
		return d.subs[slot].held
	}
	return 0
}

// Subscribers is how many are attached.
func (d *Dispatcher) Subscribers() int { return len(d.slots) }

// Held counts ids by where they are.
func (d *Dispatcher) Held() Totals {
	return Totals{
		Held:     d.total[held],
		Returned: d.total[returned],
		Delayed:  d.total[delayed],
		Settling: d.total[settling],
	}
}

// takeClaim removes the lowest piece of one claim within first and last.
func (d *Dispatcher) takeClaim(first, last message.ID) (span, bool) {
	c, ok := d.claims.take(first, last)
	if !ok {
		return c, false
	}
	d.total[c.state] -= c.size()
	switch c.state {
	case held:
		d.subs[c.slot].held -= c.size()
	case delayed:
		// What was behind it begins anew, so it needs an entry of its own.
		if rest, ok := d.claims.find(c.last + 1); ok && rest.first == c.last+1 && rest.like(c) {
			d.pushDelay(rest)
		}
	}
	return c, true
}

// addClaim puts c among the claims.
func (d *Dispatcher) addClaim(c span) {
	d.total[c.state] += c.size()
	joined := d.claims.add(c)
	switch c.state {
	case held:
		d.subs[c.slot].hold(c)
	case delayed:
		if !joined {
			d.pushDelay(c)
		}
	}
}

// giveBack frees c, whose delivery has ended.
func (d *Dispatcher) giveBack(c span) {
	d.addFree(span{first: c.first, last: c.last, ended: endedMore(c.ended)})
}

// addFree puts a run among those to be handed out again.
func (d *Dispatcher) addFree(c span) {
	c.state = returned
	d.total[returned] += c.size()
	d.free.add(c)
}

// takeFree removes the lowest piece of one free run within first and last.
func (d *Dispatcher) takeFree(first, last message.ID) (span, bool) {
	c, ok := d.free.take(first, last)
	if ok {
		d.total[returned] -= c.size()
	}
	return c, ok
}

// endedMore is n and one more, as far as a span can count.
func endedMore(n uint16) uint16 {
	if n == math.MaxUint16 {
		return n
	}
	return n + 1
}

// appendRun appends a run to dst. It extends the last one if that was appended
// at from or after, and ends just before.
func appendRun(dst []Run, from int, first, last message.ID) []Run {
	if n := len(dst); n > from && dst[n-1].Last+1 == first {
		dst[n-1].Last = last
		return dst
	}
	return append(dst, Run{first, last})
}
