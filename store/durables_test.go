package store

import (
	"slices"
	"strings"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
)

func TestCreateDurable(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{DynamicDurableLimit: 2}, standard(10, "audit"))
	create := func(name string, kind durable.Kind, matcher string) []byte {
		return AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: name, Kind: uint32(kind), Matcher: matcher, Template: "t"})
	}
	const std, shared = durable.KindStandard, durable.KindShared
	got := r.want(OK, create("a", shared, ` {"k" : "a"} `))
	if !got.Created || got.Durable>>63 != 1 {
		t.Fatalf("%+v", got)
	}
	a := r.durable(got.Durable)
	if a.Matcher() != `{"k":"a"}` || a.Prefetch() != 256 || !a.Dynamic() || a.Template() != "t" || a.Store() != 1 || a.Kind() != shared {
		t.Fatalf("%+v", a.d)
	}
	for _, matcher := range []string{`{"k":"a"}`, ""} { // "" takes it as it is
		if again := r.want(OK, create("a", shared, matcher)); again.Created || again.Durable != got.Durable {
			t.Fatalf("%+v", again)
		}
	}
	r.want(KindMismatch, create("a", std, `{"k":"a"}`))
	r.want(MatcherMismatch, create("a", shared, `{"k":"b"}`))
	r.want(MatcherMismatch, create("a", shared, `{}`))
	if link := r.want(OK, create("audit", std, "{}")); link.Created || link.Durable != 10 {
		t.Fatalf("%+v", link)
	}
	r.want(InvalidMatcher, create("b", std, `{"k"`))
	r.want(InvalidName, create("", std, ""))
	r.want(InvalidName, create("_b", std, ""))
	r.want(InvalidName, create(strings.Repeat("x", 257), std, ""))
	r.want(NoSuchStore, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 2, Name: "x", Kind: 1}))
	r.want(OK, create(strings.Repeat("x", 256), std, ""))
	r.want(DurableLimit, create("c", std, ""))
	r.want(StaticDurable, AppendDeleteDurable(nil, 10))
	r.want(OK, AppendDeleteDurable(nil, got.Durable))
	r.want(NoSuchDurable, AppendDeleteDurable(nil, got.Durable))
	if removed := r.m.Removed(); !slices.Equal(removed, []uint64{got.Durable}) {
		t.Fatalf("removed %v", removed)
	}
	if next := r.want(OK, create("a", std, "")); !next.Created || next.Durable == got.Durable {
		t.Fatalf("%+v", next)
	}
}

// TestDeleteDurableFreesEntries: what only a deleted durable wanted is dead.
func TestDeleteDurableFreesEntries(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	id := r.want(OK, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "a", Kind: 1})).Durable
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, 2)))
	first := r.index
	r.want(OK, AppendPublish(nil, 1, x, 1, 2, plainBatch(t, 2, 2)))
	r.want(OK, AppendSettle(nil, 10, []Range{{1, 2}}))
	saved := disk{}
	saved.save(t, r.m)
	r.want(OK, AppendDeleteDurable(nil, id))
	if dead := r.dead(); !slices.Equal(dead, []uint64{first}) {
		t.Fatalf("dead %v", dead)
	}
	saved.save(t, r.m)
	if saved.hash() != r.m.Hash() {
		t.Fatal("pages of the deleted durable are left")
	}
}

func TestDeploy(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"), standard(11, "bill"))
	deploy := func(revision uint64, stores ...*statepb.Store) []byte {
		return AppendDeploy(nil, &statepb.Deploy{Revision: revision, Stores: stores})
	}
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, 2)))
	entry := r.index
	if stale := r.want(Stale, deploy(1)); stale.Last != 1 {
		t.Fatalf("%+v", stale)
	}
	// Names swap, prefetch changes, a durable goes, one comes, a store comes.
	r.want(OK, deploy(2,
		&statepb.Store{Id: 2, Name: "quotes", Noconfirm: true, Templates: []*statepb.Template{{Name: "t", Kind: 2}}},
		&statepb.Store{Id: 1, Name: "FLIGHTS", MessageLimit: 5, Durables: []*statepb.Durable{
			{Id: 12, Name: "new", Kind: 2, Matcher: `{"k":1}`}, {Id: 11, Name: "audit", Kind: 1, Prefetch: 9}}}))
	if d, ok := r.m.DurableByName(1, "audit"); !ok || d.ID() != 11 || d.Prefetch() != 9 || d.Pending().Len() != 2 {
		t.Fatalf("audit is %+v", d.d)
	}
	if _, ok := r.m.Durable(10); ok {
		t.Fatal("a durable that is gone is still there")
	}
	if s, ok := r.m.StoreByName("quotes"); !ok || s.ID() != 2 || !s.Noconfirm() || len(s.Templates()) != 1 || s.MaxMessageSize() != 8<<20 {
		t.Fatal("no store quotes")
	}
	if _, ok := r.m.StoreByName("flights"); ok {
		t.Fatal("the old name of a store is known")
	}
	// A dynamic durable has the name: everything else is done.
	dyn := r.want(OK, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "mine", Kind: 1})).Durable
	r.want(NameTaken, deploy(3, &statepb.Store{Id: 1, Name: "flights", Durables: []*statepb.Durable{
		{Id: 11, Name: "mine", Kind: 1}, {Id: 12, Name: "audit", Kind: 2}, {Id: 13, Name: "new", Kind: 1}, {Id: 14, Name: "more", Kind: 1}}}))
	for name, id := range map[string]uint64{"mine": dyn, "audit": 11, "new": 12, "more": 14} {
		if d, ok := r.m.DurableByName(1, name); !ok || d.ID() != id {
			t.Errorf("%s is not %d", name, id)
		}
	}
	if r.m.Revision() != 3 {
		t.Fatalf("revision %d", r.m.Revision())
	}
	saved := disk{}
	saved.save(t, r.m)
	r.want(OK, deploy(4, &statepb.Store{Id: 3, Name: "other"}))
	if dead := r.dead(); !slices.Equal(dead, []uint64{entry}) || len(r.m.durables) != 0 || len(r.m.stores) != 1 {
		t.Fatalf("dead %v, %d durables", dead, len(r.m.durables))
	}
	saved.save(t, r.m)
	if saved.hash() != r.m.Hash() {
		t.Fatal("pages of the deleted store are left")
	}
}

