package server

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/realm"
)

func clock(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// The services of a cluster take turns, and what was made counts wherever the clock
// is now.
func TestBackupDue(t *testing.T) {
	for _, tc := range []struct {
		name       string
		place, of  int
		now, after string // the newest that was made; "" is none
		want       string
	}{
		{"the first", 0, 3, "2026-11-22 13:20:00", "", "2026-11-22 13:00:00"},
		{"the first of the second", 1, 3, "2026-11-22 13:10:00", "", "2026-11-22 12:20:00"},
		{"made in its slot", 0, 3, "2026-11-22 13:20:00", "2026-11-22 13:00:07", "2026-11-22 14:00:00"},
		{"made at its second", 2, 3, "2026-11-22 13:40:00", "2026-11-22 13:40:00", "2026-11-22 14:40:00"},
		{"missed", 1, 3, "2026-11-22 13:25:00", "2026-11-22 12:20:01", "2026-11-22 13:20:00"},
		{"missed for days", 0, 1, "2026-11-22 13:25:00", "2026-11-19 12:00:01", "2026-11-22 13:00:00"},
		{"from the future", 0, 1, "2026-11-22 13:25:00", "2026-11-23 12:00:01", "2026-11-22 13:00:00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := backupPlan{realm.Backup{Every: time.Hour, Keep: 3}, tc.place, tc.of}
			var made []time.Time
			if tc.after != "" {
				made = append(made, clock(t, tc.after), clock(t, "2026-11-01 00:00:00"))
			}
			if got := p.due(clock(t, tc.now), made); !got.Equal(clock(t, tc.want)) {
				t.Errorf("due at %v, want %s", got, tc.want)
			}
		})
	}
}

// However often it is asked, and with pauses, each slot has one backup at most, and
// one that nothing hindered has one.
func TestBackupOnceInASlot(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		p := backupPlan{Backup: realm.Backup{Every: time.Second + time.Duration(rnd.Int64N(int64(time.Hour))), Keep: 1 + rnd.IntN(5)}, of: 1 + 2*rnd.IntN(4)}
		p.place = rnd.IntN(p.of)
		now := time.Unix(1_790_000_000, rnd.Int64N(1e9))
		var made []time.Time
		slots := map[time.Time]bool{}
		for range 300 {
			now = now.Add(time.Duration(rnd.Int64N(int64(p.Every))))
			due := p.due(now, made)
			if due.After(now) {
				if due.Sub(now) > p.Every {
					t.Fatalf("%+v: at %v the next is due at %v", p, now, due)
				}
				continue
			}
			at, ok := backupMade("main", "main-1", backupFileName("main", "main-1", now))
			if slot := p.slot(now); !ok || slots[slot] || at.Before(slot) {
				t.Fatalf("%+v: at %v, in slot %v, another backup", p, now, slot)
			} else {
				slots[slot] = true
			}
			made = append(made, at)
			for _, gone := range p.surplus(now, made) {
				if gone.Equal(at) {
					t.Fatal("what was just made goes")
				}
				made = slices.DeleteFunc(made, gone.Equal)
			}
			if len(made) > p.Keep {
				t.Fatalf("%d are kept, not %d", len(made), p.Keep)
			}
		}
		if len(slots) < 50 {
			t.Fatalf("%+v: only %d backups", p, len(slots))
		}
	}
}

func TestBackupSurplus(t *testing.T) {
	p := backupPlan{realm.Backup{Every: time.Hour, Keep: 2}, 0, 1}
	now := clock(t, "2026-11-22 13:25:00")
	made := []time.Time{now.Add(-2 * time.Hour), now.Add(48 * time.Hour), now, now.Add(-4 * time.Hour), now.Add(-time.Hour)}
	if got := p.surplus(now, made); !slices.Equal(got, []time.Time{made[3], made[0]}) {
		t.Errorf("%v go", got)
	}
}

// The name says whose backup it is: nobody takes another's, nor another file.
func TestBackupNames(t *testing.T) {
	at := clock(t, "2026-11-22 13:25:07")
	if got := backupFileName("main", "main-1", at); got != "main.main-1.20261122T132507Z.state" {
		t.Error(got)
	}
	long := strings.Repeat("longer ", 30)
	whose := [][2]string{{"main", "main-1"}, {"main.main", "1"}, {"main", "main.1"}, {"main", "main-1.20261122T132507Z"}, {"../x", "é"}, {long, "a"}, {long, "b"}}
	for i, w := range whose {
		name := backupFileName(w[0], w[1], at)
		if err := checkStateName(name); err != nil {
			t.Error(err)
		}
		for j, other := range whose {
			got, ok := backupMade(other[0], other[1], name)
			if ok != (i == j) || ok && !got.Equal(at) {
				t.Errorf("%s is %q's: %v, %v", name, other, got, ok)
			}
		}
		for _, no := range []string{stateFileName(w[0], w[1]), name + loadedSuffix, name + ".backup", "." + name + ".new", strings.Replace(name, "T1", "T9", 1)} {
			if _, ok := backupMade(w[0], w[1], no); ok {
				t.Errorf("%s is taken for a backup", no)
			}
		}
	}
}
