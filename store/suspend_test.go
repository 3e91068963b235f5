package store

import (
	"fmt"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// suspendedRig is a suspended machine with what a command may be about: store 1
// with the static durables 10, which is attached, and 11, a dynamic one, a session
// that has published one message under sequence 1 and another that has not.
func suspendedRig(t testing.TB) (r *rig, session, dynamic uint64) {
	t.Helper()
	r = newRig(t)
	session = r.deploy(&statepb.Store{}, standard(10, "audit"), &statepb.Durable{Id: 11, Name: "work", Kind: 2})
	dynamic = r.want(OK, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "d", Kind: 2})).Durable
	r.want(OK, AppendAttach(nil, 10, 1, 1))
	r.want(OK, AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 2)))
	r.want(OK, AppendSuspend(nil, 5e9))
	return r, session, dynamic
}

// TestSuspendedTable says of every command what a suspended cluster answers. What
// is refused changes nothing, but that a refused batch closes the attempt.
func TestSuspendedTable(t *testing.T) {
	r, session, dynamic := suspendedRig(t)
	stores := func(revision uint64, s ...*statepb.Store) []byte {
		return AppendDeploy(nil, &statepb.Deploy{Revision: revision, Stores: s})
	}
	flights := func(durables ...*statepb.Durable) *statepb.Store {
		return &statepb.Store{Id: 1, Name: "flights", Durables: durables}
	}
	work := &statepb.Durable{Id: 11, Name: "work", Kind: 2}
	for _, tc := range []struct {
		what    string
		command []byte
		code    Code
	}{
		{"a new batch", AppendPublish(nil, 1, session, 1, 2, plainBatch(t, 2, 1)), Suspended},
		{"a batch behind one that was refused", AppendPublish(nil, 1, session, 1, 2, plainBatch(t, 3, 1)), Aborted},
		{"the batch under the next attempt", AppendPublish(nil, 1, session, 2, 2, plainBatch(t, 2, 1)), Suspended},
		{"a batch that was stored before", AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 2)), OK},
		{"a batch that is none", AppendPublish(nil, 1, session, 3, 2, []byte("x")), Corrupt},
		{"a batch without a session", AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 4, 1)), Suspended},
		{"attaching", AppendAttach(nil, 10, 2, 2), Suspended},
		{"the present attachment", AppendAttach(nil, 10, 1, 1), OK},
		{"a new durable", AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "e", Kind: 2}), Suspended},
		{"a durable that is there", AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "d", Kind: 2}), OK},
		{"deleting a durable", AppendDeleteDurable(nil, dynamic), Suspended},
		{"deleting a static durable", AppendDeleteDurable(nil, 10), StaticDurable},
		{"a definition without a durable", stores(8, flights(standard(10, "audit"))), Suspended},
		{"a definition without a store", stores(8), Suspended},
		{"a definition with more", stores(8, flights(standard(10, "audit"), work, standard(12, "more")), &statepb.Store{Id: 2, Name: "second"}), OK},
		{"releasing", AppendRelease(nil, 10, []Range{{1, 1}}, true), OK},
		{"acknowledging", AppendSettle(nil, 10, []Range{{1, 2}}), OK},
		{"raising a watermark", AppendWatermark(nil, 11, 2), OK},
		{"detaching", AppendDetach(nil, 10, 1), OK},
		{"opening a session", AppendOpenSession(nil, 1, 0, 0), OK},
		{"closing it", AppendCloseSession(nil, session+1), OK},
		{"a checksum", AppendChecksum(nil, 0, 0), OK},
		{"a tick", AppendTick(nil, []uint64{session}), OK},
		{"suspending again", AppendSuspend(nil, 1e9), OK},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r.t = t
			before := fmt.Sprintf("%+v", r.m.Stats())
			r.want(tc.code, tc.command)
			if after := fmt.Sprintf("%+v", r.m.Stats()); tc.code != OK && after != before {
				t.Errorf("refused, and\n%s became\n%s", before, after)
			}
			if !r.m.Suspended() {
				t.Error("it is not suspended any more")
			}
		})
	}
	r.t = t
	r.want(OK, AppendResume(nil))
	r.want(OK, AppendResume(nil))
	if r.m.Suspended() {
		t.Fatal("suspended after it was resumed")
	}
	if got := r.want(OK, AppendPublish(nil, 1, session, 4, 2, plainBatch(t, 2, 1))); got.First != 3 || got.Duplicate {
		t.Errorf("the batch that was refused is %+v", got)
	}
	r.want(OK, AppendAttach(nil, 10, 2, 2))
	r.want(OK, AppendDeleteDurable(nil, dynamic))
	if !r.m.Deletes(&statepb.Deploy{Revision: 9}) {
		t.Error("an empty definition deletes nothing")
	}
	r.want(OK, stores(9))
}

