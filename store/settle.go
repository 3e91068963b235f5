package store

import (
	"encoding/binary"
	"fmt"

	"github.com/perdure/perdure/message"
)

// ranges is the undecoded ranges of a command.
type ranges []byte

// valid reports whether r is whole ranges, each the right way round.
func (r ranges) valid() bool {
	if len(r)%rangeLen != 0 {
		return false
	}
	for ; len(r) > 0; r = r[rangeLen:] {
		if at := r.first(); at.First == 0 || at.First > at.Last {
			return false
		}
	}
	return true
}

func (r ranges) first() Range {
	le := binary.LittleEndian
	return Range{First: message.ID(le.Uint64(r)), Last: message.ID(le.Uint64(r[8:]))}
}

func noDurable(id uint64) Result {
	return Result{Code: NoSuchDurable, Durable: id, Detail: fmt.Sprintf("durable %d does not exist", id)}
}

// applySettle applies a Settle.
func (m *Machine) applySettle(c []byte) (Result, error) {
	if len(c) < settleHeader || !ranges(c[settleHeader:]).valid() {
		return invalid("settle is cut off or has a bad range"), nil
	}
	id := binary.LittleEndian.Uint64(c[1:])
	d := m.byID[id]
	if d == nil {
		return noDurable(id), nil
	}
	for r := ranges(c[settleHeader:]); len(r) > 0; r = r[rangeLen:] {
		at := r.first()
		n, err := m.release(d, at.First, at.Last)
		if err != nil {
			return Result{}, err
		}
		if n > 0 {
			d.touch()
			d.acked += n
		}
	}
	return Result{Durable: id}, nil
}

// release takes what is pending in [first, last] out of d and out of the index.
func (m *Machine) release(d *durableState, first, last message.ID) (uint64, error) {
	s := d.store
	var err error
	dead := func(entry uint64) {
		if !m.entries.drop(entry, m.applied) {
			err = fmt.Errorf("%w: entry %d has a batch of store %d but is not live", ErrState, entry, s.id)
		}
	}
	d.pending.Runs(first, last, func(id message.ID, n uint64) bool {
		messages, bytes, ok := s.index.release(id, n, dead)
		s.messages -= messages
		s.bytes -= bytes
		if !ok && err == nil {
			err = fmt.Errorf("%w: %d messages from %v on are pending in durable %d but not in the index of store %d", ErrState, n, id, d.id, s.id)
		}
		return err == nil
	})
	if err != nil {
		return 0, err
	}
	n := d.pending.RemoveRange(first, last)
	if n > 0 {
		if !d.counts.Empty() {
			d.counts.RemoveRange(first, last)
		}
		d.prune()
	}
	return n, nil
}

// applyRelease applies a Release. Messages that are not pending are passed over.
func (m *Machine) applyRelease(c []byte) Result {
	if len(c) < releaseHeader || c[9] > 1 || !ranges(c[releaseHeader:]).valid() {
		return invalid("release is cut off or has a bad range")
	}
	id := binary.LittleEndian.Uint64(c[1:])
	d := m.byID[id]
	if d == nil {
		return noDurable(id)
	}
	if c[9] == 0 {
		return Result{Durable: id}
	}
	for r := ranges(c[releaseHeader:]); len(r) > 0; r = r[rangeLen:] {
		at := r.first()
		d.pending.Runs(at.First, at.Last, func(id message.ID, n uint64) bool {
			for k := range n {
				d.counts.Add(id + message.ID(k))
			}
			return true
		})
	}
	return Result{Durable: id}
}

// applyWatermark applies a Watermark. It never falls, and says that the leader
// delivers, which counts once it is gone.
func (m *Machine) applyWatermark(c []byte) Result {
	if len(c) != watermarkLen {
		return invalid("watermark has the wrong length")
	}
	id := binary.LittleEndian.Uint64(c[1:])
	d := m.byID[id]
	if d == nil {
		return noDurable(id)
	}
	at := message.ID(binary.LittleEndian.Uint64(c[9:]))
	if at > d.watermark || !d.handing {
		d.touch()
		d.watermark, d.handing = max(d.watermark, at), true
	}
	return Result{Durable: id}
}
