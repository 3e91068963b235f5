package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// alone is the only replica of a group, driven by hand.
type alone struct {
	t       *testing.T
	log     *clustertest.MemLog
	machine *tally
	*cluster.Replica[string]
	now cluster.Now
	eff cluster.Effects
}

func newAlone(t *testing.T, log *clustertest.MemLog) *alone {
	a := &alone{t: t, log: log, machine: &tally{}, now: cluster.Now{Mono: 1, Wall: 1}}
	var err error
	a.Replica, err = cluster.NewReplica(cluster.Options{
		Group: 7, ID: 1, Tick: 50 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10,
	}, log, a.machine, a.machine, a.now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// advance lets time pass and advances once, without carrying out the effects.
func (a *alone) advance(d time.Duration) {
	a.now.Mono += int64(d)
	a.now.Wall += int64(d)
	if err := a.Advance(a.now, &a.eff); err != nil {
		a.t.Fatal(err)
	}
}

// perform carries out the effects, and those that come of them.
func (a *alone) perform() {
	for len(a.eff.Writes) > 0 {
		writes := a.eff.Writes
		a.eff = cluster.Effects{}
		for _, w := range writes {
			a.log.Append(w.Write, func(bool) {
				if err := a.Stored(w, &a.eff); err != nil {
					a.t.Fatal(err)
				}
			})
		}
		a.advance(0)
	}
}

func TestACrashRightAfterACheckpointIsRecovered(t *testing.T) {
	a := newAlone(t, clustertest.NewMemLog(clustertest.Async, 1, []uint64{1}))
	a.advance(time.Second) // campaigns
	a.perform()
	for i := range 5 {
		a.Propose(cluster.Proposal[string]{Command: fmt.Append(nil, i)})
		a.advance(2 * time.Second) // every other advance makes a checkpoint
		writes := a.eff.Writes
		a.eff = cluster.Effects{}
		for _, w := range writes {
			a.log.Append(w.Write, func(bool) {
				if err := a.Stored(w, &a.eff); err != nil {
					t.Fatal(err)
				}
			})
		}
		a.advance(2 * time.Second) // applies, and makes a checkpoint; nothing of eff is carried out
		log := a.log.Crash(clustertest.Crash{})
		a = newAlone(t, log)
		if n := len(a.machine.commands); n != i+1 {
			t.Fatalf("%d commands after crash %d", n, i)
		}
		a.advance(time.Second)
		a.perform()
	}
}

// What a replica gives its log carries its checksum, and the log is told so.
func TestEntriesAreSealedWithTheirSum(t *testing.T) {
	a := newAlone(t, clustertest.NewMemLog(clustertest.Async, 1, []uint64{1}))
	a.advance(time.Second) // campaigns
	a.perform()
	for _, n := range []int{1, 100, 70 << 10, 200 << 10} {
		a.Propose(cluster.Proposal[string]{Command: make([]byte, n), Body: []byte("body")})
		a.Propose(cluster.Proposal[string]{Command: []byte("another")})
	}
	a.advance(0)
	sealed := 0
	for _, w := range a.eff.Writes {
		for _, e := range w.Write.Entries {
			if _, ok := cluster.EntrySum(e); !ok || !w.Write.Summed || cluster.CheckEntry(e.GetData()) != nil {
				t.Errorf("entry %d of %d bytes: looks sealed %v, said so %v, %v", e.GetIndex(), len(e.GetData()), ok, w.Write.Summed, cluster.CheckEntry(e.GetData()))
			}
			sealed++
		}
	}
	if sealed < 4 {
		t.Errorf("%d entries", sealed)
	}
}
