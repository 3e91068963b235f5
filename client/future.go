package client

import (
	"context"
	"errors"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// Receipt is what is known of a message that was published.
type Receipt struct {
	// Store holds the message.
	Store string
	// Confirmed says that the message is stored as Durability says. It is false
	// where the endpoint confirms nothing: then it was handed over, and nobody
	// says whether it was stored.
	Confirmed bool
	// ID of the message in the store. 0 where the endpoint confirms nothing, and
	// where a receipt came so late that the store had forgotten it.
	ID message.ID
	// Duplicate says that a resent message had been stored before.
	Duplicate bool
	// Interested says that at least one durable keeps some message of the batch.
	// Unknown, and false, where nothing is confirmed.
	Interested bool
	// Durability of the store's cluster.
	Durability Durability
}

// Durability says what a confirmed message survives.
type Durability uint8

// The durabilities.
const (
	DurabilityUnknown Durability = iota
	Memory                       // held by a majority of servers in memory
	Async                        // written by a majority, not yet forced to disk
	Sync                         // forced to disk by a majority
)

// String returns "memory", "async", "sync" or "unknown".
func (d Durability) String() string {
	switch d {
	case Memory:
		return "memory"
	case Async:
		return "async"
	case Sync:
		return "sync"
	}
	return "unknown"
}

func durabilityOf(d perdurepb.Durability) Durability {
	switch d {
	case perdurepb.Durability_DURABILITY_MEMORY:
		return Memory
	case perdurepb.Durability_DURABILITY_ASYNC:
		return Async
	case perdurepb.Durability_DURABILITY_SYNC:
		return Sync
	}
	return DurabilityUnknown
}

// batch is what is published at once: one completion for all of its messages.
// The publisher's lock guards what is not fixed; receipt and err are read only
// after done is closed.
type batch struct {
	data     []byte // encoded; nil while messages are still added
	memory   []byte // that data is a part of, to be used again; nil if it is not
	count    int
	born     time.Time // when its first message was published
	sent     bool      // to some stream, under its present number: it may be stored
	handed   int       // how often to a stream
	complete bool
	refused  bool // never taken: nothing of it was or will be sent

	done    chan struct{}
	receipt Receipt // of the first message; the others have the following ids
	err     error
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// failedBatch is the completion of a message that was never taken.
func failedBatch(err error) *batch {
	b := newBatch()
	b.refused = true
	b.finish(Receipt{}, err)
	return b
}

// finish completes the batch. Only the first call counts.
func (b *batch) finish(r Receipt, err error) {
	if b.complete {
		return
	}
	b.complete = true
	b.receipt, b.err = r, err
	close(b.done)
}

// Future is the outcome to come of one message. It is a small value; copies
// are equal.
type Future struct {
	b *batch
	i int // position in the batch
}

// Done is closed when the outcome is known.
func (f Future) Done() <-chan struct{} { return f.b.done }

// Refused returns why the message was not taken, such as ErrMessageTooLarge, and
// nil if it was. It does not wait. What was refused was never sent, and what is
// published after it goes its way.
func (f Future) Refused() error {
	if f.b.refused {
		return f.b.err
	}
	return nil
}

// Wait returns the outcome. If ctx ends first, the message stays on its way, and
// the error is ErrOutcomeUnknown joined with that of ctx.
func (f Future) Wait(ctx context.Context) (Receipt, error) {
	select {
	case <-f.b.done:
	default:
		select {
		case <-f.b.done:
		case <-ctx.Done():
			return Receipt{}, errors.Join(ErrOutcomeUnknown, context.Cause(ctx))
		}
	}
	if f.b.err != nil {
		return Receipt{}, f.b.err
	}
	r := f.b.receipt
	if r.ID != 0 {
		r.ID += message.ID(f.i)
	}
	return r, nil
}