// TestSuspendedStandsStill: R does not move, so no session expires, and no session
// makes room for another.
func TestSuspendedStandsStill(t *testing.T) {
	r, session, _ := suspendedRig(t)
	at, running := r.m.Time()
	r.now += 5 * sessionIdle
	r.entry()
	if later, still := r.m.Time(); later <= at || still != running {
		t.Errorf("T from %d to %d, R from %d to %d", at, later, running, still)
	}
	r.m.sessions.most = 1
	r.want(Suspended, AppendOpenSession(nil, 1, 0, 0))
	r.term++ // another leader
	r.now += 5 * sessionIdle
	r.entry()
	r.want(OK, AppendResume(nil))
	if _, ok := r.m.Session(session); !ok || r.m.Sessions() != 1 {
		t.Error("a session expired while the cluster was suspended")
	}
	r.entry()
	if _, after := r.m.Time(); after-running != 1e6 {
		t.Errorf("R moved by %d in a millisecond after it was resumed", after-running)
	}
	r.now += 2 * sessionIdle
	r.entry()
	if r.m.Sessions() != 0 {
		t.Error("nothing expires after it was resumed")
	}
}

// TestSuspendedIsState: it survives in pages, the grace does not, and who is not
// suspended has the pages of versions that knew no suspension.
func TestSuspendedIsState(t *testing.T) {
	r, _, _ := suspendedRig(t)
	if r.m.Grace() != 5e9 {
		t.Errorf("grace %d", r.m.Grace())
	}
	saved := disk{}
	saved.save(t, r.m)
	m := saved.load(t, r.index)
	if !m.Suspended() || m.Hash() != r.m.Hash() || m.Grace() != 0 {
		t.Errorf("loaded: suspended %v, hash %016x, want %016x, grace %d", m.Suspended(), m.Hash(), r.m.Hash(), m.Grace())
	}
	suspended := len(r.m.meta.appendTo(nil))
	r.want(OK, AppendResume(nil))
	page := r.m.meta.appendTo(nil)
	if len(page) != suspended-1 {
		t.Errorf("the page has %d bytes, suspended %d", len(page), suspended)
	}
	var other meta
	for _, last := range []byte{0, 2} {
		if other.decode(append(page[:len(page):len(page)], last)) == nil {
			t.Errorf("a page decodes that ends with %d", last)
		}
	}
	r.want(OK, AppendSuspend(nil, 1<<62))
	if r.m.Grace() != maxGrace*1e6 {
		t.Errorf("grace %d", r.m.Grace())
	}
}

// TestSuspendedIsSavedAlike: whatever publishers do while a cluster is suspended, its
// state hash stays; what they did counts when it is resumed.
func TestSuspendedIsSavedAlike(t *testing.T) {
	r, session, _ := suspendedRig(t)
	hash := func() string {
		s, err := r.m.Summary()
		if err != nil {
			t.Fatal(err)
		}
		return s.StateHash
	}
	before := hash()
	for _, tc := range []struct {
		what    string
		code    Code
		command []byte
	}{
		{"a batch that is refused", Suspended, AppendPublish(nil, 1, session, 1, 2, plainBatch(t, 2, 1))},
		{"a batch that the edge has refused", Corrupt, AppendPublish(nil, 1, session, 2, 2, nil)},
		{"a batch of the next attempt", Suspended, AppendPublish(nil, 1, session, 3, 2, plainBatch(t, 2, 1))},
		{"a batch that was stored", OK, AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 2))},
		{"a tick", OK, AppendTick(nil, []uint64{session})},
	} {
		if r.want(tc.code, tc.command); hash() != before {
			t.Errorf("%s makes a difference", tc.what)
		}
	}
	pages := disk{}
	pages.save(t, r.m)
	m := pages.load(t, r.index)
	if !m.sessions.byID[session].late || m.Hash() != r.m.Hash() {
		t.Error("that the session was used is not in its page")
	}
	r.now += sessionIdle // of which nothing counts
	r.entry()
	r.want(OK, AppendResume(nil))
	if x := r.m.sessions.byID[session]; x.late || x.active != r.m.running {
		t.Errorf("resumed, the session is %+v, R %d", x, r.m.running)
	}
	r.want(Aborted, AppendPublish(nil, 1, session, 3, 2, plainBatch(t, 2, 1))) // what was refused stays so
}

// TestSuspendUnused looks at the Suspend of a load into a cluster that seemed unused:
// what somebody had confirmed before it stays where it is, and the cluster goes on.
func TestSuspendUnused(t *testing.T) {
	r := newRig(t)
	session := r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendSuspendUnused(nil, 5e9))
	if !r.m.Suspended() || r.m.Grace() != 5e9 {
		t.Errorf("suspended: %v, grace %d", r.m.Suspended(), r.m.Grace())
	}
	r.want(OK, AppendSuspendUnused(nil, 5e9)) // again
	r.want(OK, AppendResume(nil))
	r.want(OK, AppendPublish(nil, 1, session, 1, 1, plainBatch(t, 1, 2)))
	if got := r.want(NotEmpty, AppendSuspendUnused(nil, 5e9)); got.Detail != `store "flights" has been used` || r.m.Suspended() {
		t.Errorf("%+v, suspended: %v", got, r.m.Suspended())
	}
	r.want(OK, AppendSuspend(nil, 5e9))
	r.want(NotEmpty, AppendSuspendUnused(nil, 5e9))
	if !r.m.Suspended() {
		t.Error("what an operator suspended was resumed")
	}
}
