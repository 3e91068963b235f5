package service

import (
	"errors"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

var credit = dispatch.Credit{Messages: 100, Bytes: 1 << 20}

func TestDeliversWholeBatchesInOrder(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 100)
	r.publish(3)
	r.publish(2)
	s.wantIDs(t, 1, 2, 3, 4, 5)
	if len(s.got) != 2 || s.got[0].Ranges != nil || s.got[0].Messages() != 3 || s.got[1].Batch.Index <= s.got[0].Batch.Index {
		t.Fatalf("deliveries %+v", s.got)
	}
	if held, subs := r.s.Unacked(audit); held != 5 || subs != 1 {
		t.Fatalf("%d held by %d", held, subs)
	}
}

func TestDeliversPiecesOfABatch(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 2)
	r.publish(5)
	s.wantIDs(t, 1, 2)
	if d := s.got[0]; len(d.Ranges) != 1 || d.Ranges[0] != (Range{First: 1, Last: 2}) || d.Messages() != 2 {
		t.Fatalf("delivery %+v", d)
	}
	r.s.Grant(s.ID, dispatch.Credit{Messages: 2})
	r.settle()
	s.wantIDs(t, 1, 2, 3, 4)
	r.s.Grant(999, credit) // of nobody
}

// The newest wins: what the older one held goes to it, counted.
func TestTakeover(t *testing.T) {
	r := newRig(t)
	old := r.subscribe(audit, 7, 100)
	r.publish(3)
	young := r.subscribe(audit, 8, 100)
	old.wantEnded(t, perdurepb.Reason_REASON_FORCE_CLOSED)
	young.wantEnded(t)
	young.wantIDs(t, 1, 2, 3)
	if c := young.counts(2); len(c) != 1 || c[0].Ended != 1 || c[0].Possible != 0 {
		t.Fatalf("counts %v", c)
	}
	// The older one owns nothing any more.
	var a answer
	m := acks(1, 3)
	m.Done, m.Now = a.set, true
	r.s.Settle(old.ID, m, r.now())
	if a != (answer{done: true}) {
		t.Fatalf("settling after a takeover: %+v", a)
	}
	if r.pending(audit) != 3 {
		t.Fatal("the older one settled")
	}
	r.s.Detach(old.ID) // its stream ends later
	r.settle()
	if d, _ := r.s.Durable(audit); d.Attachment().Number != young.Attach {
		t.Fatalf("attachment %+v, want %d", d.Attachment(), young.Attach)
	}
}

// Two attachments may be applied in one order and arrive in the other.
func TestTakeoverThatComesLate(t *testing.T) {
	r := newRig(t)
	first, second := r.make(audit, 7), r.make(audit, 8)
	if err := r.s.Attach(second.Subscription, credit); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Attach(first.Subscription, credit); !errors.Is(err, ErrForceClosed) {
		t.Fatalf("attach after a newer one: %v", err)
	}
	second.wantEnded(t)
	r.publish(1)
	second.wantIDs(t, 1)
	first.wantIDs(t)
}

func TestSubscribedByProcess(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 1)
	anonymous := r.subscribe(delays, 0, 1)
	for _, tc := range []struct {
		durable, process uint64
		want             bool
	}{
		{audit, 7, true}, {audit, 8, false}, {delays, 7, false},
		{delays, 0, false}, // nobody in particular
	} {
		if got := r.s.Subscribed(tc.durable, tc.process); got != tc.want {
			t.Errorf("Subscribed(%d, %d) = %v", tc.durable, tc.process, got)
		}
	}
	r.s.Detach(s.ID)
	r.s.Detach(anonymous.ID)
	if r.s.Subscribed(audit, 7) {
		t.Error("subscribed after it was detached")
	}
}

// A subscriber that leaves gives its attachment up, in the log.
func TestDetachIsReplicated(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 100)
	r.publish(2)
	r.s.Detach(s.ID)
	r.settle()
	d, _ := r.s.Durable(audit)
	if d.Attachment().Number != 0 {
		t.Fatalf("attachment %+v", d.Attachment())
	}
	if ended, _ := d.Counts(2); ended != 1 {
		t.Fatalf("counted %d deliveries that ended", ended)
	}
	s.wantEnded(t) // it asked for it
	r.s.Detach(s.ID)
	if next := r.subscribe(audit, 7, 100); len(next.counts(1)) != 1 || next.counts(1)[0].Ended != 1 {
		t.Fatalf("counts %v", next.counts(1))
	}
}

func TestAttachFails(t *testing.T) {
	r := newRig(t)
	lost := &Subscription{ID: 99, Durable: 77, Ended: func(perdurepb.Reason) {}}
	if err := r.s.Attach(lost, credit); !errors.Is(err, ErrNoDurable) {
		t.Errorf("durable that is not there: %v", err)
	}
	s := r.make(delays, 1)
	if err := r.s.Attach(s.Subscription, credit); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Attach(s.Subscription, credit); !errors.Is(err, dispatch.ErrAttached) {
		t.Errorf("attached twice: %v", err)
	}
	r.unlead()
	if err := r.s.Attach(s.Subscription, credit); !errors.Is(err, cluster.ErrNotLeader) {
		t.Errorf("without leading: %v", err)
	}
}

