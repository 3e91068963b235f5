package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// crashPoint is the disk at one moment, and what had been asked for and
// confirmed by then.
type crashPoint struct {
	op            string
	disk          *vfs.MemFS
	acked, issued int
}

// recorder takes a crashed copy of the disk before every operation that changes
// it.
type recorder struct {
	fs      *vfs.MemFS
	percent int
	rng     *rand.Rand
	acked   atomic.Int64
	issued  atomic.Int64

	mu     sync.Mutex
	points []crashPoint
	on     bool
}

func (r *recorder) String() string { return "crash recorder" }

func (r *recorder) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on {
		return nil
	}
	// Read before the disk is copied: what is confirmed must be in the copy.
	p := crashPoint{op: fmt.Sprint(op.Kind, " ", op.Path), acked: int(r.acked.Load())}
	p.disk = r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.percent, RNG: r.rng})
	p.issued = int(r.issued.Load())
	r.points = append(r.points, p)
	return nil
}

func (r *recorder) record(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
}

// crashRun runs a random workload and returns the crash points, and the models
// behind each step.
func crashRun(t *testing.T, mode Mode, seed uint64, steps, percent int) ([]crashPoint, []*clustertest.Model) {
	r := &recorder{fs: vfs.NewCrashableMem(), percent: percent, rng: rand.New(rand.NewPCG(seed, 2))}
	s := newSubject(t, crashOptions(t, mode, errorfs.Wrap(r.fs, r)))
	d := clustertest.NewDriver(seed, clustertest.Voters)
	if percent == 50 {
		d.Large = 60000
	}
	models := []*clustertest.Model{d.Model.Clone()}
	r.record(true)
	for n := 1; n <= steps; n++ {
		r.issued.Store(int64(n))
		// done may run before Step has said what it confirms, or after.
		var done, durable atomic.Bool
		confirm := func() {
			if done.Load() && durable.Load() {
				r.acked.Store(max(r.acked.Load(), int64(n)))
			}
		}
		did, err := d.Step(s.Log(), func() {
			done.Store(true)
			confirm()
		})
		if err != nil {
			t.Fatal(did.What, err)
		}
		durable.Store(did.Durable)
		confirm()
		models = append(models, d.Model.Clone())
		switch n % 8 {
		case 3:
			s.Settle()
		case 6:
			if err := s.engine.note(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Settle()
	r.record(false)
	return r.points, models
}

func crashOptions(t *testing.T, mode Mode, fs vfs.FS) Options {
	o := testOptions(t, mode, fs)
	o.MemTableBytes = 32 << 10 // so that flushes and compactions happen
	return o
}

// confirmed compares a log with the models a crash may leave: those between what
// was confirmed and what had been asked for.
func confirmed(t *testing.T, models []*clustertest.Model, p crashPoint, l cluster.Log, least int) {
	t.Helper()
	var last error
	for n := p.issued; n >= least; n-- {
		if last = models[n].Compare(l, true); last == nil {
			return
		}
	}
	t.Fatalf("crash before %s: the log is like none of the models %d to %d; the last difference: %v", p.op, least, p.issued, last)
}

func TestCrashEverywhere(t *testing.T) {
	for _, test := range []struct {
		mode    Mode
		percent int // of what was not synced that survives; 100 is the end of the process
	}{{Sync, 0}, {Sync, 100}, {Sync, 50}, {Async, 100}, {Async, 0}, {Async, 50}} {
		t.Run(fmt.Sprintf("%v/%d", test.mode, test.percent), func(t *testing.T) {
			for seed := range uint64(2) {
				points, models := crashRun(t, test.mode, seed, 200, test.percent)
				if len(points) < 100 {
					t.Fatalf("only %d crash points", len(points))
				}
				for _, p := range points {
					recovered(t, models, p, test.mode, test.percent == 100)
				}
			}
		})
	}
}

// recovered opens what a crash left and compares it with the models.
func recovered(t *testing.T, models []*clustertest.Model, p crashPoint, mode Mode, sameBoot bool) {
	t.Helper()
	o := crashOptions(t, mode, p.disk)
	if !sameBoot {
		o.BootID = func() (string, error) { return "boot 2", nil }
	}
	e, err := Open(o)
	if err != nil {
		t.Fatalf("crash before %s: %v", p.op, err)
	}
	l, err := e.Open(7)
	if err != nil {
		t.Fatalf("crash before %s: %v", p.op, err)
	}
	least := p.acked
	if mode == Async && !sameBoot {
		least = 0
	}
	if forgot := l.MayHaveForgotten(); (forgot != nil) != (mode == Async && !sameBoot) {
		t.Fatalf("crash before %s: forgot: %v", p.op, forgot)
	} else if forgot != nil && !errors.Is(forgot, cluster.ErrMayHaveForgotten) {
		t.Fatal(forgot)
	}
	confirmed(t, models, p, l, least)
	if err := e.Close(); err != nil {
		t.Fatalf("crash before %s: %v", p.op, err)
	}
}
