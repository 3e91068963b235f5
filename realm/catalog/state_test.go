package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/perdure/perdure/realm/catalog"
)

// Random histories: ids are never given twice, equal commands give equal states
// and results, and what was loaded goes on as what was not.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g, twin := newGroup(t), newGroup(t)
		var loaded *catalog.Machine
		seen := map[string]string{} // an id to what it named, with its birth
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			command := drawCommand(rt)
			r := g.do(command)
			if r2 := twin.do(command); !reflect.DeepEqual(r, r2) {
				rt.Fatalf("results differ: %s and %s", r, r2)
			}
			if loaded != nil {
				r3, err := loaded.Apply(g.index, 1, int64(g.index)*1000, [][]byte{command}, nil)
				if err != nil || !reflect.DeepEqual(r, r3[0]) {
					rt.Fatalf("results differ after loading: %s and %s, %v", r, r3, err)
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "load") == 0 {
				loaded = g.reload()
			}
			if g.Hash() != twin.Hash() || loaded != nil && loaded.Hash() != g.Hash() {
				rt.Fatal("hashes differ")
			}
			if got := g.reload(); got.Hash() != g.Hash() || !sameView(got.View(), g.View()) {
				rt.Fatal("the state does not survive being written and loaded")
			}
			checkIDs(rt, g.View(), seen)
		}
	})
}

// checkIDs checks that no id names something else than it once did.
func checkIDs(t *rapid.T, v *catalog.View, seen map[string]string) {
	see := func(kind string, id uint64, what string, created uint64) {
		key, value := fmt.Sprintf("%s %d", kind, id), fmt.Sprintf("%s of %d", what, created)
		if id == 0 || id >= catalog.MaxID {
			t.Fatalf("%s: bad id for %s", key, value)
		}
		if was, ok := seen[key]; ok && was != value {
			t.Fatalf("%s was %s and is %s", key, was, value)
		}
		seen[key] = value
	}
	for _, c := range v.Clusters {
		see("cluster", c.ID, c.Name, c.CreatedRevision)
		for _, s := range c.Services {
			see(fmt.Sprintf("replica of %d", c.ID), s.ReplicaID, s.Name, 0)
		}
		for _, s := range c.Stores {
			see("store", s.ID, c.Name+"/"+s.Name, s.CreatedRevision)
			for _, d := range s.Durables {
				see("durable", d.ID, c.Name+"/"+s.Name+"/"+d.Name, d.CreatedRevision)
			}
		}
	}
	for _, e := range v.Endpoints {
		see("endpoint", e.ID, e.Name, e.CreatedRevision)
	}
	for _, s := range v.Servers {
		see("server", s.ID, s.Name, 0)
	}
}

// sameView compares all that goroutines read.
func sameView(a, b *catalog.View) bool {
	return bytes.Equal(a.Encode(), b.Encode()) && reflect.DeepEqual(a.Clusters, b.Clusters) &&
		reflect.DeepEqual(a.Endpoints, b.Endpoints) && reflect.DeepEqual(a.Servers, b.Servers) && reflect.DeepEqual(a.Claims, b.Claims) &&
		reflect.DeepEqual(a.History, b.History)
}

func drawCommand(t *rapid.T) []byte {
	switch rapid.IntRange(0, 5).Draw(t, "command") {
	case 0:
		return catalog.Register{Server: catalog.Server{
			Name: pick(t, "s1", "s2", "s3", "aux"), Client: pick(t, "", "h:1", "h:2"), Core: rapid.Bool().Draw(t, "core"),
		}}.Encode()
	case 1:
		return catalog.Claim{
			Cluster: rapid.SampledFrom([]uint64{catalog.RealmGroup, catalog.FirstCluster, catalog.FirstCluster + 1}).Draw(t, "cluster"),
			Replica: rapid.Uint64Range(0, 3).Draw(t, "replica"), Server: rapid.Uint64Range(0, 3).Draw(t, "server"), Tag: rapid.Uint64Range(0, 2).Draw(t, "tag"),
		}.Encode()
	case 2:
		return catalog.Found{RealmID: [16]byte{1}, Core: []catalog.CoreServer{{Name: "s1", Peer: "p"}, {Name: "s2"}}}.Encode()
	}
	b, err := catalog.Apply{
		Document: []byte(drawDocument(t)), Expected: rapid.Uint64Range(0, 5).Draw(t, "expected"), Check: rapid.IntRange(0, 3).Draw(t, "check") == 0,
	}.Encode()
	if err != nil {
		t.Fatalf("the test draws an invalid document: %v", err)
	}
	return b
}

