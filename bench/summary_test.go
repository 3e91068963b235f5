package bench

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1, 100}, 1},
	} {
		if got := Median(tc.values); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.values, got, tc.want)
		}
	}
}

// runsOf makes runs that differ in messages a second, p99 and a number of their own.
func runsOf(scenario string, rates ...float64) []*Figures {
	var runs []*Figures
	for i, r := range rates {
		f := &Figures{
			Scenario: scenario, Size: 128, Durability: "async", Publishers: 1, Window: 8, Batch: 65536,
			MsgsPerSec: r, P99: int64(1000 - r), More: map[string]float64{"gap_ms_p50": float64(i)}, Times: newTimes(),
		}
		record(f.Times, time.Duration(r)*time.Microsecond)
		runs = append(runs, f)
	}
	return runs
}

func TestSummarize(t *testing.T) {
	s := Summarize("v1", runsOf("publish", 300, 100, 200))
	if s.MsgsPerSec != 200 || s.P99 != 800 || s.More["gap_ms_p50"] != 1 || s.Runs != 3 || s.Version != "v1" {
		t.Errorf("medians: %+v", s)
	}
	if s.Min["msgs_per_s"] != 100 || s.Max["msgs_per_s"] != 300 || s.Min["p99_us"] != 700 || s.Max["gap_ms_p50"] != 2 {
		t.Errorf("min %v, max %v", s.Min, s.Max)
	}
	if s.Times.TotalCount() != 3 || s.Times.Max() != 300 {
		t.Errorf("times: %d, up to %d", s.Times.TotalCount(), s.Times.Max())
	}
	if one := Summarize("v1", runsOf("publish", 5)); one.MsgsPerSec != 5 || one.Min != nil || one.Runs != 1 {
		t.Errorf("of one run: %+v", one)
	}
}

func TestReadSummaries(t *testing.T) {
	one, err := json.Marshal(Summarize("v1", runsOf("publish", 1, 2, 3)))
	if err != nil {
		t.Fatal(err)
	}
	text := string(one)
	for _, tc := range []struct {
		name, text string
		want       int
		err        string
	}{
		{"an object", text, 1, ""},
		{"an array", "[" + text + "," + text + "]", 2, ""},
		{"one after another", text + "\n[" + text + "]\n" + text, 3, ""},
		{"nothing", "", 0, "holds no figures"},
		{"an empty array", "[]", 0, "holds no figures"},
		{"something else", `{"a":1}`, 0, "names no scenario"},
		{"null in it", "[null]", 0, "names no scenario"},
		{"no JSON", "messages/s", 0, "not the JSON"},
		{"wrong types", `{"scenario":7}`, 0, "not the JSON"},
	} {
		got, err := ReadSummaries(strings.NewReader(tc.text))
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
			}
			continue
		}
		if err != nil || len(got) != tc.want || got[0].MsgsPerSec != 2 || got[0].Max["msgs_per_s"] != 3 {
			t.Errorf("%s: %d, %v", tc.name, len(got), err)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	several, one := Summarize("v1", runsOf("publish", 1, 2, 3)), Summarize("v1", runsOf("failover", 7))
	one.More = map[string]float64{"lost": 0}
	var b bytes.Buffer
	if err := WriteCSV(&b, []*Summary{several, one}); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll() // says if lines differ in length
	if err != nil || len(lines) != 3 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	at := func(line int, column string) string {
		for i, name := range lines[0] {
			if name == column {
				return lines[line][i]
			}
		}
		t.Fatalf("there is no column %s: %v", column, lines[0])
		return ""
	}
	for _, tc := range []struct {
		line         int
		column, want string
	}{
		{1, "scenario", "publish"}, {1, "size", "128"}, {1, "msgs_per_s", "2"}, {1, "msgs_per_s_min", "1"}, {1, "msgs_per_s_max", "3"},
		{1, "lost", ""}, {1, "gap_ms_p50_max", "2"}, {1, "runs", "3"},
		{2, "scenario", "failover"}, {2, "msgs_per_s", "7"}, {2, "msgs_per_s_min", ""}, {2, "lost", "0"}, {2, "gap_ms_p50", ""},
	} {
		if got := at(tc.line, tc.column); got != tc.want {
			t.Errorf("line %d: %s is %q, want %q", tc.line, tc.column, got, tc.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		f    Figures
		want string
	}{
		{Figures{Size: 128, Durability: "sync", Publishers: 1, Sync: true}, "128 B, sync, one by one, 1 publisher"},
		{Figures{Size: 16384, Durability: "async", Publishers: 4, Window: 8, Batch: 65536}, "16 KiB, async, 4 publishers, 8 x 64 KiB"},
		{Figures{Size: 1 << 20, Publishers: 1, Together: 10, Matchers: 1000}, "1 MiB, 1 publisher, 10 together, 1000 matchers"},
		{Figures{Scenario: "backlog", Size: 1000, Publishers: 1, Sync: true}, "1000 B, one by one, 1 publisher, backlog 0"},
		{Figures{Size: 1, Publishers: 1, Sync: true, Servers: 3}, "1 B, one by one, 1 publisher"},
		{Figures{Size: 1, Publishers: 1, Sync: true, Servers: 1}, "1 B, one by one, 1 publisher, 1 server"},
		{Figures{Size: 1, Publishers: 1, Sync: true, Servers: 5, More: map[string]float64{"voters": 5}}, "1 B, one by one, 1 publisher, 5 voters"},
		{Figures{Size: 1, Publishers: 1, Sync: true, Rate: 5, Workers: 2, Durables: 1}, "1 B, one by one, 1 publisher, 5/s, 2 workers, 1 durable"},
	} {
		if got := tc.f.Describe(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}
