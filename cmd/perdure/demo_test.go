package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDemo runs the demonstration, short: three processes, a kill, a restart.
func TestDemo(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	code, stdout, stderr := output(t, "", "demo", "-o", "json", "--count", "600")
	if code != 0 {
		t.Fatalf("ended with %d: %s", code, stderr)
	}
	var document any
	if err := json.Unmarshal([]byte(stdout), &document); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	keys := keyPaths("", document)
	for _, want := range []string{
		"published", "confirmed", "killed", "new_leader", "failover_ms", "publish_p50_us", "publish_p99_us", "replicas_identical",
		"durables.audit.delivered", "durables.audit.distinct", "durables.audit.redelivered", "durables.audit.lost",
		"durables.audit.out_of_order", "durables.audit.pending",
		"durables.delays.delivered", "durables.delays.distinct", "durables.delays.redelivered", "durables.delays.lost",
		"durables.delays.out_of_order", "durables.delays.pending",
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("no key %s in %s", want, stdout)
		}
	}
	var r demoReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Published != 600 || r.Confirmed != 600 || !r.ReplicasIdentical || r.Killed == "" || r.NewLeader == r.Killed || r.FailoverMS <= 0 {
		t.Errorf("%+v", r)
	}
	for name, f := range r.Durables {
		if f.Distinct != 600 || f.Lost != 0 || f.Pending != 0 || f.Delivered < f.Distinct {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if wrong := r.wrong(); wrong != "" {
		t.Error(wrong)
	}
	for _, event := range []string{"was killed with SIGKILL", "starting " + r.Killed + " again", r.NewLeader + " leads"} {
		if !strings.Contains(stderr, event) {
			t.Errorf("progress does not say %q: %s", event, stderr)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDemoKeeps shows that the files stay when asked for.
func TestDemoKeeps(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	code, stdout, stderr := output(t, "", "demo", "--count", "30", "--keep")
	if code != 0 || !strings.Contains(stdout, "replicas identical") || !strings.Contains(stdout, "redelivered: deliveries with a count above 0") {
		t.Fatalf("ended with %d: %s%s", code, stdout, stderr)
	}
	logs, err := filepath.Glob(filepath.Join(tmp, "perdure-demo-*", "s?.log"))
	if err != nil || len(logs) != 3 {
		t.Fatalf("logs: %v, %v", logs, err)
	}
	if !strings.Contains(stderr, filepath.Dir(logs[0])) {
		t.Errorf("%q does not say where the files are", stderr)
	}
}

// TestDemoWithoutRoom shows that it says what is wrong.
func TestDemoWithoutRoom(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	code, _, stderr := output(t, "", "demo", "--count", "30")
	if code != 1 || !strings.Contains(stderr, "missing") {
		t.Errorf("ended with %d: %s", code, stderr)
	}
}

func TestDemoReportSaysWhatIsWrong(t *testing.T) {
	fine := demoReport{
		Published: 3, Confirmed: 3, ReplicasIdentical: true,
		Durables: map[string]demoDurable{"audit": {Distinct: 3}, "delays": {Distinct: 3, OutOfOrder: 2, Redelivered: 1}},
	}
	if wrong := fine.wrong(); wrong != "" {
		t.Errorf("a report without fault: %s", wrong)
	}
	for _, tc := range []struct {
		want  string
		spoil func(*demoReport)
	}{
		{"1 messages were not confirmed", func(r *demoReport) { r.Confirmed-- }},
		{"1 confirmed messages never reached audit", func(r *demoReport) { r.Durables["audit"] = demoDurable{Lost: 1} }},
		{"4 confirmed messages never reached delays", func(r *demoReport) { r.Durables["delays"] = demoDurable{Lost: 4} }},
		{"2 messages are still pending on delays", func(r *demoReport) { r.Durables["delays"] = demoDurable{Pending: 2} }},
		{"nobody knows what is pending on audit", func(r *demoReport) { r.Durables["audit"] = demoDurable{Pending: -1} }},
		{"1 messages reached audit out of order", func(r *demoReport) { r.Durables["audit"] = demoDurable{OutOfOrder: 1} }},
		{"1 messages are twice in the store", func(r *demoReport) { r.Durables["audit"] = demoDurable{Duplicated: 1} }},
		{"the replicas differ", func(r *demoReport) { r.ReplicasIdentical = false }},
	} {
		r := fine
		r.Durables = map[string]demoDurable{"audit": {}, "delays": {}}
		tc.spoil(&r)
		if wrong := r.wrong(); !strings.Contains(wrong, tc.want) {
			t.Errorf("wrong says %q, want %q", wrong, tc.want)
		}
	}
}

// TestBench runs a small load in both ways.
func TestBench(t *testing.T) {
	tmp := t.TempDir()
	for _, args := range [][]string{{"--count", "5000"}, {"--count", "100", "--sync", "--publishers", "2", "--durability", "sync"}} {
		code, stdout, stderr := output(t, "", append([]string{"bench", "publish", "-o", "json", "--data", tmp}, args...)...)
		if code != 0 {
			t.Fatalf("%v: ended with %d: %s", args, code, stderr)
		}
		var r struct {
			Rate float64 `json:"msgs_per_s"`
			MB   float64 `json:"mb_per_s"`
			P50  int64   `json:"p50_us"`
			P99  int64   `json:"p99_us"`
			CPU  float64 `json:"servers_cpu_s_per_million"`
			Kept bool    `json:"interested"`
		}
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		if r.Rate <= 0 || r.MB <= 0 || r.P50 <= 0 || r.P99 < r.P50 || !r.Kept {
			t.Errorf("%v: %s", args, stdout)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
