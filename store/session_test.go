package store

import (
	"fmt"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
)

// TestSessionTable walks one session through what can happen to a batch. Batch
// content follows from the tag, so equal tags are equal batches.
func TestSessionTable(t *testing.T) {
	type step struct {
		attempt  uint32
		sequence uint64
		tag      int // 0: corrupt
		code     Code
		first    message.ID
		last     uint64 // of the session, afterwards
		dup      bool
	}
	const n = 2 // messages of a batch
	for name, steps := range map[string][]step{
		"in order, then repeated": {
			{1, 1, 1, OK, 1, 1, false},
			{1, 2, 2, OK, 3, 2, false},
			{1, 1, 1, OK, 1, 2, true},
			{1, 2, 2, OK, 3, 2, true},
			{9, 2, 2, OK, 3, 2, true}, // the attempt does not matter to what is done
			{1, 3, 3, OK, 5, 3, false},
		},
		"a gap changes nothing": {
			{1, 1, 1, OK, 1, 1, false},
			{1, 3, 3, SequenceGap, 0, 1, false},
			{2, 4, 3, SequenceGap, 0, 1, false},
			{1, 2, 2, OK, 3, 2, false},
		},
		"first sequence is 1": {
			{1, 2, 2, SequenceGap, 0, 0, false},
			{1, 1, 1, OK, 1, 1, false},
		},
		"other bytes under one sequence": {
			{1, 1, 1, OK, 1, 1, false},
			{1, 1, 2, SequenceReused, 0, 1, false},
			{1, 1, 0, Corrupt, 0, 1, false},
			{1, 2, 2, OK, 3, 2, false}, // neither closed the attempt
		},
		"a rejected batch closes the attempt": {
			{1, 1, 1, OK, 1, 1, false},
			{1, 2, 0, Corrupt, 0, 1, false},
			{1, 3, 3, Aborted, 0, 1, false},
			{1, 2, 2, Aborted, 0, 1, false},
			{1, 1, 1, OK, 1, 1, true},
			{2, 3, 3, SequenceGap, 0, 1, false},
			{2, 2, 2, OK, 3, 2, false},
			{1, 3, 3, Aborted, 0, 2, false}, // late, from before
			{2, 3, 3, OK, 5, 3, false},
		},
		"rejected again under the next attempt": {
			{1, 1, 0, Corrupt, 0, 0, false},
			{2, 1, 0, Corrupt, 0, 0, false},
			{2, 1, 1, Aborted, 0, 0, false},
			{5, 1, 1, OK, 1, 1, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			x := r.deploy(&statepb.Store{}, standard(10, "audit"))
			for i, s := range steps {
				b := []byte("no batch at all")
				if s.tag > 0 {
					b = plainBatch(t, s.tag, n)
				}
				got := r.want(s.code, AppendPublish(nil, 1, x, s.attempt, s.sequence, b))
				if got.First != s.first || got.Last != s.last || got.Duplicate != s.dup || got.Session != x {
					t.Fatalf("step %d: %+v, want %+v", i, got, s)
				}
				if s.code == OK && (got.Count != n || !got.Interested) {
					t.Fatalf("step %d: %+v", i, got)
				}
			}
			if st := r.m.Stats()[0]; st.LastID != message.ID(n*steps[len(steps)-1].last) {
				t.Fatalf("last id %v", st.LastID)
			}
		})
	}
}

// TestSessionForgets: the last 64 receipts are kept, older ones are not.
func TestSessionForgets(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	pub := func(seq uint64) []byte { return AppendPublish(nil, 1, x, 1, seq, plainBatch(t, int(seq), 1)) }
	for seq := uint64(1); seq <= 100; seq++ {
		r.want(OK, pub(seq))
	}
	saved := disk{}
	saved.save(t, r.m)
	r.m = saved.load(t, r.index)
	for seq := uint64(1); seq <= 100; seq++ {
		if seq <= 36 {
			if got := r.want(ReceiptForgotten, pub(seq)); !got.Duplicate || got.Last != 100 {
				t.Fatalf("%+v", got)
			}
			continue
		}
		if got := r.want(OK, pub(seq)); !got.Duplicate || got.First != message.ID(seq) {
			t.Fatalf("sequence %d: %+v", seq, got)
		}
	}
}

func TestSessionUnknown(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	b := plainBatch(t, 1, 1)
	r.want(SessionUnknown, AppendPublish(nil, 1, x+1, 1, 1, b))
	r.want(NoSuchStore, AppendPublish(nil, 2, x, 1, 1, b))
	r.want(NoSuchStore, AppendOpenSession(nil, 2, 0, 0))
	r.want(EpochChanged, AppendOpenSession(nil, 1, 1, 0))
	r.want(OK, AppendCloseSession(nil, x))
	r.want(OK, AppendCloseSession(nil, x))
	r.want(SessionUnknown, AppendPublish(nil, 1, x, 1, 1, b))
	for i := message.ID(1); i <= 2; i++ { // without a session nobody remembers
		if got := r.want(OK, AppendPublish(nil, 1, 0, 0, 0, b)); got.First != i || got.Duplicate {
			t.Fatalf("%+v", got)
		}
	}
	y := r.want(OK, AppendOpenSession(nil, 1, 0, 0)).Session
	if y == x {
		t.Fatal("a session id is used again")
	}
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 9}))
	if _, ok := r.m.Session(y); ok || r.m.Sessions() != 0 {
		t.Fatal("a session outlived its store")
	}
}

// TestSessionExpiry: by R and not by T, in the order of last use, also after a
// reload.
func TestSessionExpiry(t *testing.T) {
	for _, reload := range []bool{false, true} {
		t.Run(fmt.Sprint("reload ", reload), func(t *testing.T) {
			r := newRig(t)
			a := r.deploy(&statepb.Store{}, standard(10, "audit"))
			out := r.entry(AppendOpenSession(nil, 1, 0, 0), AppendOpenSession(nil, 1, 0, 0), AppendTick(nil, []uint64{a, 99}))
			b, c := out[0].Session, out[1].Session
			r.now += sessionIdle - 10e6
			r.want(OK, AppendPublish(nil, 1, b, 1, 1, plainBatch(t, 1, 1)))
			r.now += 3600e9 // between leaders: nothing expires
			r.term++
			r.entry()
			if r.m.Sessions() != 3 {
				t.Fatalf("%d sessions", r.m.Sessions())
			}
			if reload {
				saved := disk{}
				saved.save(t, r.m)
				r.m = saved.load(t, r.index)
			}
			r.now += 20e6
			r.entry()
			_, okA := r.m.Session(a)
			view, okB := r.m.Session(b)
			_, okC := r.m.Session(c)
			if okA || !okB || okC || view != (Session{Store: 1, Last: 1, Attempt: 1}) {
				t.Fatalf("a %v, b %v %+v, c %v", okA, okB, view, okC)
			}
			r.m.sessions.most = 2
			d := r.want(OK, AppendOpenSession(nil, 1, 0, 0)).Session
			r.want(OK, AppendTick(nil, []uint64{b}))
			r.want(OK, AppendOpenSession(nil, 1, 0, 0)) // d is the longest unused
			if _, ok := r.m.Session(d); ok || r.m.Sessions() != 2 {
				t.Fatal("the wrong session made room")
			}
		})
	}
}
