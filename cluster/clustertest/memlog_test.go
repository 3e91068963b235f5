package clustertest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/perdure/perdure/cluster"
)

type memSubject struct{ log *MemLog }

func (s *memSubject) Log() cluster.Log { return s.log }
func (s *memSubject) Settle()          { s.log.Flush() }
func (s *memSubject) Reopen() cluster.Log {
	if s.log.mode == Memory {
		return nil
	}
	s.log = s.log.Stop()
	return s.log
}

func TestMemLog(t *testing.T) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		t.Run(mode.String(), func(t *testing.T) {
			TestLog(t, func(*testing.T) Subject { return &memSubject{NewMemLog(mode, 1, Voters)} })
		})
	}
}

// A crash leaves a prefix of the steps: all that was synced, and as much more as
// was asked for.
func TestMemLogCrash(t *testing.T) {
	for _, mode := range []Mode{Async, Sync} {
		for _, power := range []bool{false, true} {
			for keep := range 4 {
				t.Run(fmt.Sprintf("%v/power=%v/keep=%d", mode, power, keep), func(t *testing.T) {
					crashMemLog(t, mode, Crash{Power: power, Keep: keep})
				})
			}
		}
	}
}

func crashMemLog(t *testing.T, mode Mode, crash Crash) {
	for seed := range uint64(20) {
		d := NewDriver(seed, Voters)
		l := NewMemLog(mode, 1, Voters)
		models := []*Model{d.Model.Clone()}
		acked := 0
		step := func(n int) {
			for range n {
				at := len(models)
				confirmed := false
				did, err := d.Step(l, func() { confirmed = true })
				if err != nil {
					t.Fatal(err)
				}
				if confirmed && did.Durable {
					acked = at
				}
				models = append(models, d.Model.Clone())
			}
		}
		step(20)
		l.Flush()
		synced := l.Unsynced() // 0
		step(20)
		l.Write(2)
		written, queued := l.Unsynced(), l.Queued()
		next := l.Crash(crash)
		l.Append(cluster.Write{}, func(bool) { t.Error("a crashed log runs done") })

		// Aborted receives and the like are no steps of the log, so look for the
		// prefix instead of counting.
		found := -1
		for n := len(models) - 1; n >= 0; n-- {
			if models[n].Compare(next, false) == nil {
				found = n
				break
			}
		}
		if found < 20 {
			t.Fatalf("seed %d: the log is like model %d, 20 steps were synced", seed, found)
		}
		if !crash.Power && mode == Async && found < acked {
			t.Fatalf("seed %d: the log is like model %d, %d were confirmed", seed, found, acked)
		}
		if forgot := next.MayHaveForgotten(); (forgot != nil) != (mode == Async && crash.Power) || forgot != nil && !errors.Is(forgot, cluster.ErrMayHaveForgotten) {
			t.Fatalf("seed %d: forgot: %v", seed, forgot)
		}
		if next.Queued()+next.Unsynced() != 0 || synced != 0 || mode == Async && queued != 0 || mode == Sync && written != 2 {
			t.Fatalf("seed %d: %d queued %d unsynced", seed, queued, written)
		}
	}
}

func TestMemLogMemory(t *testing.T) {
	l := NewMemLog(Memory, 1, Voters)
	l.Append(cluster.Write{HardState: hard(1, 1, 0), Entries: entries(1, 1, "a")}, func(bool) {})
	next := l.Stop()
	if err := next.MayHaveForgotten(); !errors.Is(err, cluster.ErrMayHaveForgotten) {
		t.Fatal(err)
	}
	if last, _ := next.LastIndex(); last != 0 {
		t.Fatal(last)
	}
}

func BenchmarkMemLog(b *testing.B) {
	for b.Loop() {
		d := NewDriver(1, Voters)
		d.Large = 200
		l := NewMemLog(Sync, 1, Voters)
		for range 1000 {
			if _, err := d.Step(l, func() {}); err != nil {
				b.Fatal(err)
			}
			l.Flush()
		}
	}
}
