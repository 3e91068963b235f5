package client

import (
	"slices"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// window holds the batches that are published and not confirmed, oldest first,
// and their numbers in the publisher session. It does no I/O and has no lock:
// the publisher's guards it.
//
// The store takes a batch only under the sequence that follows the last one it
// took, and within one attempt stops taking any once it rejected one. A rejected
// batch does not use up its sequence. So numbers are not a property of batches:
// the oldest always has the sequence after the last confirmed one, and when it
// leaves without having been stored, the others move up and go out again under
// the next attempt. Nothing of the old attempt can be stored any more, which is
// why a sequence never stands for two batches that may both be stored.
//
// Invariants:
//
//  1. batches[i] has, or will have, sequence first+i;
//  2. the first handed of them were handed to the present stream;
//  3. the batches with sent set come before those without, and are at least as
//     many as handed;
//  4. bytes is the sum of their sizes.
type window struct {
	maxBatches, maxBytes int

	batches []*batch
	handed  int
	bytes   int

	session, epoch uint64 // session 0: none
	store          uint64
	first          uint64
	attempt        uint32
	foreign        bool // the session is another publisher's, who knows first
}

func newWindow(maxBatches, maxBytes int) window {
	return window{maxBatches: maxBatches, maxBytes: maxBytes, first: 1, attempt: 1}
}

// resume makes the window go on with a session that is there, if it is one.
func (w *window) resume(s Session) {
	w.session, w.epoch, w.store = s.ID, s.Epoch, s.Store
	w.foreign = s.ID != 0
}

// room reports whether a batch of size bytes may be pushed. A single one always
// may.
func (w *window) room(size int) bool {
	n := len(w.batches)
	return n == 0 || n < w.maxBatches && w.bytes+size <= w.maxBytes
}

func (w *window) push(b *batch) {
	w.batches = append(w.batches, b)
	w.bytes += len(b.data)
}

// waiting reports whether some batch was not handed to the present stream.
func (w *window) waiting() bool { return w.handed < len(w.batches) }

// take returns the next batch for the present stream, and its numbers.
func (w *window) take() (b *batch, sequence uint64, attempt uint32) {
	b = w.batches[w.handed]
	sequence = w.first + uint64(w.handed)
	w.handed++
	b.sent = true
	b.handed++
	return b, sequence, w.attempt
}

// pop removes the oldest batch.
func (w *window) pop() *batch {
	b := w.batches[0]
	w.batches = slices.Delete(w.batches, 0, 1)
	w.bytes -= len(b.data)
	w.handed = max(0, w.handed-1)
	return b
}

// confirm removes the oldest batch, which is stored.
func (w *window) confirm() *batch {
	w.first++
	return w.pop()
}

// reject notes that the store refused the oldest batch. It and all later ones
// are not stored; they go out again under the next attempt.
func (w *window) reject() {
	w.attempt++
	w.handed = 0
	for _, b := range w.batches {
		b.sent = false
	}
}

// lost notes that the stream is gone.
func (w *window) lost() { w.handed = 0 }

// abandon gives the session up. It removes and returns the batches that may be
// stored under it; nobody will ever know.
func (w *window) abandon() []*batch {
	n := 0
	for n < len(w.batches) && w.batches[n].sent {
		w.bytes -= len(w.batches[n].data)
		n++
	}
	unknown := slices.Clone(w.batches[:n])
	w.batches = slices.Delete(w.batches, 0, n)
	w.handed = 0
	w.session, w.epoch, w.store = 0, 0, 0
	return unknown
}

// opened takes over what the server says of the session, and returns what had
// to be abandoned. ok is false if the server's session and the window cannot
// belong together, so that a new session has to be opened.
func (w *window) opened(o *perdurepb.PublishOpened) (unknown []*batch, ok bool) {
	resumed := w.session != 0 && o.Session == w.session && o.Epoch == w.epoch
	if resumed && w.foreign {
		w.first = o.LastSequence + 1
	} else if resumed {
		sent := uint64(0)
		for _, b := range w.batches {
			if b.sent {
				sent++
			}
		}
		// The store has at least what it confirmed and at most what was sent.
		if o.LastSequence+1 < w.first || o.LastSequence >= w.first+sent {
			return w.abandon(), false
		}
	} else {
		unknown = w.abandon()
		w.session, w.epoch = o.Session, o.Epoch
		w.first = o.LastSequence + 1
	}
	w.foreign = false
	w.store = o.StoreId
	w.attempt = max(o.Attempt, 1)
	w.handed = 0
	return unknown, true
}

// expired removes and returns what was published before the limit and will not
// be stored, and what may be. The session goes if one may be, since its number
// may be used up.
func (w *window) expired(limit time.Time) (unstored, unknown []*batch) {
	if len(w.batches) > 0 && w.batches[0].sent && !w.batches[0].born.After(limit) {
		unknown = w.abandon()
	}
	for len(w.batches) > 0 && !w.batches[0].sent && !w.batches[0].born.After(limit) {
		unstored = append(unstored, w.pop())
	}
	return unstored, unknown
}
