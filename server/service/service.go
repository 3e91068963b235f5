package service

import (
	"errors"
	"fmt"
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/store"
)

// ErrDiverged means that this replica's state differs from the leader's at the
// same index: it must be replaced.
var ErrDiverged = errors.New("service: the state of this replica differs from the leader's")

// Service is one persistence service. See the package comment. The group's loop
// owns it.
type Service struct {
	*store.Machine

	// OnLead, if set, runs on the loop when the service begins to lead. It must
	// not block.
	OnLead func()
	// OnSuspend, if set, runs on the loop when the cluster comes to be suspended or
	// resumed, as far as this replica knows. It must not block.
	OnSuspend func(suspended bool)

	led        bool
	term       uint64
	durables   map[uint64]*duty
	subs       map[uint64]*Subscription
	hot        []*duty // may have something to hand out
	waiting    []*duty // have commands to give
	delayed    []*duty // have a nack that waits
	issued     queue[issued]
	entries    queue[int] // internal commands of each entry issued in this term
	ackDue     int64      // Mono; 0 nothing waits
	ackUnset   bool       // acknowledgements came since Commands last looked
	urgent     bool       // something should go out at once
	quorum     bool       // as Settled was last told
	upkeep     upkeep
	suspension suspension
	told       bool // what OnSuspend was told last

	publishers map[uint64]*Publisher

	heating []*duty             // scratch
	next    []dispatch.Delivery // scratch
	ranges  []store.Range       // scratch
}

// New returns a service with an empty machine.
func New() *Service {
	return &Service{
		Machine: store.New(), durables: map[uint64]*duty{}, subs: map[uint64]*Subscription{}, publishers: map[uint64]*Publisher{},
	}
}

// duty is the dispatch of one durable, from its first subscriber in this term.
type duty struct {
	id       uint64
	standard bool
	d        *dispatch.Dispatcher
	subs     []uint64 // attached, ascending

	acks     []dispatch.Run // accepted, in no command yet
	compact  int            // length of acks at which they are joined
	releases []dispatch.Run // given back, in no command yet
	waiters  []waiter       // for acks and releases
	detached []uint64       // attachments to be ended
	mark     uint64         // watermark wanted, 0 none
	newest   uint64         // attachment that was ever attached under this leader
	hot      bool
	waits    bool
	delays   bool
}

type waiter struct {
	owner bool
	done  func(owner, lost bool)
}

// issued is a command of the service's own that is on its way. All that were
// issued in a term are applied in order.
type issued struct {
	duty     *duty
	settled  []dispatch.Run
	released []dispatch.Run
	waiters  []waiter
	upkeep   bool
}

// Apply implements [cluster.Machine].
func (s *Service) Apply(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	from := len(out)
	out, err := s.Machine.Apply(e.Index, e.Term, e.Stamp, e.Commands, e.Offsets, out)
	if err != nil {
		return out, err
	}
	for _, r := range out[from:] {
		if r.Code == store.Diverged {
			return out, fmt.Errorf("%w: %s", ErrDiverged, r.Detail)
		}
	}
	s.tell()
	replaced := s.Machine.Replaced()
	if !s.led || e.Term != s.term {
		// Whoever leads next begins from the record, and asks nobody.
		s.Machine.Touched()
		s.Machine.Removed()
		s.Machine.Attached()
		return out, nil
	}
	if len(e.Commands) > 0 {
		s.applied(len(e.Commands))
	}
	if replaced {
		s.restart()
	}
	s.Machine.Attached() // subscribers attach themselves, after it was applied
	for _, id := range s.Machine.Touched() {
		if t := s.durables[id]; t != nil {
			t.d.Added()
			s.heat(t)
		}
	}
	for _, id := range s.Machine.Removed() {
		s.removed(id)
	}
	return out, nil
}

// applied tells the dispatchers about the service's own commands of an entry of
// so many commands. They were issued with that entry, so they come in order.
func (s *Service) applied(commands int) {
	upkeep := 0
	for range s.entries.pop() {
		is := s.issued.pop()
		if is.upkeep {
			upkeep++
		}
		if is.duty == nil {
			continue
		}
		for _, r := range is.settled {
			is.duty.d.Gone(r.First, r.Last)
		}
		for _, r := range is.released {
			is.duty.d.Released(r.First, r.Last)
		}
		for _, w := range is.waiters {
			w.done(w.owner, false)
		}
		s.heat(is.duty)
	}
	if commands > upkeep {
		s.upkeep.entries++
	}
}

