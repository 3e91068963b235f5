package service

import (
	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
)

// Range is the ids from First to Last, both included.
type Range = dispatch.Run

// Delivery is messages of one batch for one subscription. It is a value that
// the receiver keeps; what it points to is not changed any more.
type Delivery struct {
	Batch  dispatch.Batch
	Ranges []Range // of ids, ascending; nil if it is the whole batch
	Counts []Count // of messages with a count above 0
	Bytes  uint64  // of credit
}

// Messages is how many messages d hands out.
func (d *Delivery) Messages() uint64 {
	if d.Ranges == nil {
		return uint64(d.Batch.Count)
	}
	n := uint64(0)
	for _, r := range d.Ranges {
		n += uint64(r.Last-r.First) + 1
	}
	return n
}

// Count is how often a message was delivered before.
type Count struct {
	ID       message.ID
	Ended    uint32 // deliveries that ended without an acknowledgement
	Possible uint32 // deliveries that may have happened before a change of leader
}

// MaxCredit bounds the messages that a subscriber may be sent, and with it what
// waits for a client that does not read.
const MaxCredit = 1 << 16

// Subscription is one subscriber of one durable. Its functions run on the
// group's loop and must not block.
type Subscription struct {
	ID      uint64 // unique in this process
	Durable uint64
	Process uint64 // random, of the client process
	Attach  uint64 // of a standard durable: the number of the attachment
	Name    string // of the client, for status

	// Deliver takes a delivery. Credit bounds what is outstanding.
	Deliver func(Delivery)
	// Ended says that the subscription is over, and why. It runs once, unless
	// the subscription was detached by its owner.
	Ended func(perdurepb.Reason)

	left uint64 // messages of credit
}

// Settlement is what a subscriber says about deliveries.
type Settlement struct {
	Acks  []Range
	Nacks []Nack
	// Now says that somebody waits: acknowledgements do not wait for an entry to
	// ride on.
	Now bool
	// Done, if not nil, runs on the loop when everything that was accepted has
	// been applied. owner is false when some of it was held by another
	// subscriber; lost is true when leadership ended first.
	Done func(owner, lost bool)
}

// Nack gives messages back.
type Nack struct {
	Range
	Delay int64 // nanoseconds until it may be delivered again; 0 is at once
}

// Subscription returns a subscriber that is attached, nil if it is not.
func (s *Service) Subscription(id uint64) *Subscription { return s.subs[id] }
