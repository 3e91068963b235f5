package bench

import (
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	start := time.Unix(1000, 0)
	from := moment{at: start, messages: 500, servers: Usage{Servers: 3, CPU: time.Second, Written: 1000}, clients: time.Second}
	to := moment{at: start.Add(2 * time.Second), messages: 2_000_500, servers: Usage{Servers: 3, CPU: 4 * time.Second, Written: 1000 + 3*128*2_200_000}, clients: 2 * time.Second}
	// The servers were asked a little before and a little after.
	from.counts, from.counted, from.when = Counts{Fsyncs: 7, Objects: 1000, Bytes: 5000}, true, 400
	to.counts, to.counted, to.when = Counts{Fsyncs: 117, Objects: 1000 + 550_000, Bytes: 5000 + 70_400_000}, true, 2_200_400
	to.servers.PeakRSS = 90
	f := Figures{Size: 128}
	f.rates(from, to)
	for _, tc := range []struct {
		key  string
		want float64
	}{
		{"messages", 2_000_000}, {"seconds", 2}, {"msgs_per_s", 1_000_000}, {"mb_per_s", 128},
		{"servers_cpu_s_per_million", 1.5}, {"clients_cpu_s_per_million", 0.5}, {"written_per_byte", 1.1},
		{"fsyncs", 110}, {"fsyncs_per_million", 50}, {"allocs_per_message", 0.25}, {"alloc_bytes_per_message", 32}, {"peak_rss", 90},
	} {
		if got := f.Numbers()[tc.key]; got != tc.want {
			t.Errorf("%s is %v, want %v", tc.key, got, tc.want)
		}
	}
}

// TestRatesOfNothing holds that nothing is divided by nothing: JSON has no
// number for that.
func TestRatesOfNothing(t *testing.T) {
	var f Figures
	f.rates(moment{}, moment{})
	for key, v := range f.Numbers() {
		if v != 0 {
			t.Errorf("%s is %v", key, v)
		}
	}
}

// TestRatesUncounted: what servers did not tell at one of both ends is not known.
func TestRatesUncounted(t *testing.T) {
	counted, not := moment{counts: Counts{9, 9, 9}, counted: true}, moment{counts: Counts{1, 1, 1}}
	for _, ends := range [][2]moment{{not, counted}, {counted, not}} {
		var f Figures
		ends[1].messages = 1
		if f.rates(ends[0], ends[1]); f.Fsyncs != 0 || f.FsyncsPerMillion != 0 || f.Allocs != 0 || f.AllocBytes != 0 {
			t.Errorf("%+v", f)
		}
	}
}

// TestRatesAfterAKill: a server that is gone has written, too.
func TestRatesAfterAKill(t *testing.T) {
	f := Figures{Size: 100}
	f.rates(moment{servers: Usage{Servers: 3}}, moment{messages: 10, servers: Usage{Servers: 2, Written: 3000}})
	if f.WrittenPerByte != 1 {
		t.Errorf("written per byte is %v, want 1", f.WrittenPerByte)
	}
}

func TestPercentiles(t *testing.T) {
	f := Figures{Times: newTimes()}
	for us := range 100 {
		record(f.Times, time.Duration(us+1)*time.Microsecond)
	}
	f.percentiles()
	if f.P50 != 50 || f.P99 != 99 || f.Max != 100 || f.Measured != 100 || f.ReceiveMeasured != 0 {
		t.Errorf("%+v", f)
	}
	// What is out of bounds counts as the bound.
	record(f.Times, -time.Second)
	record(f.Times, time.Hour)
	if n := f.Times.TotalCount(); n != 102 {
		t.Errorf("%d times were recorded", n)
	}
}

func TestShare(t *testing.T) {
	for _, tc := range []struct{ count, n int }{{10, 3}, {2, 3}, {9, 3}, {1, 1}} {
		sum := 0
		for i := range tc.n {
			part := share(tc.count, tc.n, i)
			if sum += part; part < tc.count/tc.n || part > tc.count/tc.n+1 {
				t.Errorf("part %d of %d in %d is %d", i, tc.count, tc.n, part)
			}
		}
		if sum != tc.count {
			t.Errorf("%d in %d parts are %d", tc.count, tc.n, sum)
		}
	}
}

func TestUsageOfServers(t *testing.T) {
	u := Usage{Servers: 1, CPU: time.Second, Written: 5, RSS: 70, PeakRSS: 80}
	u.add(Usage{Servers: 1, CPU: time.Second, Written: 6, RSS: 60, PeakRSS: 90})
	if want := (Usage{Servers: 2, CPU: 2 * time.Second, Written: 11, RSS: 70, PeakRSS: 90}); u != want {
		t.Errorf("%+v, want %+v", u, want)
	}
}

func TestCores(t *testing.T) {
	at := time.Unix(0, 0)
	from := moment{at: at, servers: Usage{Servers: 3}}
	to := moment{at: at.Add(10 * time.Second), servers: Usage{Servers: 3, CPU: 3 * time.Second}}
	if got := cores(from, to); got != 0.1 {
		t.Errorf("%v cores, want 0.1", got)
	}
}

// New clusters have time to come to rest, in proportion and not for ever.
func TestFormed(t *testing.T) {
	for clusters, want := range map[int]time.Duration{1: 20 * time.Millisecond, 100: 2 * time.Second, 100_000: 20 * time.Second} {
		if got := formed(clusters); got != want {
			t.Errorf("%d clusters: %v, want %v", clusters, got, want)
		}
	}
}
