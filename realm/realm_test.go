package realm_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/realm"
	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "64k": 64000, "64kb": 64000, "64KiB": 65536, "64Ki": 65536, "64 KiB": 65536,
		"512MB": 512e6, "1GiB": 1 << 30, "1gib": 1 << 30, "2TiB": 2 << 40, "3T": 3e12, "7B": 7,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := realm.ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "-1", "1.5G", "1GBB", "1 2", "0x10", "9223372036854775808", "9007199254740992KiB", "1e3"} {
		if got, err := realm.ParseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1", 1000: "1KB", 1024: "1KiB", 512e6: "512MB", 1 << 30: "1GiB", 8 << 20: "8MiB", 1025: "1025"} {
		if got := realm.FormatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		if got, err := realm.ParseSize(realm.FormatSize(n)); err != nil || got != n {
			t.Fatalf("%d becomes %q becomes %d, %v", n, realm.FormatSize(n), got, err)
		}
	})
}

// A realm built by hand gets the same defaults and checks as one from a file.
func TestValidate(t *testing.T) {
	r := &realm.Realm{
		Name: "hand",
		Clusters: []realm.Cluster{{
			Name:     "main",
			Services: []realm.Service{{Name: "m1", Server: "s1"}},
			Stores: []realm.Store{{
				Name:      "st",
				Durables:  []realm.Durable{{Name: "d", Kind: realm.Shared, Matcher: `{ "b":1, "a":"x" }`}},
				Templates: []realm.Template{{Name: "t", Kind: realm.Standard}},
			}},
		}},
		Endpoints: []realm.Endpoint{{Name: "e", Store: "st", Templates: []string{"t", realm.BuiltinShared}}},
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	c := r.Clusters[0]
	if c.Durability != realm.Sync || c.Tuning != realm.DefaultTuning(realm.DefaultProfile) || c.Services[0].Weight != 10 {
		t.Errorf("cluster without defaults: %+v", c)
	}
	s := c.Stores[0]
	if s.PublisherMode != realm.Confirm || s.MaxMessageSize != 8<<20 || s.Durables[0].Prefetch != 256 || s.Templates[0].Prefetch != 1024 {
		t.Errorf("store without defaults: %+v", s)
	}
	if got := s.Durables[0].Matcher; got != `{"a":"x","b":1}` {
		t.Errorf("the matcher is not canonical: %s", got)
	}

	bad := r.Clone()
	bad.Name = ""
	bad.Clusters[0].Durability = 9
	bad.Clusters[0].Tuning.Profile = 7
	bad.Clusters[0].Tuning.Tick = -time.Second
	bad.Clusters[0].Services[0].Weight = 11
	bad.Clusters[0].Stores[0].PublisherMode = 5
	bad.Clusters[0].Stores[0].ByteLimit = -1
	bad.Clusters[0].Stores[0].Durables[0].Kind = 0
	bad.Clusters[0].Stores[0].Durables[0].Prefetch = -1
	bad.Clusters[0].Stores[0].Templates[0].Kind = 9
	want := `realm: is missing; give the realm a name
clusters[0].durability: unknown(9); choose one of memory, async, sync
clusters[0].profile: unknown(7); choose one of default, fast
clusters[0].tick: is -1s; use 1ms to 1s
clusters[0].services[0].weight: is 11; write a whole number from 1 to 10
clusters[0].stores[0].publisher_mode: unknown(5); choose one of confirm, noconfirm
clusters[0].stores[0].byte_limit: is -1; write a number from 0 (no limit) on
clusters[0].stores[0].durables[0].type: is missing; choose one of standard, shared
clusters[0].stores[0].durables[0].prefetch: is -1; write a whole number from 1 to 1048576
clusters[0].stores[0].templates[0].type: unknown(9); choose one of standard, shared`
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := realm.Marshal(bad); err == nil {
		t.Error("an invalid realm was written")
	}
}

func TestLookUps(t *testing.T) {
	r := parse(t, before)
	if c, s := r.Store("crews"); c == nil || c.Name != "main" || s.Name != "crews" {
		t.Error("store crews is not found")
	}
	if c, s := r.Store("nothing"); c != nil || s != nil {
		t.Error("a store that is not defined is found")
	}
	if r.Cluster("nothing") != nil {
		t.Error("what is not defined is found")
	}
	_, s := r.Store("flights")
	for _, name := range []string{"by-airport", realm.BuiltinStandard, realm.BuiltinShared} {
		if template, ok := s.Template(name); !ok || template.Name != name || template.Prefetch == 0 {
			t.Errorf("template %s: %+v, %t", name, template, ok)
		}
	}
	if _, ok := s.Template("nothing"); ok {
		t.Error("a template that is not defined is found")
	}
}

// What a document makes us say is bounded, and a line stays a line.
func TestProblemsAreBounded(t *testing.T) {
	_, err := realm.Parse("f", []byte("realm: r\n"+strings.Repeat("\"a\\nb\": 1\n", 500)))
	var problems *realm.Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	if n := len(*problems); n != 101 {
		t.Errorf("got %d problems, want 100 and a summary", n)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(*problems) {
		t.Errorf("%d problems take %d lines", len(*problems), lines)
	}
	if last := (*problems)[100].Message; last != "400 more problems are not shown; mend these first" {
		t.Errorf("the summary is %q", last)
	}
}

func TestTooLong(t *testing.T) {
	_, err := realm.Parse("f", []byte("realm: r\n#"+strings.Repeat("x", realm.MaxDocument)))
	if err == nil || !strings.Contains(err.Error(), "f:1:1: document: has ") {
		t.Errorf("got %v", err)
	}
}

// Any valid realm, however strange its names, survives Marshal and Parse.
func TestMarshalKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRealm(t)
		if err := r.Validate(); err != nil {
			t.Fatalf("drawn realm: %v", err)
		}
		text, err := realm.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := realm.Parse("again", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if d := realm.Diff(r, again); len(d) > 0 {
			t.Fatalf("reads back as something else: %v\n%s", d, text)
		}
		if second, err := realm.Marshal(again); err != nil || string(second) != string(text) {
			t.Fatalf("not canonical: %v\n%s\n%s", err, text, second)
		}
	})
}