// A durable that is deleted ends its subscribers; what waits is settled: nobody
// will ask for it again.
func TestDurableDeletedWhileSubscribed(t *testing.T) {
	r := newRig(t)
	res := r.run(store.AppendCreateDurable(nil, create("mine")))
	s := r.subscribe(res.Durable, 7, 100)
	r.publish(4)
	s.wantIDs(t, 1, 2, 3, 4)
	// One settlement is on its way, one waits, one delivery is delayed.
	var flying, waiting answer
	m := acks(1, 1)
	m.Done, m.Now = flying.set, true
	r.s.Settle(s.ID, m, r.now())
	r.seal()
	m = acks(2, 2)
	m.Done, m.Now = waiting.set, true
	r.s.Settle(s.ID, m, r.now())
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 3, Last: 3}, Delay: 50 * millisecond}}}, r.now())
	if flying.done || waiting.done {
		t.Fatal("answered before it was applied")
	}
	// The deletion overtakes what waits: it is sealed by somebody else.
	r.index++
	r.log = append(r.log, sealed{entry: cluster.Entry{
		Index: r.index, Term: r.term, Stamp: 1e18 + r.mono, Commands: [][]byte{store.AppendDeleteDurable(nil, res.Durable)}, Offsets: []uint32{20},
	}})
	r.s.entries.push(0)
	r.commit()
	r.commit()
	if flying != (answer{true, true, false}) || waiting != (answer{true, true, false}) {
		t.Fatalf("answers %+v %+v", flying, waiting)
	}
	s.wantEnded(t, perdurepb.Reason_REASON_DURABLE_DELETED)
	r.pass(100 * millisecond)
	s.wantIDs(t, 1, 2, 3, 4)
	r.s.Settle(s.ID, acks(3, 4), r.now())
	r.s.Detach(s.ID)
	r.pass(100 * millisecond)
	if len(r.s.durables) != 0 || len(r.s.subs) != 0 || len(r.s.delayed) != 0 || r.s.issued.head != len(r.s.issued.items) {
		t.Fatalf("left behind: %d durables, %d subscribers, %d delayed", len(r.s.durables), len(r.s.subs), len(r.s.delayed))
	}
}

// An attachment that comes to its service only after a newer one has come and
// gone was taken over all the same.
func TestALateAttachmentIsTakenOver(t *testing.T) {
	r := newRig(t)
	late := r.make(audit, 7)
	young := r.subscribe(audit, 8, 100)
	r.publish(3)
	young.wantIDs(t, 1, 2, 3)
	r.s.Detach(young.ID)
	if err := r.s.Attach(late.Subscription, credit); !errors.Is(err, ErrForceClosed) {
		t.Fatalf("attached: %v", err)
	}
	r.settle()
	again := r.subscribe(audit, 7, 100)
	again.wantIDs(t, 1, 2, 3)
}

// Counts show deliveries of earlier leaders as possible ones, and survive.
func TestCountsAcrossLeaders(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 1)
	r.publish(2)
	s.wantIDs(t, 1)
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 1, Last: 1}}}}, r.now())
	r.s.Grant(s.ID, dispatch.Credit{Messages: 1})
	r.settle()
	s.wantIDs(t, 1, 1)
	if c := s.counts(1); len(c) != 1 || c[0].Ended != 1 || c[0].Possible != 0 {
		t.Fatalf("after a nack: %v", c)
	}
	r.unlead()
	s.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	r.lead()
	again := r.subscribe(audit, 7, 2)
	again.wantIDs(t, 1, 2)
	if c := again.counts(1); len(c) != 1 || c[0].Ended != 1 || c[0].Possible != 1 {
		t.Fatalf("after a change of leader: %v", c)
	}
	// An acknowledgement of what an earlier leader delivered is accepted.
	r.s.Settle(again.ID, acks(1, 2), r.now())
	r.settle()
	r.pass(ackDelay)
	if r.pending(audit) != 0 {
		t.Fatalf("%d pending", r.pending(audit))
	}
}

// Released counts are shown before the release is applied, and once after.
func TestCountsWhileAReleaseIsOnItsWay(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(delays, 7, 10)
	r.publish(1)
	for want := uint32(1); want <= 3; want++ {
		r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 1, Last: 1}}}}, r.now())
		r.s.Settled(true, r.now())
		r.seal() // never committed within the loop
		if c := s.counts(1); len(c) != int(want) || c[want-1].Ended != want {
			t.Fatalf("delivery %d: %v", want, c)
		}
	}
	for len(r.log) > 0 {
		r.commit()
	}
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 1, Last: 1}}}}, r.now())
	r.settle()
	if c := s.counts(1); c[3].Ended != 4 {
		t.Fatalf("after all were applied: %v", c)
	}
	if d, _ := r.s.Durable(delays); !d.Counted() {
		t.Fatal("nothing was counted")
	} else if ended, _ := d.Counts(message.ID(1)); ended != 4 {
		t.Fatalf("recorded %d", ended)
	}
}