// removed ends the subscriptions of a durable that is no more.
func (s *Service) removed(id uint64) {
	t := s.durables[id]
	if t == nil {
		return
	}
	for _, sub := range slices.Clone(t.subs) {
		s.end(sub, perdurepb.Reason_REASON_DURABLE_DELETED)
	}
	delete(s.durables, id)
	s.delayed = slices.DeleteFunc(s.delayed, func(o *duty) bool { return o == t })
	waiters := t.waiters
	t.acks, t.releases, t.mark, t.detached, t.waiters = nil, nil, 0, nil, nil
	for _, w := range waiters {
		w.done(w.owner, false) // nobody will ask for it again: it is settled
	}
}

// Lead implements [cluster.Leading].
func (s *Service) Lead(term uint64, now cluster.Now) {
	s.led, s.term = true, term
	s.upkeep.lead(now)
	if s.OnLead != nil {
		s.OnLead()
	}
}

// Unlead implements [cluster.Leading]: everybody looks for the new leader.
func (s *Service) Unlead() {
	s.led, s.quorum = false, false
	s.dismiss()
	s.unleadSuspended()
	s.issued, s.entries = queue[issued]{}, queue[int]{}
}

// restart forgets what was known of the deliveries of stores that a saved state has
// replaced: everybody begins anew. Commands that are on their way are nobody's.
func (s *Service) restart() {
	s.dismiss()
	on := s.issued.all()
	for i := range on {
		on[i] = issued{upkeep: on[i].upkeep}
	}
}

// dismiss ends what clients have here, and all dispatch.
func (s *Service) dismiss() {
	var waiters []waiter
	for _, is := range s.issued.all() {
		waiters = append(waiters, is.waiters...)
	}
	for _, id := range sorted(s.durables) {
		waiters = append(waiters, s.durables[id].waiters...)
	}
	for _, w := range waiters {
		w.done(w.owner, true)
	}
	for _, id := range sorted(s.subs) {
		s.subs[id].Ended(perdurepb.Reason_REASON_NOT_LEADER)
	}
	for _, id := range sorted(s.publishers) {
		s.publishers[id].Ended(perdurepb.Reason_REASON_NOT_LEADER)
	}
	clear(s.durables)
	clear(s.subs)
	clear(s.publishers)
	s.hot, s.waiting, s.delayed, s.heating = nil, nil, nil, nil
	s.ackDue, s.ackUnset, s.urgent = 0, false, false
}

// Leads reports whether the service may be asked to attach, and the term.
func (s *Service) Leads() (term uint64, ok bool) { return s.term, s.led }

// Attach adds a subscriber with its first credit. On a standard durable it
// replaces the present one, which is told; the caller has had an attachment
// applied before.
func (s *Service) Attach(sub *Subscription, credit dispatch.Credit) error {
	if !s.led {
		return cluster.ErrNotLeader
	}
	if s.Machine.Suspended() {
		return ErrSuspended
	}
	t, err := s.dutyOf(sub.Durable)
	if err != nil {
		return err
	}
	if t.standard {
		// It may be the newer one's turn to have come and gone already.
		if sub.Attach < t.newest {
			return ErrForceClosed
		}
		t.newest = sub.Attach
		for _, other := range slices.Clone(t.subs) {
			if s.subs[other].Attach > sub.Attach {
				return ErrForceClosed
			}
			s.end(other, perdurepb.Reason_REASON_FORCE_CLOSED)
		}
	}
	credit.Messages = min(credit.Messages, MaxCredit)
	if err := t.d.Attach(sub.ID, credit); err != nil {
		return err
	}
	sub.left = credit.Messages
	s.subs[sub.ID] = sub
	at, _ := slices.BinarySearch(t.subs, sub.ID)
	t.subs = slices.Insert(t.subs, at, sub.ID)
	s.heat(t)
	return nil
}

// ErrForceClosed means that a newer attachment of a standard durable won.
var ErrForceClosed = errors.New("service: a newer subscriber has the durable")

// ErrNoDurable means that the durable is not there, or not any more.
var ErrNoDurable = errors.New("service: no such durable")

// Subscribed reports whether process has a subscriber of a durable. Process 0
// is nobody in particular.
func (s *Service) Subscribed(durable, process uint64) bool {
	t := s.durables[durable]
	return t != nil && process != 0 && slices.ContainsFunc(t.subs, func(id uint64) bool { return s.subs[id].Process == process })
}

