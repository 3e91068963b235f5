package service

import (
	"errors"
	"slices"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// settles returns the ranges of the settle commands among commands.
func settles(t *testing.T, commands [][]byte) (out []string) {
	t.Helper()
	for _, c := range commands {
		out = append(out, store.Command(c))
	}
	return out
}

// Acknowledgements of all subscribers become one command with as few ranges as
// can be.
func TestAcknowledgementsAreCoalesced(t *testing.T) {
	r := newRig(t)
	a, b := r.subscribe(delays, 1, 5), r.subscribe(delays, 2, 5)
	r.publish(10)
	for _, s := range []*subscriber{a, b} {
		for _, id := range s.ids() {
			r.s.Settle(s.ID, acks(id, id), r.now())
		}
	}
	own := r.seal(publish(1))
	if len(own) != 1 || !slices.Equal(own[0], store.AppendSettle(nil, delays, []store.Range{{First: 1, Last: 10}})) {
		t.Fatalf("commands %q", settles(t, own))
	}
	r.commit()
	if r.pending(delays) != 1 {
		t.Fatalf("%d pending", r.pending(delays))
	}
}

func TestRangesOfOneCommandAreBounded(t *testing.T) {
	r := newRig(t)
	const n = 2*maxRanges + 10
	s := r.subscribe(delays, 1, 2*n+1)
	r.publish(2 * n)
	var a answer
	m := Settlement{Done: a.set, Now: true}
	for i := range message.ID(n) {
		m.Acks = append(m.Acks, Range{First: 2*i + 1, Last: 2*i + 1})
	}
	r.s.Settle(s.ID, m, r.now())
	own := r.seal()
	if len(own) != 3 {
		t.Fatalf("%d commands", len(own))
	}
	r.commit()
	if !a.owner || r.pending(delays) != n {
		t.Fatalf("answer %+v, %d pending", a, r.pending(delays))
	}
}

// Acknowledgements ride on an entry that goes out anyway, or wait 2 ms.
func TestAcknowledgementsRideOrWait(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 1, 100)
	r.publish(4)
	// Wanting to know is not being in a hurry: every frame of a client wants to.
	m := acks(1, 1)
	m.Done = (&answer{}).set
	r.s.Settle(s.ID, m, r.now())
	if d := r.s.Deadline(); d != 1 {
		t.Fatalf("deadline %d before Commands has looked", d)
	}
	if own := r.seal(); own != nil {
		t.Fatalf("went at once: %q", settles(t, own))
	}
	if d := r.s.Deadline(); d != r.mono+ackDelay {
		t.Fatalf("deadline %d, want %d", d, r.mono+ackDelay)
	}
	r.mono += ackDelay / 2
	r.s.Settle(s.ID, acks(2, 2), r.now())
	if own := r.seal(); own != nil {
		t.Fatalf("a later one made it go: %q", settles(t, own))
	}
	if own := r.seal(publish(1)); len(own) != 1 {
		t.Fatalf("did not ride: %q", settles(t, own))
	}
	r.commit()
	r.s.Settle(s.ID, acks(3, 3), r.now())
	r.seal()
	r.mono += ackDelay
	if own := r.seal(); len(own) != 1 {
		t.Fatalf("did not go after the delay: %q", settles(t, own))
	}
	r.commit()
	if r.pending(audit) != 2 {
		t.Fatalf("%d pending", r.pending(audit))
	}
	if d := r.s.Deadline(); d != 0 && d <= r.mono {
		t.Fatalf("deadline %d with nothing to do at %d", d, r.mono)
	}
}

