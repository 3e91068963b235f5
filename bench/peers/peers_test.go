package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// TestMain lets the test's own program be the servers of peers.
func TestMain(m *testing.M) {
	if served, err := serve(os.Args[1:]); served {
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func mustParse(t *testing.T, args ...string) options {
	t.Helper()
	o, err := parse(args, io.Discard)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return o
}

func TestFlags(t *testing.T) {
	o := mustParse(t)
	if o.JSON || o.Runs != 5 || o.Time != 5*time.Second || o.Warm != 2*time.Second {
		t.Errorf("without flags: %+v", o)
	}
	o = mustParse(t, "--quick", "-o", "json")
	if !o.JSON || o.Runs != 3 || o.Time != 2*time.Second || o.Warm >= time.Second {
		t.Errorf("--quick: %+v", o)
	}
	if o = mustParse(t, "--quick", "--runs", "7", "--seconds", "3"); o.Runs != 7 || o.Time != 3*time.Second {
		t.Errorf("--quick --runs 7 --seconds 3: %+v", o)
	}
	for _, bad := range [][]string{{"-o", "csv"}, {"--only", "rabbit"}, {"--runs", "0"}, {"--seconds", "0"}, {"nats"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

func TestComparisons(t *testing.T) {
	for _, tc := range []struct {
		only, peer string
		want       int
	}{
		{"", natsName, 33},
		{"", etcdName, 6},
		{"publish", natsName, 9},
		{"publish/async", natsName, 3},
		{"publish_sync/128", etcdName, 1},
		{"nats", etcdName, 0},
		{"latency/memory", natsName, 0},
		{"drain,drain_shared4", natsName, 6},
	} {
		o := mustParse(t, "--only", tc.only)
		got := o.comparisons(tc.peer)
		if len(got) != tc.want {
			t.Errorf("--only %q against %s: %d comparisons, want %d", tc.only, tc.peer, len(got), tc.want)
		}
		byDurability := slices.IsSortedFunc(got, func(a, b comparison) int {
			return slices.Index(durabilities, a.load.Durability) - slices.Index(durabilities, b.load.Durability)
		})
		if !byDurability {
			t.Errorf("--only %q: the durabilities alternate, and servers would start again and again", tc.only)
		}
	}
}

func TestFigures(t *testing.T) {
	l := load{Load: ratio.Load{Size: 1000}}
	before := bench.Usage{Servers: 3, CPU: 2 * time.Second, Written: 1000}
	after := bench.Usage{Servers: 3, CPU: 5 * time.Second, Written: 1000 + 3*2*300_000*1000}
	got := figures(l, 300_000, 2*time.Second, before, after)
	want := ratio.Figures{ratio.MsgsPerSecond: 150_000, ratio.MBPerSecond: 150, ratio.CPU: 10, ratio.Written: 2}
	for unit, want := range want {
		if got[unit] != want {
			t.Errorf("%s: %v, want %v", unit, got[unit], want)
		}
	}
}

// fake is a system that measures what it is told to.
type fake struct {
	called string
	rates  map[string]float64 // by path; 0 fails
	order  *string
	closed bool
}

func (f *fake) name() string { return f.called }
func (f *fake) close()       { f.closed = true }

func (f *fake) paths(l load) []ratio.Path {
	var paths []ratio.Path
	for _, name := range []string{"slow", "fast", "broken"} {
		rate := f.rates[name]
		paths = append(paths, ratio.Path{Name: name, Run: func(context.Context) (ratio.Figures, error) {
			*f.order += f.called[:1]
			if rate == 0 {
				return nil, errors.New("broken")
			}
			return ratio.Figures{ratio.MsgsPerSecond: rate, ratio.MBPerSecond: rate / 8, ratio.CPU: 1e6 / rate, ratio.P50: 7}, nil
		}})
	}
	return paths
}

func TestCompare(t *testing.T) {
	order := ""
	us := &fake{called: "ours", rates: map[string]float64{"slow": 50, "fast": 300}, order: &order}
	peer := &fake{called: natsName, rates: map[string]float64{"slow": 10, "fast": 100}, order: &order}
	var told bytes.Buffer
	o, err := parse([]string{"--quick", "--only", "publish/128/async"}, &told)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := o.compare(t.Context(), us, peer)
	if err != nil {
		t.Fatal(err)
	}
	if order != "ooonnn"+"ononon" {
		t.Errorf("order %s: want trials of each path, then pairs in turns", order)
	}
	var out bytes.Buffer
	if err := ratio.WriteJSON(&out, rows); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 3 {
		t.Fatalf("%v: want three rows, not\n%s", err, &out)
	}
	for key, want := range map[string]any{
		"scenario": "publish", "size": 128.0, "durability": "async", "unit": "msgs_per_s", "ours": 300.0, "peer": 100.0,
		"peer_name": "nats", "ratio": 3.0, "runs": 3.0, "ours_path": "fast", "peer_path": "fast",
	} {
		if got[0][key] != want {
			t.Errorf("%s: %v, want %v", key, got[0][key], want)
		}
	}
	if !us.closed || !peer.closed {
		t.Error("a system is not closed")
	}
	if !strings.Contains(told.String(), "broken failed") {
		t.Errorf("nothing tells that a path does not work:\n%s", &told)
	}
}

func TestCompareGoesOnAfterAFailure(t *testing.T) {
	order := ""
	us := &fake{called: "ours", rates: map[string]float64{"fast": 300}, order: &order}
	peer := &fake{called: natsName, order: &order}
	o := mustParse(t, "--quick", "--only", "publish/async")
	rows, err := o.compare(t.Context(), us, peer)
	if len(rows) > 0 || err == nil || strings.Count(err.Error(), "no path works") != 3 {
		t.Errorf("%d rows, %v: want three errors", len(rows), err)
	}
}
