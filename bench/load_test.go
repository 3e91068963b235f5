package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/realm"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		load Load
		want string // in the error; "" for none
	}{
		{"defaults", Load{Scenario: "publish"}, ""},
		{"no scenario", Load{}, "there are: backlog, backup, clusters, drain"},
		{"no room for the time", Load{Scenario: "stream", Size: 7}, "size 7: it must be 8 to "},
		{"no room needed", Load{Scenario: "publish", Size: 0}, ""},
		{"window", Load{Scenario: "publish", Window: 65}, "window 65: it must be 1 to 64"},
		{"all at once", Load{Scenario: "publish", Window: 65, Batch: 1 << 30}, "batch 1073741824: it must be 1 to "},
		{"one batch", Load{Scenario: "publish", Size: 100_000, Together: 20}, "more than a batch may have"},
		{"negative", Load{Scenario: "publish", Publishers: -1}, "publishers -1"},
		{"both", Load{Scenario: "stream", Size: 8, Workers: 2, Durables: 2}, "workers share one durable"},
		{"one by one, together", Load{Scenario: "publish", Sync: true, Together: 5}, "together 5: with sync"},
		{"too long", Load{Scenario: "publish", Duration: 25 * time.Hour}, "24 hours"},
	} {
		err := tc.load.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestRunNeedsServers(t *testing.T) {
	if _, err := Run(t.Context(), Load{Scenario: "failover", Size: 8}); err == nil || !strings.Contains(err.Error(), "servers of its own") {
		t.Error(err)
	}
}

func TestDefaults(t *testing.T) {
	l := Load{Workers: 4}.withDefaults()
	if l.Endpoint != SharedEndpoint || l.Duration != DefaultDuration || l.Warmup != DefaultWarmup || l.Publishers != 1 {
		t.Errorf("%+v", l)
	}
	if l := (Load{Warmup: -1}).withDefaults(); l.Warmup != 0 || l.Endpoint != DefaultEndpoint {
		t.Errorf("%+v", l)
	}
	for size, want := range map[int]int{0: 1_000_000, 128: 1_000_000, 1 << 20: 256, MaxSize: 100} {
		if got := (&Load{Size: size}).backlog(); got != want {
			t.Errorf("the backlog of bodies of %d bytes is %d, want %d", size, got, want)
		}
	}
}

// TestRealms holds that servers take the realm of every load.
func TestRealms(t *testing.T) {
	for _, name := range Scenarios() {
		if About(name) == "" {
			t.Errorf("%s: nothing says what it does", name)
		}
		for _, r := range []Realm{
			Load{Scenario: name}.Realm("async", 3),
			Load{Scenario: name, Clusters: 4, Durables: 3, Matchers: 5}.Realm("sync", 1),
			{Durability: "memory", Servers: 5, Fast: true},
		} {
			document := r.Document()
			if _, err := realm.Parse("the realm of "+name, document); err != nil {
				t.Errorf("%v in:\n%s", err, document)
			}
		}
	}
	text := string(Load{Scenario: "match", Matchers: 2}.Realm("async", 3).Document())
	for _, want := range []string{`match-1, type: standard, prefetch: 65536, matcher: '{"key":1}'`, "{name: bench-s3, server: s3}"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "match-2") {
		t.Errorf("a matcher more than asked for:\n%s", text)
	}
}