// Whoever waits is answered when its settlement was applied, not before.
func TestWaitersAreAnsweredWhenApplied(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 1, 100)
	r.publish(5)
	var first, second, again, nothing, nacked answer
	settle := func(m Settlement, a *answer) {
		m.Done, m.Now = a.set, true
		r.s.Settle(s.ID, m, r.now())
	}
	settle(acks(1, 1), &first)
	r.seal()
	settle(acks(2, 2), &second)
	settle(acks(1, 1), &again) // is on its way: waits for it
	settle(acks(50, 60), &nothing)
	if first.done || second.done || again.done {
		t.Fatal("answered before it was applied")
	}
	if nothing != (answer{true, true, false}) {
		t.Fatalf("settling what is not pending: %+v", nothing)
	}
	r.seal()
	r.commit()
	if !first.done || second.done || again.done {
		t.Fatalf("after the first entry: %+v %+v %+v", first, second, again)
	}
	r.commit()
	if !second.owner || !again.owner {
		t.Fatalf("after the second: %+v %+v", second, again)
	}
	settle(Settlement{Nacks: []Nack{{Range: Range{First: 3, Last: 3}}}}, &nacked)
	if nacked.done {
		t.Fatal("a nack was answered before its release was applied")
	}
	r.seal()
	r.commit()
	if !nacked.owner {
		t.Fatalf("nack: %+v", nacked)
	}
}

func TestWaitersAreLostWithLeadership(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 1, 100)
	r.publish(2)
	var flying, waiting, late answer
	m := acks(1, 1)
	m.Done, m.Now = flying.set, true
	r.s.Settle(s.ID, m, r.now())
	r.seal()
	m = acks(2, 2)
	m.Done, m.Now = waiting.set, true
	r.s.Settle(s.ID, m, r.now())
	r.unlead()
	for _, a := range []answer{flying, waiting} {
		if a != (answer{done: true, owner: true, lost: true}) {
			t.Errorf("answer %+v", a)
		}
	}
	m.Done, m.Now = late.set, true
	r.s.Settle(s.ID, m, r.now())
	if !late.lost {
		t.Errorf("after the leadership: %+v", late)
	}
	s.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	if r.s.Deadline() != 0 && r.s.Deadline() <= r.mono {
		t.Errorf("deadline %d", r.s.Deadline())
	}
}

// Some of it may belong to another subscriber: the rest is settled.
func TestNotOwner(t *testing.T) {
	r := newRig(t)
	a, b := r.subscribe(delays, 1, 2), r.subscribe(delays, 2, 2)
	r.publish(4)
	var got, nacked answer
	m := acks(1, 4)
	m.Done, m.Now = got.set, true
	r.s.Settle(a.ID, m, r.now())
	r.settle()
	if !got.done || got.owner {
		t.Fatalf("answer %+v", got)
	}
	if r.pending(delays) != 2 {
		t.Fatalf("%d pending", r.pending(delays))
	}
	id := b.ids()[0]
	r.s.Settle(a.ID, Settlement{Nacks: []Nack{{Range: Range{First: id, Last: id}}}, Done: nacked.set, Now: true}, r.now())
	if nacked != (answer{done: true}) {
		t.Fatalf("a nack of another's: %+v", nacked)
	}
}

// A nack with a delay comes back after it, counted, and no earlier.
func TestNackWithDelay(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(delays, 1, 10)
	r.publish(2)
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 1, Last: 1}, Delay: 20 * millisecond}}}, r.now())
	r.settle()
	r.pass(19 * millisecond)
	s.wantIDs(t, 1, 2)
	if d := r.s.Deadline(); d <= r.mono || d > r.mono+10*millisecond {
		t.Fatalf("deadline %d at %d", d, r.mono)
	}
	r.pass(dispatch.DelayStep + millisecond)
	s.wantIDs(t, 1, 2, 1)
	if c := s.counts(1); len(c) != 1 || c[0].Ended != 1 {
		t.Fatalf("counts %v", c)
	}
	if r.settle(); len(r.s.delayed) != 0 {
		t.Fatal("still delayed")
	}
}

// Without a quorum nothing is handed out and nothing asks for the loop, however
// much is due.
func TestNoDispatchWithoutQuorum(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(delays, 1, 10)
	r.publish(1)
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 1, Last: 1}, Delay: 20 * millisecond}}}, r.now())
	r.settle()
	r.seal(publish(1))
	r.commit()
	r.mono += 100 * millisecond
	r.s.Settled(false, r.now())
	s.wantIDs(t, 1)
	if d := r.s.Deadline(); d != 0 && d <= r.mono {
		t.Fatalf("deadline %d at %d", d, r.mono)
	}
	r.s.Settled(true, r.now())
	s.wantIDs(t, 1, 1, 2)
}

