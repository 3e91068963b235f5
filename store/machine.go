package store

import (
	"fmt"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// Machine is the state of one cluster. Create it with [New].
//
// Invariants, in the order that check tests them:
//
//  1. of every durable, matched = acked + pending;
//  2. of every batch, live is the number of (durable, message) pairs of the
//     batch that are pending, and it is not zero;
//  3. of every entry, live is the number of its batches in indexes;
//  4. messages and bytes of a store are the sums over its index;
//  5. sessions ascend by their last use, and hold at most 64 outcomes.
type Machine struct {
	meta
	applied uint64

	stores   []*storeState            // ascending by id
	durables []*durableState          // ascending by id
	byID     map[uint64]*durableState // for look-ups only
	sessions sessions
	entries  entries

	metaMark     durable.Mark
	metaTrack    durable.Tracker
	storeTrack   durable.Tracker
	durableTrack durable.Tracker
	gone         [][durable.KeyLen]byte // keys of pages whose owner is gone
	buf          []byte                 // for pages on their way out

	loads   loads
	events  events
	scratch scratch
	checked checkpoint
	grace   int64 // of the last Suspend applied since the start, nanoseconds
	breathe func(written, total uint64) error
}

// meta is what the machine knows beside stores, durables and sessions.
type meta struct {
	time     int64  // T: nanoseconds since 1970
	running  int64  // R: nanoseconds, T without the time between leaders and suspended
	term     uint64 // of the last entry
	revision uint64 // of the last Deploy
	session  uint64 // last session id given
	dynamic  uint64 // last number given to a dynamic durable
	used     uint64 // last number given to a use of a session
	invalid  uint64 // commands that were answered with Invalid

	suspended bool
}

// scratch is memory that Apply uses again and again.
type scratch struct {
	search message.Search  // of one batch
	keys   []uint64        // durables that want one message
	hits   []*durableState // durables with matchers that want some of a batch
	key    [durable.KeyLen]byte
}

// checkpoint remembers the hash at the last Checksum.
type checkpoint struct{ index, hash uint64 }

// New returns the machine of a cluster to which nothing was deployed yet.
func New() *Machine {
	m := new(Machine)
	m.Reset()
	return m
}

// Reset makes m as New returns it.
func (m *Machine) Reset() {
	*m = Machine{byID: make(map[uint64]*durableState)}
	m.sessions = newSessions()
}

// Apply applies the entry at index, and appends one result per command to out.
// stamp is the cluster time T of the entry; offsets says where each command
// begins in the entry's data. The commands are not kept.
//
// An error stops the replica. After [ErrUnknownCommand] and [ErrOrder] nothing
// of the entry was applied.
func (m *Machine) Apply(index, term uint64, stamp int64, commands [][]byte, offsets []uint32, out []Result) ([]Result, error) {
	if index <= m.applied || term < m.term || len(offsets) != len(commands) {
		return out, fmt.Errorf("%w: entry %d of term %d with %d commands and %d offsets, after entry %d of term %d",
			ErrOrder, index, term, len(commands), len(offsets), m.applied, m.term)
	}
	for i, c := range commands {
		if len(c) > 0 && !known(c[0]) {
			return out, fmt.Errorf("%w: command %d of entry %d is of kind %d", ErrUnknownCommand, i, index, c[0])
		}
	}
	m.applied = index
	m.advance(term, stamp)
	for i, c := range commands {
		r, err := m.apply(c, index, offsets[i])
		if err != nil {
			return out, fmt.Errorf("command %d of entry %d: %w", i, index, err)
		}
		if r.Code == Invalid {
			m.invalid++
		}
		out = append(out, r)
	}
	m.entries.close(index)
	m.touchMeta()
	return out, nil
}

// advance moves the two times on, and notes a change of leader.
func (m *Machine) advance(term uint64, stamp int64) {
	m.touchMeta()
	now := max(m.time, stamp)
	if term == m.term && !m.suspended {
		m.running += now - m.time
	}
	m.time = now
	if term > m.term {
		m.term = term
		for _, d := range m.durables {
			d.mark()
		}
	}
	m.expireSessions()
}

// touchMeta notes that the machine's own page changed.
func (m *Machine) touchMeta() { m.metaTrack.Touch(&m.metaMark, 0) }

// apply applies one command. Its kind is known, unless it is empty.
func (m *Machine) apply(c []byte, index uint64, offset uint32) (Result, error) {
	if len(c) == 0 {
		return invalid("empty command"), nil
	}
	switch c[0] {
	case kindPublish:
		return m.publish(c, index, offset), nil
	case kindSettle:
		return m.applySettle(c)
	case kindRelease:
		return m.applyRelease(c), nil
	case kindWatermark:
		return m.applyWatermark(c), nil
	case kindLoadPart:
		return m.loadPart(c, index, offset), nil
	}
	return m.applyRare(c)
}

// invalid returns the result for a command that cannot be.
func invalid(why string) Result { return Result{Code: Invalid, Detail: why} }

// Applied returns the index of the last entry applied or loaded.
func (m *Machine) Applied() uint64 { return m.applied }

// Term returns the term of the last entry.
func (m *Machine) Term() uint64 { return m.term }

// Time returns T, the cluster time of the last entry, in nanoseconds since
// 1970, and R, which does not count the time between leaders and that in which the
// cluster was suspended.
func (m *Machine) Time() (t, r int64) { return m.time, m.running }

// Revision returns the realm revision that was deployed last; 0 is none.
func (m *Machine) Revision() uint64 { return m.revision }

// Invalid returns how many commands were answered with [Invalid]. Above 0 it is
// an alarm: somebody proposes what does not decode.
func (m *Machine) Invalid() uint64 { return m.invalid }

// Checksum returns the index of the last Checksum applied since the start and
// the hash of the state there; 0, 0 if there was none.
func (m *Machine) Checksum() (index, hash uint64) { return m.checked.index, m.checked.hash }

// store returns the store with an id, nil if there is none.
func (m *Machine) store(id uint64) *storeState {
	if i, ok := findStore(m.stores, id); ok {
		return m.stores[i]
	}
	return nil
}
