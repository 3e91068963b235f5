package client

import (
	"fmt"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// chunk is one frame of deliveries. What follows link is guarded by the lock of
// the subscription.
type chunk struct {
	sub      *Subscription
	link     *subscribeLink
	batch    message.Batch
	ids      idRanges
	stamp    int64
	counted  []uint32 // positions with a count, ascending
	ended    []uint32
	possible []uint32
	each     uint64 // credit in bytes that each message takes

	settled []uint64 // a bit for each position
	left    int      // positions without the bit
	rest    uint64   // credit in bytes that is given back with the last
	next    int      // position to hand out next
	at      int      // its range in ids
	id      message.ID
}

// mark sets the bit of a position, and reports whether it was not set before.
func (c *chunk) mark(pos int) bool {
	word, bit := &c.settled[pos/64], uint64(1)<<(pos%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	c.left--
	return true
}

func (c *chunk) marked(pos int) bool { return c.settled[pos/64]&(1<<(pos%64)) != 0 }

// pop returns the next delivery that is not settled yet; false at the end.
func (c *chunk) pop() (Delivery, bool) {
	for c.next < c.batch.Count() {
		d := Delivery{c: c, id: c.id, pos: c.next}
		c.next++
		if c.id < c.ids[c.at].last {
			c.id++
		} else if c.at+1 < len(c.ids) {
			c.at++
			c.id = c.ids[c.at].first
		}
		if !c.marked(d.pos) {
			return d, true
		}
	}
	return Delivery{}, false
}

// newChunk checks a frame of messages.
func newChunk(s *Subscription, l *subscribeLink, frame *perdurepb.SubscribeResponse) (*chunk, error) {
	batch, err := message.ParseBatch(frame.Batch)
	if err != nil {
		return nil, err
	}
	d := frame.Delivery
	c := &chunk{
		sub: s, link: l, batch: batch, stamp: d.Stamp,
		counted: d.Counted, ended: d.Ended, possible: d.Possible,
	}
	count := uint64(0)
	if len(d.Ids)%2 != 0 || len(d.Ids) == 0 {
		return nil, fmt.Errorf("%w: %d ends of id ranges", message.ErrCorrupt, len(d.Ids))
	}
	c.ids = make(idRanges, 0, len(d.Ids)/2)
	for i := 0; i < len(d.Ids); i += 2 {
		r := idRange{message.ID(d.Ids[i]), message.ID(d.Ids[i+1])}
		disorder := r.last < r.first || i > 0 && r.first <= c.ids[len(c.ids)-1].last
		if disorder || r.last-r.first >= message.MaxBatchMessages {
			return nil, fmt.Errorf("%w: id range %d to %d", message.ErrCorrupt, r.first, r.last)
		}
		count += uint64(r.last-r.first) + 1
		c.ids = append(c.ids, r)
	}
	if count != uint64(batch.Count()) {
		return nil, fmt.Errorf("%w: %d ids for %d messages", message.ErrCorrupt, count, batch.Count())
	}
	c.id = c.ids[0].first
	c.left = batch.Count()
	c.settled = make([]uint64, (c.left+63)/64)
	c.each = d.Bytes / count
	c.rest = d.Bytes % count
	return c, nil
}
