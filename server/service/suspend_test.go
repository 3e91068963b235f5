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

const grace = 100 * millisecond

// quieted remembers what somebody who waits for quiet was told.
type quieted struct {
	told     int
	recalled uint64
	err      error
}

func (r *rig) suspend() *quieted {
	r.t.Helper()
	if res := r.run(store.AppendSuspend(nil, grace)); res.Code != store.OK {
		r.t.Fatal(res)
	}
	return r.awaitQuiet()
}

func (r *rig) awaitQuiet() *quieted {
	q := &quieted{}
	r.s.AwaitQuiet(func(recalled uint64, err error) { q.told, q.recalled, q.err = q.told+1, recalled, err })
	r.settle()
	return q
}

func (r *rig) resume() {
	r.t.Helper()
	if res := r.run(store.AppendResume(nil)); res.Code != store.OK {
		r.t.Fatal(res)
	}
}

func (q *quieted) want(t testing.TB, told int, recalled uint64, err error) {
	t.Helper()
	if q.told != told || q.recalled != recalled || !errors.Is(q.err, err) {
		t.Fatalf("told %d times: %d recalled, %v; want %d times, %d, %v", q.told, q.recalled, q.err, told, recalled, err)
	}
}

// Suspended, nothing is handed out. What is held may be acknowledged for the grace;
// then it is taken back, and counts as not delivered when it comes again.
func TestSuspendedGrace(t *testing.T) {
	r := newRig(t)
	a, b := r.subscribe(audit, 1, 100), r.subscribe(delays, 2, 2)
	r.publish(3)
	a.wantIDs(t, 1, 2, 3)
	b.wantIDs(t, 1, 2)
	q := r.suspend()
	r.s.Grant(b.ID, dispatch.Credit{Messages: 10, Bytes: 1 << 20})
	r.s.Settle(a.ID, acks(1, 1), r.now())
	r.settle()
	r.pass(ackDelay)
	r.pass(grace - ackDelay - millisecond)
	q.want(t, 0, 0, nil)
	if d := r.s.Deadline(); d != r.mono+millisecond {
		t.Fatalf("deadline %d at %d", d, r.mono)
	}
	b.wantIDs(t, 1, 2) // and not 3
	r.pass(millisecond)
	q.want(t, 1, 4, nil)
	for _, id := range []uint64{audit, delays} {
		if held, subscribers := r.s.Unacked(id); held != 0 || subscribers != 1 {
			t.Errorf("durable %d: %d held by %d subscribers", id, held, subscribers)
		}
	}
	r.awaitQuiet().want(t, 1, 4, nil)
	// Who has a copy may still acknowledge it.
	r.s.Settle(a.ID, acks(2, 2), r.now())
	r.settle()
	r.pass(ackDelay)
	if n := r.pending(audit); n != 1 {
		t.Fatalf("%d pending", n)
	}
	a.got, b.got = nil, nil
	r.pass(3600e9)
	a.wantIDs(t)
	r.resume()
	a.wantIDs(t, 3)
	b.wantIDs(t, 1, 2, 3)
	if c := append(a.counts(3), b.counts(1)...); len(c) != 0 {
		t.Errorf("counts %v of deliveries that were taken back", c)
	}
	a.wantEnded(t)
	b.wantEnded(t)
}

// When everything is acknowledged nobody waits for the grace to be over.
func TestSuspendedIsQuietSoon(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(delays, 1, 100)
	r.publish(2)
	q := r.suspend()
	q.want(t, 0, 0, nil)
	r.s.Settle(s.ID, acks(1, 1), r.now())
	r.settle()
	r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: 2, Last: 2}}}}, r.now())
	q.want(t, 0, 0, nil) // accepted, not applied
	r.pass(ackDelay)
	q.want(t, 1, 0, nil)
	s.wantIDs(t, 1, 2) // what was given back does not come again
	r.resume()
	s.wantIDs(t, 1, 2, 2)
	if c := s.counts(2); len(c) != 1 || c[0].Ended != 1 {
		t.Errorf("counts %v of a message that its subscriber gave back", c)
	}
	newRig(t).suspend().want(t, 1, 0, nil) // nothing was delivered
}

// A delay does not run out while the cluster is suspended.
func TestSuspendedDelaysStandStill(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(delays, 1, 100)
	r.publish(2)
	delay := func(id message.ID) {
		r.s.Settle(s.ID, Settlement{Nacks: []Nack{{Range: Range{First: id, Last: id}, Delay: 50 * millisecond}}}, r.now())
		r.settle()
	}
	delay(1)
	r.pass(20 * millisecond)
	r.suspend()
	r.pass(10 * millisecond)
	delay(2)
	r.pass(3600e9)
	r.resume()
	s.wantIDs(t, 1, 2)
	r.pass(20 * millisecond)
	s.wantIDs(t, 1, 2)
	r.pass(10*millisecond + dispatch.DelayStep)
	s.wantIDs(t, 1, 2, 1)
	r.pass(20 * millisecond)
	s.wantIDs(t, 1, 2, 1, 2)
}

// Nobody attaches, and a leader that comes to lead while the cluster is suspended
// begins with that.
func TestSuspendedLeaders(t *testing.T) {
	r := newRig(t)
	var told []bool
	r.s.OnSuspend = func(suspended bool) { told = append(told, suspended) }
	s := r.subscribe(delays, 1, 100)
	r.publish(2)
	q := r.suspend()
	other := r.make(delays, 2)
	if err := r.s.Attach(other.Subscription, dispatch.Credit{Messages: 1, Bytes: 1}); !errors.Is(err, ErrSuspended) {
		t.Fatalf("attached: %v", err)
	}
	r.unlead()
	q.want(t, 1, 0, cluster.ErrNotLeader)
	s.wantEnded(t, perdurepb.Reason_REASON_NOT_LEADER)
	r.awaitQuiet().want(t, 1, 0, cluster.ErrNotLeader)
	r.lead()
	r.awaitQuiet().want(t, 1, 0, nil)
	if err := r.s.Attach(other.Subscription, dispatch.Credit{Messages: 9, Bytes: 99}); !errors.Is(err, ErrSuspended) {
		t.Fatalf("attached: %v", err)
	}
	r.suspend().want(t, 1, 0, nil) // again
	r.resume()
	r.awaitQuiet().want(t, 1, 0, ErrResumed)
	r.resume()
	third := r.subscribe(delays, 3, 100)
	third.wantIDs(t, 1, 2)
	q = r.suspend()
	r.resume()
	q.want(t, 1, 0, ErrResumed)
	third.wantIDs(t, 1, 2) // it holds them still
	if len(told) != 4 || !told[0] || told[1] || !told[2] || told[3] {
		t.Errorf("told %v", told)
	}
}

// A service that loads a suspended state says so, and one that loads another.
func TestSuspendedIsLoaded(t *testing.T) {
	r := newRig(t)
	pages := map[string][]byte{}
	save := func() {
		r.s.Changed(func(key, value []byte) { pages[string(key)] = append([]byte(nil), value...) })
	}
	r.suspend()
	save()
	var told []bool
	other := New()
	other.OnSuspend = func(suspended bool) { told = append(told, suspended) }
	load := func() {
		other.Reset()
		for k, v := range pages {
			if err := other.LoadPage([]byte(k), v); err != nil {
				t.Fatal(err)
			}
		}
		if err := other.Loaded(r.index); err != nil {
			t.Fatal(err)
		}
	}
	load()
	r.resume()
	save()
	load()
	if len(told) != 2 || !told[0] || told[1] {
		t.Errorf("told %v", told)
	}
}
