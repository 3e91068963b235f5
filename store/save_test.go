package store

import (
	"bytes"
	"errors"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/store/statefile"
)

// bodies returns the entries that the player made.
func (p *player) bodies(index uint64) ([]byte, error) { return p.log[index], nil }

// save returns m as a file.
func (p *player) save(m *Machine, stores ...string) ([]byte, *statefile.Manifest) {
	p.t.Helper()
	var out bytes.Buffer
	manifest, totals, err := m.Save(&out, statefile.Manifest{Cluster: "main", Definition: "stores: []"}, p.bodies, stores...)
	if err != nil || totals.Size != int64(out.Len()) {
		p.t.Fatalf("%+v, %v", totals, err)
	}
	return out.Bytes(), manifest
}

// TestSavedIsEqual: machines with equal states make equal files, whatever else
// they went through, and the file says what is in it.
func TestSavedIsEqual(t *testing.T) {
	for seed := range uint64(6) {
		p := newPlayer(t, seed)
		for range 8 {
			for range 12 {
				p.step()
			}
			file, manifest := p.save(p.a)
			if other, _ := p.save(p.b); !bytes.Equal(file, other) {
				t.Fatalf("seed %d, entry %d: the files of equal machines differ", seed, p.index)
			}
			got, _, err := statefile.Verify(bytes.NewReader(file), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.StateHash != manifest.StateHash || got.Applied != p.index || got.Revision != 1 || got.Time != p.a.time || got.Term != p.term {
				t.Fatalf("manifest %+v of entry %d", got, p.index)
			}
			st, stats := got.Stores[0], p.a.Stats()[0]
			if st.Batches != uint64(stats.Batches) || st.LastID != stats.LastID || len(st.Durables) != len(stats.Durables) || got.Sessions != 2 {
				t.Fatalf("store %+v, want %+v", st, stats)
			}
			for _, d := range st.Durables {
				v, _ := p.a.DurableByName(1, d.Name)
				if d.Pending != v.Pending().Len() || d.Matched != v.d.matched || d.Acked != v.d.acked || d.Counted != uint64(v.d.counts.Len()) {
					t.Fatalf("durable %+v, want %v", d, v.Pending())
				}
			}
		}
	}
}

// TestStateHashKnowsNoLog: the same messages in other entries, of another term,
// in a store and durables with other ids, are the same state.
func TestStateHashKnowsNoLog(t *testing.T) {
	a, b := newRig(t), newRig(t)
	hashes := func() (string, string) {
		x, err := a.m.Summary()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.m.Summary()
		if err != nil {
			t.Fatal(err)
		}
		return x.StateHash, y.StateHash
	}
	deploy := func(r *rig, store, audit, work uint64) {
		r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: store, Stores: []*statepb.Store{{Id: store, Name: "flights",
			Durables: []*statepb.Durable{standard(audit, "audit"), {Id: work, Name: "work", Kind: 2}}}}}))
	}
	deploy(a, 1, 10, 11)
	b.index, b.term = 70, 9
	deploy(b, 7, 21, 20)
	a.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 5)))
	b.now = a.now - 1e6 // an entry comes a millisecond after the one before
	b.want(OK, AppendPublish(nil, 7, 0, 0, 0, plainBatch(t, 1, 5)))
	if x, y := hashes(); x != y {
		t.Errorf("hashes %s and %s", x, y)
	}
	b.want(OK, AppendSettle(nil, 20, []Range{{3, 3}}))
	if x, y := hashes(); x == y {
		t.Error("an acknowledgement leaves the hash as it was")
	}
	a.want(OK, AppendSettle(nil, 11, []Range{{3, 3}}))
	if x, y := hashes(); x != y {
		t.Errorf("hashes %s and %s", x, y)
	}
}

func TestSaveSomeStores(t *testing.T) {
	r := newRig(t)
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 1, Stores: []*statepb.Store{
		{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}},
		{Id: 2, Name: "delays", Durables: []*statepb.Durable{standard(11, "audit")}}}}))
	r.want(OK, AppendOpenSession(nil, 1, 0, 0))
	all, err := r.m.Summary()
	if err != nil || len(all.Stores) != 2 || all.Stores[0].Name != "delays" || all.Sessions != 1 {
		t.Errorf("all stores: %+v, %v", all, err)
	}
	one, err := r.m.Summary("delays")
	if err != nil || len(one.Stores) != 1 || one.Sessions != 0 || one.LastSession != 1 {
		t.Errorf("one store: %+v, %v", one, err)
	}
	if _, err := r.m.Summary("delays", "none"); err == nil {
		t.Error("a store that is not there was saved")
	}
}

func TestSaveNeedsBodies(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 5)))
	gone := errors.New("gone")
	for _, tc := range []struct {
		bodies Bodies
		want   error
	}{
		{func(uint64) ([]byte, error) { return nil, gone }, gone},
		{func(uint64) ([]byte, error) { return make([]byte, 50), nil }, ErrState},
	} {
		if _, _, err := r.m.Save(new(bytes.Buffer), statefile.Manifest{}, tc.bodies); !errors.Is(err, tc.want) {
			t.Errorf("%v, want %v", err, tc.want)
		}
	}
}

// TestSavedLeaderIsGone: what the leader may have handed out counts, in the file,
// as it does where another leads.
func TestSavedLeaderIsGone(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 5)))
	hash := func() string {
		s, err := r.m.Summary()
		if err != nil {
			t.Fatal(err)
		}
		return s.StateHash
	}
	before := hash()
	r.want(OK, AppendWatermark(nil, 10, 3))
	handing := hash()
	if handing == before || !r.durable(10).d.marks.Empty() {
		t.Error("what may have been delivered makes no difference, or is counted early")
	}
	r.term++
	r.entry()
	if after := hash(); after != handing {
		t.Error("another leader makes a difference")
	}
	if _, possible := r.durable(10).Counts(3); possible != 1 {
		t.Errorf("message 3 may have been delivered %d times", possible)
	}
}

// Who slows saving down can end it between records, too.
func TestSaveBreathes(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{}, standard(10, "audit"))
	for range 3 * breathEvery {
		r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 1)))
	}
	breaths := 0
	var written, total uint64
	r.m.Breathe(func(w, t uint64) error { breaths, written, total = breaths+1, w, t; return nil })
	if _, err := r.m.Summary(); err != nil || breaths != 3 || written != 0 || total != 0 {
		t.Errorf("%d breaths, %d of %d written, %v", breaths, written, total, err)
	}
	entry := make([]byte, 1<<10)
	if _, _, err := r.m.Save(new(bytes.Buffer), statefile.Manifest{}, func(uint64) ([]byte, error) { return entry, nil }); err != nil || breaths != 9 {
		t.Errorf("%d breaths, %v", breaths, err)
	}
	if written < 2*breathEvery || written >= total || total != 3*breathEvery {
		t.Errorf("%d of %d messages are written", written, total)
	}
	over := errors.New("over")
	r.m.Breathe(func(uint64, uint64) error { return over })
	if _, err := r.m.Summary(); !errors.Is(err, over) {
		t.Errorf("it ends with %v", err)
	}
}
