package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perdure/perdure/message"
)

// Delivery is one message that a subscription handed out. It is a small value;
// copies are the same delivery. The first of Ack, AckSync, Nack and NackAfter
// settles it; later calls do nothing. The zero Delivery is none: its methods
// return zero values and ErrInvalidArgument.
type Delivery struct {
	c   *chunk
	id  message.ID
	pos int
}

// errNoDelivery is what the zero Delivery says.
var errNoDelivery = refusal(ErrInvalidArgument, nil, "this is no delivery but the zero value")

// ID returns the message's id in its store.
func (d Delivery) ID() message.ID { return d.id }

// Stamp returns when the message was stored, in cluster time.
func (d Delivery) Stamp() time.Time {
	if d.c == nil {
		return time.Time{}
	}
	return time.Unix(0, d.c.stamp)
}

// Store returns the name of the message's store.
func (d Delivery) Store() string {
	if d.c == nil {
		return ""
	}
	return d.c.link.opened.Store
}

// Durable returns the name of the durable that delivered the message.
func (d Delivery) Durable() string {
	if d.c == nil {
		return ""
	}
	return d.c.link.opened.Durable
}

// DeliveryCount returns how often the message was, or may have been, delivered
// before. Above 0 it may have been processed already.
func (d Delivery) DeliveryCount() int {
	if d.c == nil {
		return 0
	}
	if i, ok := slices.BinarySearch(d.c.counted, uint32(d.pos)); ok {
		return int(at(d.c.ended, i)) + int(at(d.c.possible, i))
	}
	return 0
}

// EndedDeliveries returns how many deliveries ended without an acknowledgement:
// by nack, by close, by a lost subscriber. Limits on deliveries count these.
func (d Delivery) EndedDeliveries() int {
	if d.c == nil {
		return 0
	}
	if i, ok := slices.BinarySearch(d.c.counted, uint32(d.pos)); ok {
		return int(at(d.c.ended, i))
	}
	return 0
}

func at(s []uint32, i int) uint32 {
	if i < len(s) {
		return s[i]
	}
	return 0
}

// Message decodes the message. It shares the bytes of the delivery: it may be
// kept and must not be changed.
func (d Delivery) Message() (message.Message, error) {
	if d.c == nil {
		return message.Message{}, errNoDelivery
	}
	return d.c.batch.Message(d.pos)
}

// Body returns the body without decoding the rest. It shares the bytes of the
// delivery. It is nil if the batch cannot be decompressed; Message says why.
func (d Delivery) Body() []byte {
	if d.c == nil {
		return nil
	}
	body, err := d.c.batch.Body(d.pos)
	if err != nil {
		return nil
	}
	return body
}

// Ack acknowledges the message. It does not wait: the acknowledgement is sent
// within about two milliseconds, and again after a reconnect. It fails only when
// the subscription has ended; the message is then delivered again to others.
func (d Delivery) Ack() error {
	if d.c == nil {
		return errNoDelivery
	}
	return d.c.sub.settle(d, nil)
}

// AckSync acknowledges the message and waits until that is stored. ErrNotOwner
// means that the message was given to somebody else meanwhile; if it comes back
// it is delivered again. ErrEpochChanged means that a saved state was loaded since,
// or the cluster was formed anew. If ctx ends first the error is ErrOutcomeUnknown
// joined with that of ctx.
func (d Delivery) AckSync(ctx context.Context) error {
	if d.c == nil {
		return errNoDelivery
	}
	a, err := d.c.sub.settleSync(d)
	if a == nil {
		return err
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return errors.Join(ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// Nack gives the message back to be delivered again, here or elsewhere. Its
// delivery count rises.
func (d Delivery) Nack() error { return d.NackAfter(0) }

// MaxNackDelay is the longest that a message can be kept from being delivered
// again.
const MaxNackDelay = 365 * 24 * time.Hour

// NackAfter is Nack with a delay of at most MaxNackDelay, rounded up to
// milliseconds. Below 0 it is 0.
func (d Delivery) NackAfter(delay time.Duration) error {
	if d.c == nil {
		return errNoDelivery
	}
	if delay > MaxNackDelay {
		return refusal(ErrInvalidArgument, nil, "a delay of %v: at most %v", delay, MaxNackDelay)
	}
	delay = max(delay, 0)
	return d.c.sub.settle(d, &delay)
}
