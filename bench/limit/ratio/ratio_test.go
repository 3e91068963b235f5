package ratio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 100}, 1},
	} {
		given := slices.Clone(tc.values)
		if got := Median(tc.values); got != tc.want {
			t.Errorf("median of %v: %v, want %v", tc.values, got, tc.want)
		}
		if !slices.Equal(given, tc.values) {
			t.Errorf("the median of %v changed its argument to %v", given, tc.values)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestQuantile(t *testing.T) {
	times := []time.Duration{4000, 1000, 3000, 2000}
	for q, want := range map[float64]float64{0: 1, 0.25: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		if got := Quantile(times, q); got != want {
			t.Errorf("quantile %v: %v us, want %v", q, got, want)
		}
	}
	if !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("a quantile of nothing is a number")
	}
}

var load = Load{"publish", 128, "async"}

func TestRowsAreRatiosOfMedians(t *testing.T) {
	ours := []Figures{{MsgsPerSecond: 100, P50: 5, Written: 1}, {MsgsPerSecond: 400, P50: 7, Written: 3}, {MsgsPerSecond: 300, P50: 6, Written: 2}}
	theirs := []Figures{{MsgsPerSecond: 10, P50: 12, Written: 6}, {MsgsPerSecond: 60, P50: 24}, {MsgsPerSecond: 50, P50: 6}}
	rows, err := Rows(load, "nats", ours, theirs)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{load, MsgsPerSecond, 300, 50, "nats", 6, 100, 400, 10, 60, 3, "", "", 2, 6},
		{load, P50, 6, 12, "nats", 0.5, 5, 7, 6, 24, 3, "", "", 2, 6},
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got %+v\nwant %+v", rows, want)
	}
}

func TestRowsLeaveOutWhatCannotBeCompared(t *testing.T) {
	for _, tc := range []struct {
		name         string
		ours, theirs []Figures
		rows         int
	}{
		{"no runs", nil, nil, 0},
		{"not pairs", []Figures{{P50: 1}, {P50: 1}}, []Figures{{P50: 1}}, 0},
		{"the peer lacks one", []Figures{{P50: 1, P99: 2}}, []Figures{{P50: 1}}, 1},
		{"ours lacks one in one run", []Figures{{P50: 1, P99: 2}, {P50: 1}}, []Figures{{P50: 1, P99: 2}, {P50: 1, P99: 2}}, 1},
		{"the peer's is zero", []Figures{{CPU: 1, P50: 1}}, []Figures{{CPU: 0, P50: 1}}, 1},
		{"both are zero", []Figures{{CPU: 0}}, []Figures{{CPU: 0}}, 0},
		{"infinite", []Figures{{CPU: math.Inf(1)}}, []Figures{{CPU: 1}}, 0},
	} {
		rows, err := Rows(load, "nats", tc.ours, tc.theirs)
		if err == nil || len(rows) != tc.rows {
			t.Errorf("%s: %d rows, %v; want %d and an error", tc.name, len(rows), err, tc.rows)
		}
	}
}

func TestAlternate(t *testing.T) {
	order := ""
	run := func(name string, fail int) Run {
		n := 0
		return func(context.Context) (Figures, error) {
			order += name
			n++
			if n == fail {
				return nil, errors.New("broken")
			}
			return Figures{MsgsPerSecond: float64(n)}, nil
		}
	}
	a, b, err := Alternate(t.Context(), 3, run("A", 0), run("B", 0))
	if err != nil || order != "ABABAB" || len(a) != 3 || len(b) != 3 || b[2][MsgsPerSecond] != 3 {
		t.Errorf("order %s, %v, %v, %v", order, a, b, err)
	}
	order = ""
	if _, _, err := Alternate(t.Context(), 3, run("A", 0), run("B", 2)); err == nil || order != "ABAB" {
		t.Errorf("order %s, %v: want an error after ABAB", order, err)
	}
}

func TestBest(t *testing.T) {
	tried := ""
	path := func(name string, rates ...float64) Path {
		n := -1
		return Path{name, func(context.Context) (Figures, error) {
			tried += name
			n++
			if rates[n] < 0 {
				return nil, errors.New("broken")
			}
			return Figures{MsgsPerSecond: rates[n]}, nil
		}}
	}
	for _, tc := range []struct {
		name  string
		paths []Path
		best  string // none is an error
		tried string
	}{
		{"by median, not by peak", []Path{path("a", 1, 90, 2), path("b", 5, 6, 7), path("c", 3, 3, 3)}, "b", "abcabcabc"},
		{"alone", []Path{path("a")}, "a", ""},
		{"a broken path is out", []Path{path("a", 9, -1), path("b", 5, 6, 7)}, "b", "ababb"},
		{"nothing measured", []Path{path("a", 0), path("b", 1, 1, 1)}, "b", "abbb"},
		{"all broken", []Path{path("a", -1), path("b", -1)}, "", "ab"},
	} {
		tried = ""
		got, err := Best(t.Context(), 3, MsgsPerSecond, tc.paths)
		if got.Name != tc.best || (err != nil) != (tc.best == "") || tried != tc.tried {
			t.Errorf("%s: %q, %v, tried %s; want %q, tried %s", tc.name, got.Name, err, tried, tc.best, tc.tried)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	row := Row{Load: load, Unit: P99, Ours: 1.23456789, Peer: 2, PeerName: "nats", Ratio: 0.61728394, Runs: 5}
	for _, rows := range [][]Row{nil, {row}, {row, row}} {
		var out bytes.Buffer
		if err := WriteJSON(&out, rows); err != nil {
			t.Fatal(err)
		}
		var back []map[string]any
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back) != len(rows) {
			t.Fatalf("%d rows read back from %d: %v: %s", len(back), len(rows), err, &out)
		}
		for _, got := range back {
			for key, want := range map[string]any{
				"scenario": "publish", "size": 128.0, "durability": "async", "unit": "p99_us",
				"ours": 1.23457, "peer": 2.0, "peer_name": "nats", "ratio": 0.617284, "runs": 5.0,
			} {
				if got[key] != want {
					t.Errorf("%s: %v, want %v", key, got[key], want)
				}
			}
		}
	}
}

func TestWriteTable(t *testing.T) {
	var out bytes.Buffer
	rows := []Row{{Load: load, Unit: MsgsPerSecond, Ours: 1234567.8, Peer: 98765.4, PeerName: "nats", Ratio: 12.5001}}
	if err := WriteTable(&out, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"publish", "128", "async", "1234568", "98765", "nats", "12.5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestSelection(t *testing.T) {
	known := []string{"publish", "publish_sync", "sync", "async", "128", "nats"}
	for _, tc := range []struct {
		only string
		load Load
		want bool
	}{
		{"", load, true},
		{"publish", load, true},
		{"publish", Load{"publish_sync", 128, "async"}, false},
		{"sync", Load{"publish_sync", 128, "async"}, false},
		{"sync", Load{"publish", 128, "sync"}, true},
		{"publish/128/async/nats", load, true},
		{"nats/publish", load, true},
		{"publish/sync", load, false},
		{"publish/sync,128", load, true},
	} {
		s, err := ParseSelection(tc.only, known)
		if err != nil {
			t.Errorf("%q: %v", tc.only, err)
			continue
		}
		if got := s.Wants(tc.load, "nats"); got != tc.want {
			t.Errorf("--only %q wants %v: %v, want %v", tc.only, tc.load, got, tc.want)
		}
	}
	for _, bad := range []string{"pubish", "publish/1", "publish,", "/"} {
		if _, err := ParseSelection(bad, known); err == nil {
			t.Errorf("--only %q is accepted", bad)
		}
	}
}