// drawRealm returns a valid realm with names that YAML could misread.
func drawRealm(t *rapid.T) *realm.Realm {
	n := 0
	name := func() string {
		n++
		odd := rapid.SampledFrom([]string{"", "true", "null", "1", "0x1f", "a: b", "- x", "#c", "é", "日本", "\"", "'", "\\", "\n", "\t", "\u0085",
			"\u2028", "\ufeff", "~", "!", "&a", "*a", "%", "@", "`", "{", "]", "👩‍👩‍👧", " lead", "trail ", "'\"", "a\x00b", "\x7f", "\U000e0001"}).Draw(t, "odd")
		return rapid.SampledFrom([]string{odd + "n", "n" + odd}).Draw(t, "side") + strings.Repeat("x", n)
	}
	prefetch := func() int { return rapid.IntRange(1, realm.MaxPrefetch).Draw(t, "prefetch") }
	kind := func() realm.Kind {
		return rapid.SampledFrom([]realm.Kind{realm.Standard, realm.Shared}).Draw(t, "kind")
	}
	r := &realm.Realm{Name: name()}
	for range rapid.IntRange(0, 2).Draw(t, "clusters") {
		c := realm.Cluster{
			Name:       name(),
			Durability: realm.Durability(rapid.IntRange(1, 3).Draw(t, "durability")),
			Tuning:     realm.DefaultTuning(realm.Profile(rapid.IntRange(1, 2).Draw(t, "profile"))),
		}
		c.Tuning.ClientTimeout += time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "more"))
		if rapid.Bool().Draw(t, "backup") {
			c.Backup = realm.Backup{Every: time.Duration(rapid.Int64Range(int64(realm.MinBackupEvery), int64(realm.MaxBackupEvery)).Draw(t, "every")), Keep: rapid.IntRange(1, realm.MaxBackupKeep).Draw(t, "keep")}
		}
		for range rapid.SampledFrom([]int{1, 3, 5, 7}).Draw(t, "services") {
			c.Services = append(c.Services, realm.Service{Name: name(), Server: name(), Weight: rapid.IntRange(1, 10).Draw(t, "weight"), Description: name()})
		}
		for range rapid.IntRange(0, 2).Draw(t, "stores") {
			s := realm.Store{
				Name: name(), PublisherMode: realm.PublisherMode(rapid.IntRange(1, 2).Draw(t, "mode")),
				ByteLimit:      rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes"),
				MessageLimit:   rapid.Int64Range(0, math.MaxInt64).Draw(t, "messages"),
				MaxMessageSize: rapid.Int64Range(1, 32<<20).Draw(t, "size"),
			}
			e := realm.Endpoint{Name: name(), Store: s.Name, Subscribers: map[string]string{}}
			for range rapid.IntRange(0, 3).Draw(t, "durables") {
				d := realm.Durable{Name: name(), Kind: kind(), Prefetch: prefetch()}
				d.Matcher = rapid.SampledFrom([]string{"", `{}`, `{"a":"it's","b":false}`, `{"a":"\"\\\n"}`}).Draw(t, "matcher")
				s.Durables = append(s.Durables, d)
				e.Subscribers[name()], e.DefaultDurable = d.Name, d.Name
			}
			s.Templates = append(s.Templates, realm.Template{Name: name(), Kind: kind(), Prefetch: prefetch()})
			e.Templates = []string{s.Templates[0].Name}
			c.Stores, r.Endpoints = append(c.Stores, s), append(r.Endpoints, e)
		}
		r.Clusters = append(r.Clusters, c)
	}
	return r
}

// Parse must not panic, must say where and what, and what it accepts must
// survive being written.
func FuzzParse(f *testing.F) {
	for _, s := range []string{before, "", "realm: a", "{\"realm\":\"a\"}", "a: *b", "- - -", "realm: !!x y", "? a\n: b", "realm: |\n a\n", "[" + strings.Repeat("{a: ", 30)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := realm.Parse("f", data)
		if err != nil {
			var problems *realm.Problems
			if !errors.As(err, &problems) || len(*problems) == 0 || r != nil {
				t.Fatalf("got %v, %v", r, err)
			}
			for _, p := range *problems {
				if p.Line < 1 || p.Column < 1 || p.Path == "" || strings.ContainsAny(p.String(), "\n\r") {
					t.Fatalf("problem without place, or of many lines: %#v", p)
				}
			}
			return
		}
		text, err := realm.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := realm.Parse("again", text)
		if err != nil || len(realm.Diff(r, again)) > 0 {
			t.Fatalf("reads back as something else: %v\n%s", err, text)
		}
	})
}
