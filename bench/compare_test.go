package bench

import (
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	a := []*Summary{Summarize("v1", runsOf("publish", 100, 110, 120)), Summarize("v1", runsOf("stream", 50))}
	b := []*Summary{Summarize("v2", runsOf("latency", 7)), Summarize("v2", runsOf("publish", 200, 220, 240))}
	all, alone, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(alone) != 2 || alone[0] != "stream: 128 B, async, 1 publisher, 8 x 64 KiB" {
		t.Errorf("alone are %q", alone)
	}
	find := func(unit string) Difference {
		i := slices.IndexFunc(all, func(d Difference) bool { return d.Unit == unit })
		if i < 0 {
			t.Fatalf("nothing about %s in %+v", unit, all)
		}
		return all[i]
	}
	if d := find("msgs_per_s"); d.A != 110 || d.B != 220 || d.Ratio != 2 || !d.Better || !d.Apart || d.Scenario != "publish" {
		t.Errorf("%+v", d)
	}
	if d := find("p99_us"); d.A != 890 || d.B != 780 || d.Ratio != 0.876 || !d.Better || !d.Apart {
		t.Errorf("%+v", d)
	}
	if d := find("gap_ms_p50"); d.Ratio != 1 || d.Better || d.Apart {
		t.Errorf("%+v", d)
	}
	if slices.ContainsFunc(all, func(d Difference) bool { return isCount(d.Unit) || d.Unit == "mb_per_s" }) {
		t.Errorf("counts, or numbers that nobody has, are compared: %+v", all)
	}
}

// What nobody was asked for in one of the two is not called worse, and does not
// move the median of those that were.
func TestCompareUnknown(t *testing.T) {
	a, b := runsOf("publish", 100, 110, 120), runsOf("publish", 100, 110, 120)
	for i, f := range b {
		f.Allocs = float64(i) // one server did not answer in the first run
		f.PeakRSS = 7
	}
	s := Summarize("", b)
	if s.Allocs != 1.5 || s.Min["allocs_per_message"] != 1 {
		t.Errorf("median %v, least %v", s.Allocs, s.Min["allocs_per_message"])
	}
	all, _, err := Compare([]*Summary{Summarize("", a)}, []*Summary{s})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if zeroIsUnknown(d.Unit) {
			t.Errorf("%+v", d)
		}
	}
}

func TestCompareDoubts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		a, b  []float64
		apart bool
	}{
		{"ranges that touch", []float64{100, 110, 120}, []float64{120, 130, 140}, false},
		{"one within the other", []float64{100, 110, 190}, []float64{120, 130, 140}, false},
		{"lower", []float64{100, 110, 120}, []float64{70, 80, 90}, true},
		{"single runs", []float64{100}, []float64{500}, false},
	} {
		all, _, err := Compare([]*Summary{Summarize("", runsOf("publish", tc.a...))}, []*Summary{Summarize("", runsOf("publish", tc.b...))})
		if err != nil || all[0].Unit != "msgs_per_s" || all[0].Apart != tc.apart {
			t.Errorf("%s: %+v, %v", tc.name, all, err)
		}
	}
}

// Loads of another length are others, unless a version wrote that did not say it.
func TestSameLoad(t *testing.T) {
	with := func(change func(*Figures)) Figures {
		f := *runsOf("publish", 1)[0]
		change(&f)
		return f
	}
	old := with(func(*Figures) {})
	usual := with(func(f *Figures) { f.Count = DefaultCount })
	short := with(func(f *Figures) { f.Count = 7 })
	timed := with(func(f *Figures) { f.Duration, f.Warmup = 5, 2 })
	cold := with(func(f *Figures) { f.Duration = 5 })
	kill := with(func(f *Figures) { f.More = map[string]float64{"kills": 1} })
	kills := with(func(f *Figures) { f.More = map[string]float64{"kills": 2} })
	idle := Figures{Scenario: "idle", Clusters: 2, Duration: 5}
	oldIdle := Figures{Scenario: "idle", Clusters: 2, Size: 128, Publishers: 1, Window: 8, Batch: 65536}
	for _, tc := range []struct {
		name string
		a, b Figures
		want bool
	}{
		{"equal", short, short, true}, {"count", usual, short, false}, {"count and time", usual, timed, false}, {"warm-up", timed, cold, false},
		{"old", old, short, true}, {"old", timed, old, true}, {"kills", kill, kills, false}, {"old idle", idle, oldIdle, true},
		{"prefetch", old, with(func(f *Figures) { f.Prefetch = 1 }), false}, {"fast", old, with(func(f *Figures) { f.Fast = true }), false},
	} {
		if got := sameLoad(tc.a, tc.b); got != tc.want {
			t.Errorf("%s: %v: %q, %q", tc.name, got, tc.a.Describe(), tc.b.Describe())
		}
	}
}

// Where no load is in both, what each has is shown: flags that differ stand there.
func TestCompareNothing(t *testing.T) {
	warm, cold := runsOf("publish", 1), runsOf("publish", 1)
	warm[0].Duration, warm[0].Warmup = 5, 2
	cold[0].Duration, cold[0].Warmup = 5, 1
	_, _, err := Compare([]*Summary{Summarize("", warm)}, []*Summary{Summarize("", cold), Summarize("", runsOf("stream", 1))})
	const want = "no load is in both, compare runs with the same flags: " +
		"the one has publish: 128 B, async, 1 publisher, 8 x 64 KiB, for 5s, " +
		"the other publish: 128 B, async, 1 publisher, 8 x 64 KiB, for 5s, warm-up 1s (and 1 more)"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