// Entries come back in the order in which they were issued, however many are on
// their way, empty-handed ones included.
func TestIssuedCommandsMatchTheirEntries(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 1, 100)
	r.publish(10)
	answers := make([]answer, 10)
	for i := range answers {
		id := message.ID(i + 1)
		m := acks(id, id)
		m.Done, m.Now = answers[i].set, true
		r.s.Settle(s.ID, m, r.now())
		if i%2 == 0 {
			r.seal(publish(1))
			r.seal(publish(1)) // nothing rides on it
		} else {
			r.seal()
		}
	}
	if len(r.log) != 15 {
		t.Fatalf("%d entries", len(r.log))
	}
	for i := range answers {
		for range 1 + (i+1)%2 {
			if answers[i].done && i%2 == 1 {
				t.Fatalf("settlement %d was answered too early", i)
			}
			r.commit()
		}
		if !answers[i].done || i+1 < len(answers) && answers[i+1].done {
			t.Fatalf("after the entry of settlement %d: %+v", i, answers)
		}
	}
	if r.s.entries.head != len(r.s.entries.items) || r.s.issued.head != len(r.s.issued.items) {
		t.Fatal("commands left that nobody answered")
	}
}

// Settling the same again and again while no entry goes out does not gather.
func TestRepeatedAcknowledgementsDoNotGather(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 1, 100)
	r.publish(100)
	for range 100_000 {
		r.s.Settle(s.ID, acks(1, 1), r.now())
		r.s.Settle(s.ID, acks(3, 3), r.now())
	}
	if n := len(r.s.durables[audit].acks); n > 2*maxRanges {
		t.Fatalf("%d ranges wait", n)
	}
	r.pass(0)
	r.pass(ackDelay)
	if r.pending(audit) != 98 {
		t.Fatalf("%d pending", r.pending(audit))
	}
}

// The watermark is raised before it stops dispatch: a durable with a backlog is
// drained by acknowledgements alone.
func TestBacklogDrains(t *testing.T) {
	r := newRig(t)
	const n = 20_000
	r.publish(n / 2)
	r.publish(n / 2)
	s := r.subscribe(audit, 1, 1000)
	for done := 0; done < n; {
		ids := s.ids()
		if len(ids) == done {
			t.Fatalf("stuck after %d", done)
		}
		for i, id := range ids[done:] {
			if id != message.ID(done+i+1) {
				t.Fatalf("%v after %d", id, done+i)
			}
		}
		r.s.Settle(s.ID, acks(ids[done], ids[len(ids)-1]), r.now())
		r.s.Grant(s.ID, dispatch.Credit{Messages: uint64(len(ids) - done), Bytes: 1 << 20})
		done = len(ids)
		r.settle()
		r.pass(ackDelay)
	}
	if r.pending(audit) != 0 {
		t.Fatalf("%d pending", r.pending(audit))
	}
}

func TestPublishersAreToldAndKeepSessions(t *testing.T) {
	r := newRig(t)
	var told []uint64
	publisher := func(id, session uint64) *Publisher {
		return &Publisher{ID: id, Session: session, Ended: func(why perdurepb.Reason) {
			if why != perdurepb.Reason_REASON_NOT_LEADER {
				t.Errorf("publisher %d ended with %v", id, why)
			}
			told = append(told, id)
		}}
	}
	ps := []*Publisher{publisher(3, 30), publisher(1, 10), publisher(2, 0), publisher(4, 30)}
	for _, p := range ps {
		if err := r.s.Keep(p); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.s.sessions(); !slices.Equal(got, []uint64{10, 30}) {
		t.Fatalf("sessions %v", got)
	}
	r.s.Drop(ps[1])
	r.unlead()
	if !slices.Equal(told, []uint64{2, 3, 4}) {
		t.Fatalf("told %v", told)
	}
	if err := r.s.Keep(ps[0]); !errors.Is(err, cluster.ErrNotLeader) {
		t.Fatalf("keep without leading: %v", err)
	}
	r.lead()
	if err := r.s.Keep(publisher(3, 31)); err != nil {
		t.Fatal(err)
	}
	r.s.Drop(ps[0]) // of an earlier term, its number again
	if got := r.s.sessions(); !slices.Equal(got, []uint64{31}) {
		t.Fatalf("sessions %v", got)
	}
}
