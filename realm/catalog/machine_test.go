package catalog_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
)

const demo = `realm: demo
clusters:
  - name: main
    services:
      - {name: m1, server: s1}
      - {name: m2, server: s2, weight: 5}
      - {name: m3, server: s3}
    stores:
      - name: flights
        byte_limit: 1GiB
        durables:
          - {name: audit, type: standard}
          - {name: delays, type: shared, matcher: '{"delayed":true}'}
        templates:
          - {name: by-airport, type: standard}
endpoints:
  - {name: flights, store: flights, templates: [by-airport, ftl.shared.template], default_durable: audit, subscribers: {billing: audit}}
`

var realmID = [16]byte{1, 2, 3}

// group is a machine with the disk that its pages go to.
type group struct {
	*catalog.Machine
	t     testing.TB
	index uint64
	disk  map[string][]byte
}

func newGroup(t testing.TB) *group {
	return &group{Machine: catalog.New(), t: t, disk: map[string][]byte{}}
}

// do applies one command and returns what it came to.
func (g *group) do(command []byte) catalog.Result {
	g.t.Helper()
	g.index++
	results, err := g.Apply(g.index, 1, int64(g.index)*1000, [][]byte{command}, nil)
	if err != nil || len(results) != 1 {
		g.t.Fatalf("got %v, %v", results, err)
	}
	g.Changed(func(key, value []byte) {
		if value == nil {
			delete(g.disk, string(key))
		} else {
			g.disk[string(key)] = value
		}
	})
	return results[0]
}

// must is do for a command that succeeds.
func (g *group) must(command []byte) catalog.Result {
	g.t.Helper()
	r := g.do(command)
	if r.Code != catalog.OK {
		g.t.Fatalf("got %s, %v", r, r.Problems)
	}
	return r
}

func (g *group) define(document string) catalog.Result {
	g.t.Helper()
	return g.do(apply(g.t, document, 0, false))
}