// TestComesAgain: ids should not be used again, but if they are, between two
// checkpoints, each page is told once, as it is now.
func TestComesAgain(t *testing.T) {
	r := newRig(t)
	saved := disk{}
	for revision := uint64(1); revision < 9; revision += 3 {
		for i, stores := range [][]*statepb.Store{
			{{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit"), standard(11, "bill")}}},
			{{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}}},
			{},
		} {
			r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: revision + uint64(i), Stores: stores}))
			if len(stores) > 0 {
				r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 2)))
				r.want(OK, AppendRelease(nil, 10, []Range{{1, 2}}, true))
			}
			if revision == 4 { // the second time round nothing is saved
				continue
			}
			saved.save(t, r.m)
			if saved.hash() != r.m.Hash() {
				t.Fatalf("revision %d: the saved pages are not the state", revision)
			}
		}
	}
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 20, Stores: []*statepb.Store{{Id: 1, Name: "a", Durables: []*statepb.Durable{standard(10, "x")}}}}))
	r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 2)))
	saved.save(t, r.m)
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 21}))
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 22, Stores: []*statepb.Store{{Id: 1, Name: "a", Durables: []*statepb.Durable{standard(10, "x")}}}}))
	r.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 1)))
	saved.save(t, r.m)
	if saved.hash() != r.m.Hash() || saved.load(t, r.index).Hash() != r.m.Hash() {
		t.Fatal("the saved pages are not the state")
	}
}

// TestDeployUnsound: a definition with any mistake changes nothing.
func TestDeployUnsound(t *testing.T) {
	d := func(id uint64, name string, kind uint32, matcher string) *statepb.Durable {
		return &statepb.Durable{Id: id, Name: name, Kind: kind, Matcher: matcher}
	}
	one := func(durables ...*statepb.Durable) []*statepb.Store {
		return []*statepb.Store{{Id: 1, Name: "flights", Durables: durables}}
	}
	r := newRig(t)
	r.deploy(&statepb.Store{}, standard(10, "audit"))
	for name, stores := range map[string][]*statepb.Store{
		"store without id":         {{Name: "a"}},
		"store without name":       {{Id: 2}},
		"store twice":              {{Id: 2, Name: "a"}, {Id: 2, Name: "b"}},
		"store name twice":         {{Id: 2, Name: "a"}, {Id: 3, Name: "a"}},
		"durable without id":       one(d(0, "a", 1, "")),
		"durable of dynamic id":    one(d(dynamicBit|1, "a", 1, "")),
		"durable twice":            one(d(11, "a", 1, ""), d(11, "b", 1, "")),
		"durable name twice":       one(d(11, "a", 1, ""), d(12, "a", 1, "")),
		"durable without name":     one(d(11, "", 1, "")),
		"durable of unknown kind":  one(d(11, "a", 3, "")),
		"durable with bad matcher": one(d(11, "a", 1, "{")),
		"durable in two stores":    {{Id: 1, Name: "a", Durables: one(d(11, "a", 1, ""))[0].Durables}, {Id: 2, Name: "b", Durables: one(d(11, "a", 1, ""))[0].Durables}},
		"durable of another store": {{Id: 2, Name: "a", Durables: one(d(10, "a", 1, ""))[0].Durables}},
	} {
		r.want(Invalid, AppendDeploy(nil, &statepb.Deploy{Revision: 2, Stores: stores}))
		if _, ok := r.m.DurableByName(1, "audit"); !ok || r.m.Revision() != 1 || len(r.m.stores) != 1 {
			t.Errorf("%s: something was deployed", name)
		}
	}
}