func (s *Service) dutyOf(durable uint64) (*duty, error) {
	if t := s.durables[durable]; t != nil {
		return t, nil
	}
	src, kind, ok := newSource(s.Machine, durable)
	if !ok {
		return nil, fmt.Errorf("%w: %d", ErrNoDurable, durable)
	}
	t := &duty{id: durable, standard: kind == dispatch.Standard, d: dispatch.New(kind, src)}
	s.durables[durable] = t
	return t, nil
}

// end removes a subscriber that did not ask for it.
func (s *Service) end(id uint64, why perdurepb.Reason) {
	sub := s.subs[id]
	s.Detach(id)
	sub.Ended(why)
}

// Detach removes a subscriber; what it held goes to others at once. One that is
// not attached is ignored.
func (s *Service) Detach(id uint64) {
	sub := s.subs[id]
	if sub == nil {
		return
	}
	delete(s.subs, id)
	t := s.durables[sub.Durable]
	if at, ok := slices.BinarySearch(t.subs, id); ok {
		t.subs = slices.Delete(t.subs, at, at+1)
	}
	t.releases = t.d.Detach(id, t.releases)
	if d, ok := s.Machine.Durable(sub.Durable); ok && sub.Attach != 0 && d.Attachment().Number == sub.Attach {
		t.detached = append(t.detached, sub.Attach)
	}
	s.want(t, true)
	s.heat(t)
}

// Grant gives a subscriber more credit, as far as [MaxCredit] allows.
func (s *Service) Grant(id uint64, credit dispatch.Credit) {
	if sub := s.subs[id]; sub != nil {
		credit.Messages = min(credit.Messages, MaxCredit-sub.left)
		sub.left += credit.Messages
		t := s.durables[sub.Durable]
		t.d.Grant(id, credit)
		s.heat(t)
	}
}

// Settle takes what a subscriber says about deliveries. A subscription that is
// over owns nothing.
func (s *Service) Settle(id uint64, m Settlement, now cluster.Now) {
	sub := s.subs[id]
	if sub == nil {
		if m.Done != nil {
			m.Done(false, !s.led)
		}
		return
	}
	t := s.durables[sub.Durable]
	owner, acks, releases := true, len(t.acks), len(t.releases)
	for _, r := range m.Acks {
		var v dispatch.Verdict
		t.acks, v = t.d.Ack(id, r.First, r.Last, t.acks)
		owner = owner && v == dispatch.OK
	}
	for _, n := range m.Nacks {
		var v dispatch.Verdict
		notBefore := int64(0)
		if n.Delay > 0 {
			notBefore = s.clock(now) + n.Delay
		}
		t.releases, v = t.d.Nack(id, n.First, n.Last, notBefore, t.releases)
		owner = owner && v == dispatch.OK
	}
	acked, released := len(t.acks) > acks, len(t.releases) > releases
	if acked || released {
		s.want(t, released || m.Now)
	}
	if acked {
		s.ackUnset = true
		t.join()
	}
	if m.Done != nil {
		if acked || released {
			t.waiters = append(t.waiters, waiter{owner, m.Done})
		} else {
			m.Done(owner, false)
		}
	}
	s.heat(t)
}

// join keeps acknowledgements that come again and again, while no entry takes
// them along, from gathering.
func (t *duty) join() {
	if len(t.acks) > max(maxRanges, t.compact) {
		t.acks = coalesce(t.acks)
		t.compact = 2 * len(t.acks)
	}
}

// Unacked is how many messages subscribers of a durable hold, and how many
// subscribers there are.
func (s *Service) Unacked(durable uint64) (held, subscribers uint64) {
	if t := s.durables[durable]; t != nil {
		return t.d.Held().Held, uint64(len(t.subs))
	}
	return 0, 0
}

func (s *Service) heat(t *duty) {
	if !t.hot {
		t.hot = true
		s.hot = append(s.hot, t)
	}
}

func (s *Service) want(t *duty, urgent bool) {
	s.urgent = s.urgent || urgent
	if !t.waits {
		t.waits = true
		s.waiting = append(s.waiting, t)
	}
}

func sorted[V any](m map[uint64]V) []uint64 {
	ids := make([]uint64, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Live implements [cluster.Machine].
func (s *Service) Live(r cluster.Range, yield func(index uint64)) { s.Machine.Live(r.Lo, r.Hi, yield) }

var (
	_ cluster.Machine[store.Result] = (*Service)(nil)
	_ cluster.Leading               = (*Service)(nil)
)