func apply(t testing.TB, document string, expected uint64, check bool) []byte {
	t.Helper()
	b, err := catalog.Apply{Document: []byte(document), File: "realm.yaml", Expected: expected, Check: check}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reload returns a machine made from the disk.
func (g *group) reload() *catalog.Machine {
	g.t.Helper()
	m := catalog.New()
	for _, key := range slices.Sorted(maps.Keys(g.disk)) {
		if err := m.LoadPage([]byte(key), g.disk[key]); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := m.Loaded(g.index); err != nil {
		g.t.Fatal(err)
	}
	return m
}

func (g *group) found() {
	g.t.Helper()
	g.must(catalog.Found{RealmID: realmID, Core: []catalog.CoreServer{{"s1", "h1:7401"}, {"s2", "h2:7401"}, {"s3", "h3:7401"}}}.Encode())
}

func TestFound(t *testing.T) {
	g := newGroup(t)
	if v := g.View(); v.Founded || v.Revision != 0 || v.Realm != nil {
		t.Errorf("a new machine knows something: %+v", v)
	}
	g.found()
	hash := g.Hash()
	g.found()
	if g.Hash() != hash {
		t.Error("founding again changed something")
	}
	r := g.do(catalog.Found{RealmID: [16]byte{9}}.Encode())
	if r.Code != catalog.Refused || g.Hash() != hash {
		t.Errorf("another realm: %s", r)
	}
	v := g.View()
	if !v.Founded || v.RealmID != realmID || len(v.Core) != 3 || len(v.Servers) != 3 {
		t.Fatalf("got %+v", v)
	}
	if s, ok := v.Server("s2"); !ok || s.ID != 2 || !s.Core || s.Peer != "h2:7401" {
		t.Errorf("core server s2 is %+v", s)
	}
}

func TestFoundRefusesBadLists(t *testing.T) {
	for _, core := range [][]catalog.CoreServer{{{"a", ""}, {"a", ""}}, {{"", "x"}}, {{"_a", "x"}}} {
		g := newGroup(t)
		if r := g.do(catalog.Found{RealmID: realmID, Core: core}.Encode()); r.Code != catalog.Refused {
			t.Errorf("%v: %s", core, r)
		}
		if g.View().Founded {
			t.Errorf("%v: founded", core)
		}
	}
}

func TestApplyGivesIds(t *testing.T) {
	g := newGroup(t)
	r := g.define(demo)
	if r.Code != catalog.OK || r.Revision != 1 || len(r.Changes) != 7 || len(r.Problems) != 0 {
		t.Fatalf("got %s, %v, %v", r, r.Changes, r.Problems)
	}
	v := g.View()
	c := v.Cluster("main")
	if c.ID != catalog.FirstCluster || c.CreatedRevision != 1 || c.Durability != realm.Sync || v.ClusterByID(c.ID) != c {
		t.Errorf("cluster: %+v", c)
	}
	for i, s := range c.Services {
		if s.ReplicaID != uint64(i+1) || s.Claimed || s.ServerID != 0 {
			t.Errorf("service: %+v", s)
		}
	}
	store := c.Stores[0]
	if store.ID != 1 || store.ByteLimit != 1<<30 || store.Durable("audit").ID != 1 || store.Durable("delays").ID != 2 || store.Durable("delays").Matcher != `{"delayed":true}` {
		t.Errorf("store: %+v", store)
	}
	if cluster, s := v.Store(1); cluster != c || s.Name != "flights" {
		t.Error("store 1 is not found")
	}
	e := v.Endpoints["flights"]
	if e.ID != 1 || e.StoreID != 1 || e.ClusterID != c.ID || e.DefaultDurable != "audit" || e.Subscribers["billing"] != "audit" {
		t.Errorf("endpoint: %+v", e)
	}
	if s, ok := e.Template(realm.Standard); !ok || s.Name != "by-airport" {
		t.Errorf("standard template: %+v", s)
	}
	if s, ok := e.Template(realm.Shared); !ok || s.Name != realm.BuiltinShared || s.Prefetch != 256 {
		t.Errorf("shared template: %+v", s)
	}
}

// What is deleted and defined again is something else.
func TestRecreatedGetsNewIds(t *testing.T) {
	g := newGroup(t)
	g.define(demo)
	g.define("realm: demo\n")
	if v := g.View(); len(v.Clusters) != 0 || len(v.Endpoints) != 0 || v.Revision != 2 {
		t.Fatalf("not deleted: %+v", v)
	}
	g.define(demo)
	v := g.View()
	c := v.Cluster("main")
	if c.ID != catalog.FirstCluster+1 || c.Stores[0].ID != 2 || c.Stores[0].Durables[0].ID != 3 || v.Endpoints["flights"].ID != 2 || c.CreatedRevision != 3 {
		t.Errorf("ids came back: %+v, %+v", c, v.Endpoints)
	}
	if r, ok := v.At(1); !ok || string(r.Document) != demo || r.Stamp != 1000 || r.File != "realm.yaml" {
		t.Errorf("revision 1: %+v, %t", r, ok)
	}
	if r, ok := v.At(0); !ok || r.Number != 3 {
		t.Errorf("the newest revision: %+v, %t", r, ok)
	}
	if _, ok := v.At(4); ok {
		t.Error("a revision that does not exist")
	}
}

// A store that goes to another cluster is deleted and made anew.
func TestMovedStoreGetsNewId(t *testing.T) {
	g := newGroup(t)
	g.define("realm: r\nclusters:\n- {name: a, services: [{name: a1, server: s}], stores: [{name: st}]}\n- {name: b, services: [{name: b1, server: s}]}\n")
	g.define("realm: r\nclusters:\n- {name: a, services: [{name: a1, server: s}]}\n- {name: b, services: [{name: b1, server: s}], stores: [{name: st}]}\n")
	if s := g.View().Cluster("b").Stores[0]; s.ID != 2 {
		t.Errorf("got %+v", s)
	}
}

func TestCompareAndSet(t *testing.T) {
	g := newGroup(t)
	g.must(apply(t, demo, 0, true))
	other := strings.Replace(demo, "1GiB", "2GiB", 1)
	if r := g.do(apply(t, other, 0, true)); r.Code != catalog.Conflict || r.Revision != 1 {
		t.Errorf("a stale apply: %s", r)
	}
	if r := g.do(apply(t, demo, 0, true)); r.Code != catalog.OK || r.Revision != 1 || len(r.Changes) != 0 {
		t.Errorf("the same apply again, its answer was lost: %s", r)
	}
	if r := g.do(apply(t, other, 1, true)); r.Code != catalog.OK || r.Revision != 2 {
		t.Errorf("apply on revision 1: %s", r)
	}
	if r := g.do(apply(t, demo, 7, false)); r.Code != catalog.OK || r.Revision != 3 {
		t.Errorf("apply without check: %s", r)
	}
}

func TestInvalid(t *testing.T) {
	if _, err := (catalog.Apply{Document: []byte("realm: _x"), File: "f"}).Encode(); err == nil || !strings.HasPrefix(err.Error(), "f:1:8: realm: ") {
		t.Errorf("a bad document was encoded: %v", err)
	}
	g := newGroup(t)
	g.define(demo)
	hash := g.Hash()
	r := g.define(strings.Replace(demo, "{name: audit, type: standard}", "{name: audit, type: shared}", 1))
	if r.Code != catalog.Invalid || len(r.Problems) != 1 || r.Problems[0].Path != "clusters[0].stores[0].durables[0].type" {
		t.Errorf("a change of kind: %s, %v", r, r.Problems)
	}
	// A proposer that does not validate is not believed.
	b, err := proto.Marshal(&statepb.CatalogCommand{Command: &statepb.CatalogCommand_Apply{Apply: &statepb.CatalogApply{Document: []byte("x")}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := g.do(b); r.Code != catalog.Invalid || len(r.Problems) == 0 {
		t.Errorf("no definition: %s", r)
	}
	if g.Hash() != hash || g.View().Revision != 1 {
		t.Error("what is invalid changed something")
	}
}

func TestPlan(t *testing.T) {
	g := newGroup(t)
	if r := g.View().Plan("f", []byte(demo)); r.Code != catalog.OK || len(r.Changes) != 7 || r.Revision != 0 {
		t.Errorf("from nothing: %s, %v", r, r.Changes)
	}
	g.define(demo)
	hash, view := g.Hash(), g.View()
	if r := view.Plan("f", []byte("realm: demo")); r.Code != catalog.OK || !slices.ContainsFunc(r.Changes, func(c realm.Change) bool { return c.Destroys }) {
		t.Errorf("delete all: %s, %v", r, r.Changes)
	}
	if r := view.Plan("f", []byte("realm: [")); r.Code != catalog.Invalid || r.Problems[0].Line != 1 {
		t.Errorf("not YAML: %s", r)
	}
	if r := view.Plan("f", []byte(strings.Replace(demo, "server: s3", "server: s4", 1))); r.Code != catalog.Invalid || r.Problems[0].Line != 7 {
		t.Errorf("a move: %s, %v", r, r.Problems)
	}
	if g.Hash() != hash || g.View() != view {
		t.Error("planning changed something")
	}
}

func TestRegister(t *testing.T) {
	g := newGroup(t)
	g.found()
	g.define(demo)
	r := g.must(catalog.Register{Server: catalog.Server{ID: 99, Name: "aux", Client: "h:1", Peer: "h:2", Ops: "h:3", Region: "eu"}}.Encode())
	if r.ServerID != 4 {
		t.Errorf("aux has id %d", r.ServerID)
	}
	hash := g.Hash()
	if r := g.must(catalog.Register{Server: catalog.Server{Name: "aux", Client: "h:1", Peer: "h:2", Ops: "h:3", Region: "eu"}}.Encode()); r.ServerID != 4 || g.Hash() != hash {
		t.Errorf("registering again: %s", r)
	}
	if r := g.must(catalog.Register{Server: catalog.Server{Name: "s1", Client: "h1:7400", Peer: "h1:7401"}}.Encode()); r.ServerID != 1 {
		t.Errorf("s1 has id %d", r.ServerID)
	}
	v := g.View()
	if s, ok := v.ServerByID(1); !ok || !s.Core || s.Client != "h1:7400" {
		t.Errorf("s1 is %+v", s)
	}
	if s, ok := v.Server("aux"); !ok || s.Core || s.Region != "eu" {
		t.Errorf("aux is %+v", s)
	}
	if c := v.Cluster("main"); c.Services[0].ServerID != 1 || c.Services[2].ServerID != 3 {
		t.Errorf("services do not know their servers: %+v", c.Services)
	}
	for _, bad := range []catalog.Server{{}, {Name: "_x"}, {Name: strings.Repeat("x", 257)}, {Name: "x", Client: strings.Repeat("x", 1025)}} {
		if r := g.do(catalog.Register{Server: bad}.Encode()); r.Code != catalog.Refused || r.Detail == "" {
			t.Errorf("%.20q: %s", bad.Name, r)
		}
	}
}

func TestClaim(t *testing.T) {
	g := newGroup(t)
	g.found()
	g.define(demo)
	main := g.View().Cluster("main").ID
	for _, c := range []struct {
		name  string
		claim catalog.Claim
		want  catalog.Code
	}{
		{"the first", catalog.Claim{Cluster: main, Replica: 1, Server: 1, Tag: 77}, catalog.OK},
		{"the same again", catalog.Claim{Cluster: main, Replica: 1, Server: 1, Tag: 77}, catalog.OK},
		{"a wiped server", catalog.Claim{Cluster: main, Replica: 1, Server: 1, Tag: 78}, catalog.Refused},
		{"another replica", catalog.Claim{Cluster: main, Replica: 2, Server: 2, Tag: 78}, catalog.OK},
		{"somebody else's", catalog.Claim{Cluster: main, Replica: 3, Server: 2, Tag: 79}, catalog.Refused},
		{"no such replica", catalog.Claim{Cluster: main, Replica: 4, Server: 1, Tag: 80}, catalog.Refused},
		{"no such cluster", catalog.Claim{Cluster: main + 1, Replica: 1, Server: 1, Tag: 80}, catalog.Refused},
		{"no tag", catalog.Claim{Cluster: main, Replica: 3, Server: 3}, catalog.Refused},
		{"the realm group", catalog.Claim{Cluster: catalog.RealmGroup, Replica: 2, Server: 2, Tag: 5}, catalog.OK},
		{"the realm group, wiped", catalog.Claim{Cluster: catalog.RealmGroup, Replica: 2, Server: 2, Tag: 6}, catalog.Refused},
		{"the realm group, elsewhere", catalog.Claim{Cluster: catalog.RealmGroup, Replica: 3, Server: 2, Tag: 5}, catalog.Refused},
		{"no such member", catalog.Claim{Cluster: catalog.RealmGroup, Replica: 4, Server: 1, Tag: 5}, catalog.Refused},
		{"replica 0", catalog.Claim{Cluster: catalog.RealmGroup, Server: 1, Tag: 5}, catalog.Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := g.Hash()
			r := g.do(c.claim.Encode())
			if r.Code != c.want || r.Code == catalog.Refused && (r.Detail == "" || g.Hash() != before) {
				t.Errorf("got %s", r)
			}
		})
	}
	v := g.View()
	if s := v.Cluster("main").Services; !s[0].Claimed || s[0].Tag != 77 || !s[1].Claimed || s[2].Claimed {
		t.Errorf("claims are not seen: %+v", s)
	}
	if len(v.Claims) != 1 || v.Claims[0] != (catalog.ClaimView{Replica: 2, Server: 2, Tag: 5}) {
		t.Errorf("claims of the realm group: %+v", v.Claims)
	}
	// A claim goes with its cluster.
	g.define("realm: demo\n")
	g.define(demo)
	if s := g.View().Cluster("main").Services[0]; s.Claimed {
		t.Errorf("the new cluster is claimed already: %+v", s)
	}
}

// A claim needs a server that registered under the name in the definition.
func TestClaimBeforeRegister(t *testing.T) {
	g := newGroup(t)
	g.define(demo)
	if r := g.do(catalog.Claim{Cluster: catalog.FirstCluster, Replica: 1, Server: 0, Tag: 1}.Encode()); r.Code != catalog.Refused {
		t.Errorf("got %s", r)
	}
}

func TestBadCommands(t *testing.T) {
	g := newGroup(t)
	for _, b := range [][]byte{nil, {}, {0xff}, {0x0a, 0x05}, []byte("hello, is this a command?")} {
		if _, err := catalog.New().Apply(1, 1, 1, [][]byte{b}, nil); errors.Is(err, catalog.ErrUnknownCommand) {
			continue // chance made it look like one of a newer version
		}
		if r := g.do(b); r.Code != catalog.Undecodable || r.Detail == "" {
			t.Errorf("%q: %s", b, r)
		}
	}
	if g.Undecodable() < 3 || g.reload().Undecodable() != g.Undecodable() {
		t.Errorf("counted %d, after loading %d", g.Undecodable(), g.reload().Undecodable())
	}
	// Field 15 of the command, and field 15 of a known command.
	for _, b := range [][]byte{{0x7a, 0x00}, {0x0a, 0x02, 0x78, 0x01}} {
		if _, err := g.Apply(9, 1, 1, [][]byte{b}, nil); !errors.Is(err, catalog.ErrUnknownCommand) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// Several commands of one entry are applied in order.
func TestOneEntry(t *testing.T) {
	m := catalog.New()
	results, err := m.Apply(1, 1, 5, [][]byte{
		apply(t, demo, 0, true), apply(t, "realm: x\n", 0, true), apply(t, "realm: x\n", 1, true),
	}, []catalog.Result{{}})
	if err != nil || len(results) != 4 {
		t.Fatal(results, err)
	}
	for i, want := range []catalog.Code{0, catalog.OK, catalog.Conflict, catalog.OK} {
		if results[i].Code != want {
			t.Errorf("%d: %s", i, results[i])
		}
	}
}
