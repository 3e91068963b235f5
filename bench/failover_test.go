package bench

import (
	"testing"
	"time"

	"github.com/perdure/perdure/client"
)

// TestProbe: the gap is the longest silence until a call that began after the
// kill was answered, whatever answers were still on their way.
func TestProbe(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	p := &probe{last: at(0), armed: true, done: make(chan struct{})}
	p.note(at(0), at(10))
	p.gone = at(11)
	p.note(at(10), at(12)) // was on its way
	select {
	case <-p.done:
		t.Fatal("an old answer ended the gap")
	default:
	}
	p.note(at(12), at(512)) // the successor's
	select {
	case <-p.done:
	default:
		t.Fatal("the gap goes on")
	}
	if p.worst != 500*time.Millisecond {
		t.Errorf("the gap is %v, want 500 ms", p.worst)
	}
	p.note(at(512), at(5000))
	if p.worst != 500*time.Millisecond {
		t.Errorf("the gap grew to %v when it was over", p.worst)
	}
}

func TestLedger(t *testing.T) {
	l := &ledger{}
	for _, duplicate := range []bool{false, true, false} {
		l.note(client.Receipt{Duplicate: duplicate})
	}
	l.distinct.Store(8)
	m := l.more(10, []time.Duration{300 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond})
	for key, want := range map[string]float64{
		"lost": 2, "duplicates": 0, "resent_and_stored": 1, "kills": 3, "gap_ms_min": 100, "gap_ms_p50": 250, "gap_ms_max": 300,
	} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
	// What was stored and never confirmed is no loss.
	l.distinct.Store(11)
	if m := l.more(10, nil); m["lost"] != 0 || m["kills"] != 0 {
		t.Errorf("%v", m)
	}
}

func TestLagWatch(t *testing.T) {
	w := &lagWatch{}
	start := time.Unix(0, 0)
	look := func(second int, commit, leader, one, other uint64) {
		w.note(&client.ClusterStatus{Leader: "s1", Services: []client.ServiceStatus{
			{Server: "s1", Commit: commit, LastIndex: leader}, {Server: "s2", LastIndex: one}, {Server: "s3", LastIndex: other},
		}}, start.Add(time.Duration(second)*time.Second))
	}
	look(0, 100, 110, 110, 108)
	look(1, 1100, 1110, 1112, 1060)
	m := w.more()
	for key, want := range map[string]float64{
		"voters": 3, "entries_per_s": 1000, "lag_p50_entries": 2, "lag_p99_entries": 50, "lag_p99_ms": 50, "lag_looks": 4,
	} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
	if m := (&lagWatch{}).more(); m["lag_p99_ms"] != 0 || m["entries_per_s"] != 0 {
		t.Errorf("of no look: %v", m)
	}
}

func TestCatchUpRates(t *testing.T) {
	m := map[string]float64{}
	catchUpRates(m, 1000, 2000, 500*time.Millisecond)
	for key, want := range map[string]float64{
		"catchup_messages": 1000, "catchup_s": 0.5, "catchup_msgs_per_s": 2000, "catchup_mb_per_s": 4,
	} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
}

func TestClusterOf(t *testing.T) {
	store := func(name string) client.ClusterStatus {
		return client.ClusterStatus{Name: "c-" + name, Stores: []client.StoreStatus{{Name: name}}}
	}
	s := &client.Status{Clusters: []client.ClusterStatus{{Name: "empty"}, store("x"), store("bench")}}
	if c := clusterOf(s, "bench"); c == nil || c.Name != "c-bench" {
		t.Errorf("%+v", c)
	}
	if c := clusterOf(&client.Status{}, "bench"); c != nil {
		t.Errorf("%+v", c)
	}
}