func pick(t *rapid.T, words ...string) string { return rapid.SampledFrom(words).Draw(t, "word") }

// drawDocument draws from few names, so that histories delete and recreate.
func drawDocument(t *rapid.T) string {
	chance := func(what string) bool { return rapid.Bool().Draw(t, what) }
	var b, endpoints strings.Builder
	b.WriteString("realm: r\nclusters:\n")
	stores := []string{"x", "y", "z"}
	for _, cluster := range []string{"a", "b"} {
		if !chance("cluster " + cluster) {
			continue
		}
		fmt.Fprintf(&b, "- name: %s\n  services: [{name: n1, server: s1}, {name: n2, server: s2}, {name: n3, server: %s}]\n  stores:\n", cluster, pick(t, "s3", "s3", "s1"))
		for len(stores) > 0 && chance("store") {
			i := rapid.IntRange(0, len(stores)-1).Draw(t, "which")
			store := stores[i]
			stores = append(stores[:i:i], stores[i+1:]...)
			fmt.Fprintf(&b, "  - name: %s\n    byte_limit: %s\n    durables:\n", store, pick(t, "0", "1KiB"))
			for _, d := range []string{"d", "e"} {
				if chance("durable") {
					fmt.Fprintf(&b, "    - {name: %s, type: %s}\n", d, pick(t, "standard", "standard", "shared"))
				}
			}
			if chance("endpoint") {
				fmt.Fprintf(&endpoints, "- {name: to-%s, store: %s}\n", pick(t, "x", "y")+cluster+store, store)
			}
		}
	}
	return b.String() + "endpoints:\n" + endpoints.String()
}

// A view that somebody holds does not change.
func TestViewIsImmutable(t *testing.T) {
	g := newGroup(t)
	g.found()
	g.define(demo)
	v := g.View()
	encoded := v.Encode()
	clusters, endpoints, servers := fmt.Sprintf("%+v", v.Clusters), fmt.Sprintf("%+v", v.Endpoints), fmt.Sprintf("%+v", v.Servers)
	if g.View() != v {
		t.Error("two views of one state")
	}
	g.must(catalog.Claim{Cluster: catalog.FirstCluster, Replica: 1, Server: 1, Tag: 7}.Encode())
	g.must(catalog.Register{Server: catalog.Server{Name: "s1", Client: "h"}}.Encode())
	g.define(strings.Replace(demo, "1GiB", "2GiB", 1))
	g.define("realm: demo\n")
	if g.View() == v {
		t.Error("the view does not follow")
	}
	if !bytes.Equal(encoded, v.Encode()) || clusters != fmt.Sprintf("%+v", v.Clusters) || endpoints != fmt.Sprintf("%+v", v.Endpoints) || servers != fmt.Sprintf("%+v", v.Servers) || len(v.History) != 1 {
		t.Error("a view changed")
	}
}

