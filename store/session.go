package store

import (
	"fmt"
	"math"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

const (
	// maxOutcomes is how many of its last batches a session remembers. It is
	// the most that a publisher may have in flight.
	maxOutcomes = 64
	// sessionIdle is after how much R an unused session expires: an hour.
	sessionIdle = statefile.MaxIdle
	// maxSessions limits the sessions of a cluster; the longest unused one
	// makes room.
	maxSessions = 100_000
)

// sessions are the publisher sessions of a cluster, in the order of their last
// use.
type sessions struct {
	byID        map[uint64]*session // for look-ups only
	first, last *session            // the longest unused, the latest used
	track       durable.Tracker
	most        int        // maxSessions, less in tests
	idle        int64      // sessionIdle, less in tests
	loaded      []*session // while pages are loaded
}

// session is what the store remembers of one publisher.
type session struct {
	id    uint64
	store uint64
	mark  durable.Mark

	last    uint64 // last sequence accepted
	attempt uint32 // current
	closed  bool   // a batch of the current attempt was rejected

	late   bool   // used since the cluster was suspended
	active int64  // R of the last use
	used   uint64 // rank of the last use, no two alike

	outcomes []outcome // of the last sequences, that of n at (n-1)%64

	prev, next *session // by used
}

// outcome is what a publisher was told about an accepted batch.
type outcome struct {
	first      message.ID
	sum        uint64
	count      uint32
	interested bool
}

func newSessions() sessions {
	return sessions{byID: make(map[uint64]*session), most: maxSessions, idle: sessionIdle}
}

// outcome returns what was said about an accepted sequence, nil if that is
// forgotten.
func (x *session) outcome(sequence uint64) *outcome {
	if sequence == 0 || sequence > x.last || x.last-sequence >= uint64(len(x.outcomes)) {
		return nil
	}
	return &x.outcomes[(sequence-1)%maxOutcomes]
}

// record notes that sequence, the next one, was accepted.
func (x *session) record(sequence uint64, o outcome) {
	x.last = sequence
	if at := (sequence - 1) % maxOutcomes; at < uint64(len(x.outcomes)) {
		x.outcomes[at] = o
	} else {
		x.outcomes = append(x.outcomes, o)
	}
}

// push makes x the latest used.
func (l *sessions) push(x *session) {
	x.prev, x.next = l.last, nil
	if l.last != nil {
		l.last.next = x
	} else {
		l.first = x
	}
	l.last = x
}

// unchain takes x out of the order.
func (l *sessions) unchain(x *session) {
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		l.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		l.last = x.prev
	}
	x.prev, x.next = nil, nil
}

// remove forgets x.
func (l *sessions) remove(x *session) {
	l.unchain(x)
	delete(l.byID, x.id)
	l.track.Drop(&x.mark, x.id)
}

// useSession notes that x is used now, and about to change. While the cluster is
// suspended that counts when it is resumed: until then the state stays as it is
// saved, whoever tries to publish. A session that is new has no rank yet.
func (m *Machine) useSession(x *session) {
	m.sessions.track.Touch(&x.mark, x.id)
	if m.suspended && x.used != 0 {
		x.late = true
		return
	}
	m.used++
	x.used, x.active = m.used, m.running
	if m.sessions.last != x {
		m.sessions.unchain(x)
		m.sessions.push(x)
	}
}

// useLate notes the uses of the time in which the cluster was suspended.
func (m *Machine) useLate() {
	var late []*session
	for x := m.sessions.first; x != nil; x = x.next {
		if x.late {
			late = append(late, x)
		}
	}
	for _, x := range late {
		x.late = false
		m.useSession(x)
	}
}

// openSession applies an OpenSession.
func (m *Machine) openSession(c *statepb.OpenSession) Result {
	s := m.store(c.Store)
	switch {
	case c.Above > statefile.MaxCounter:
		return invalid(fmt.Sprintf("no session is above %d", c.Above))
	case s == nil:
		return Result{Code: NoSuchStore, Detail: fmt.Sprintf("store %d does not exist", c.Store)}
	case c.Epoch > math.MaxUint16 || uint16(c.Epoch) != s.epoch:
		return Result{Code: EpochChanged, Detail: fmt.Sprintf("store %q is in epoch %d, not %d", s.spec.name, s.epoch, c.Epoch)}
	}
	if m.suspended && len(m.sessions.byID) >= m.sessions.most {
		return isSuspended("no session makes room for another")
	}
	for len(m.sessions.byID) >= m.sessions.most {
		m.sessions.remove(m.sessions.first)
	}
	m.session = max(m.session, c.Above) + 1
	x := &session{id: m.session, store: c.Store, attempt: 1}
	m.sessions.byID[x.id] = x
	m.sessions.push(x)
	m.useSession(x)
	return Result{Session: x.id, Attempt: x.attempt}
}

// closeSession forgets a session; one that is not there is a success.
func (m *Machine) closeSession(id uint64) Result {
	if x := m.sessions.byID[id]; x != nil {
		m.sessions.remove(x)
	}
	return Result{Session: id}
}

// expireSessions forgets the sessions that were not used for too long.
func (m *Machine) expireSessions() {
	for x := m.sessions.first; x != nil && m.running-x.active > m.sessions.idle; x = m.sessions.first {
		m.sessions.remove(x)
	}
}

// endSessions forgets the sessions of a store that is gone.
func (m *Machine) endSessions(store uint64) {
	for x := m.sessions.first; x != nil; {
		next := x.next
		if x.store == store {
			m.sessions.remove(x)
		}
		x = next
	}
}