func TestViewOverTheWire(t *testing.T) {
	g := newGroup(t)
	g.found()
	g.define("realm: old\n")
	g.define(demo)
	g.must(catalog.Claim{Cluster: catalog.FirstCluster, Replica: 1, Server: 1, Tag: 7}.Encode())
	want := g.View()
	b := want.Encode()
	got, err := catalog.DecodeView(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Clusters, want.Clusters) || !reflect.DeepEqual(got.Endpoints, want.Endpoints) || !reflect.DeepEqual(got.Servers, want.Servers) ||
		got.Revision != 2 || got.RealmID != want.RealmID || !reflect.DeepEqual(got.Core, want.Core) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(got.History) != 1 || string(got.History[0].Document) != demo {
		t.Errorf("history: %+v", got.History)
	}
	if !bytes.Equal(got.Encode(), b) {
		t.Error("a decoded view encodes as something else")
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := catalog.DecodeView(bad); !errors.Is(err, catalog.ErrView) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, err := catalog.DecodeView(b[:i]); !errors.Is(err, catalog.ErrView) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	empty, err := catalog.DecodeView(catalog.New().View().Encode())
	if err != nil || empty.Revision != 0 || empty.Founded {
		t.Errorf("the view of nothing: %+v, %v", empty, err)
	}
}

// Pages that do not belong together are noticed when they are loaded.
func TestDamagedPages(t *testing.T) {
	g := newGroup(t)
	g.found()
	g.define(demo)
	for key := range g.disk {
		m := catalog.New()
		for k, value := range g.disk {
			if k != key {
				if err := m.LoadPage([]byte(k), value); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Servers and their ids may be fewer than were given.
		if err := m.Loaded(1); err == nil && key[0] != 's' {
			t.Errorf("page %q is missing and nobody noticed", key)
		}
	}
	for _, page := range [][2]string{{"", ""}, {"x12345678", ""}, {"c1", ""}, {"c\x00\x00\x00\x00\x00\x00\x00\x10", "\xff"}, {"c\x00\x00\x00\x00\x00\x00\x00\x10", ""}} {
		if err := catalog.New().LoadPage([]byte(page[0]), []byte(page[1])); err == nil {
			t.Errorf("page %q was taken", page[0])
		}
	}
	m := g.reload()
	for key, value := range g.disk {
		if err := m.LoadPage([]byte(key), value); err == nil {
			t.Errorf("page %q was taken twice", key)
		}
	}
	m.Reset()
	if m.Hash() != catalog.New().Hash() || m.View().Revision != 0 {
		t.Error("something survived Reset")
	}
}

// Arbitrary commands must neither panic nor make replicas differ.
func FuzzApply(f *testing.F) {
	g := newGroup(f)
	g.found()
	g.define(demo)
	f.Add(apply(f, demo, 0, false), apply(f, "realm: x\n", 1, true))
	f.Add(catalog.Found{RealmID: realmID}.Encode(), catalog.Register{Server: catalog.Server{Name: "a"}}.Encode())
	f.Add(catalog.Claim{Cluster: catalog.FirstCluster, Replica: 1, Server: 1, Tag: 1}.Encode(), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		here := &group{Machine: g.Machine, t: t, disk: g.disk}
		a, b := here.reload(), here.reload()
		commands := [][]byte{first, second}
		ra, ea := a.Apply(5, 1, 5, commands, nil)
		rb, eb := b.Apply(5, 1, 5, commands, nil)
		if a.Hash() != b.Hash() || !reflect.DeepEqual(ra, rb) || (ea == nil) != (eb == nil) {
			t.Fatal("replicas differ")
		}
		if ea != nil {
			if !errors.Is(ea, catalog.ErrUnknownCommand) {
				t.Fatal(ea)
			}
			return
		}
		v, err := catalog.DecodeView(a.View().Encode())
		if err != nil || !reflect.DeepEqual(v.Clusters, a.View().Clusters) {
			t.Fatalf("the view does not survive: %v", err)
		}
	})
}

// FuzzLoad: whatever a disk returns, loading ends with an error or a state that
// can be viewed.
func FuzzLoad(f *testing.F) {
	g := newGroup(f)
	g.define(demo)
	for key, value := range g.disk {
		f.Add([]byte(key), value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := catalog.New()
		for k, v := range g.disk {
			if k == string(key) {
				v = value
			}
			if m.LoadPage([]byte(k), v) != nil {
				return
			}
		}
		if g.disk[string(key)] == nil && m.LoadPage(key, value) != nil {
			return
		}
		if m.Loaded(1) == nil {
			m.View()
		}
	})
}
