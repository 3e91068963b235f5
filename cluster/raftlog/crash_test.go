package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
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

// steady is a MemFS without its own ReuseForWrite, which takes a lock for reading
// twice, and so waits for ever if a copy of the disk is asked for in between.
type steady struct{ *vfs.MemFS }

func (f steady) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return f.OpenReadWrite(newname, category)
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

// past is what was asked of a log: the models behind each step, and what the step
// appended.
type past struct {
	models []*clustertest.Model
	writes []cluster.Write // of the step with the same number
}

// noting keeps the last write.
type noting struct {
	cluster.Log
	last cluster.Write
}

func (l *noting) Append(w cluster.Write, done func(here bool)) (waits bool) {
	l.last = w
	return l.Log.Append(w, done)
}

// crashRun runs a random workload and returns the crash points and what was asked.
func crashRun(t *testing.T, o Options, seed uint64, steps, percent int) ([]crashPoint, *past) {
	r := &recorder{fs: vfs.NewCrashableMem(), percent: percent, rng: rand.New(rand.NewPCG(seed, 2))}
	o.FS = errorfs.Wrap(steady{r.fs}, r)
	s := newSubject(t, o)
	d := clustertest.NewDriver(seed, clustertest.Voters)
	d.Sealed = seed%2 == 1
	p := &past{models: []*clustertest.Model{d.Model.Clone()}, writes: make([]cluster.Write, 1)}
	r.record(true)
	// Captures are open most of the time, so that what they hold is there at crashes
	// and what is newer is released before it.
	var capture cluster.Capture
	var captured *clustertest.Model
	for n := 1; n <= steps; n++ {
		r.issued.Store(int64(n))
		// done may run before Step has said what it confirms, or after.
		var done, durable atomic.Bool
		confirm := func() {
			if done.Load() && durable.Load() {
				r.acked.Store(max(r.acked.Load(), int64(n)))
			}
		}
		l := &noting{Log: s.Log()}
		did, err := d.Step(l, func() {
			done.Store(true)
			confirm()
		})
		if err != nil {
			t.Fatal(did.What, err)
		}
		durable.Store(did.Durable)
		confirm()
		p.models, p.writes = append(p.models, d.Model.Clone()), append(p.writes, l.last)
		switch n % 8 {
		case 3:
			s.Settle()
			if n%24 != 3 {
				continue
			}
			if capture != nil {
				if err := errors.Join(captured.CompareCapture(capture), capture.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if capture, err = s.Log().Capture(); err != nil {
				t.Fatal(err)
			}
			captured = d.Model.Clone()
		case 6:
			if err := s.engine.note(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Settle()
	if err := errors.Join(captured.CompareCapture(capture), capture.Close()); err != nil {
		t.Fatal(err)
	}
	r.record(false)
	return r.points, p
}

func crashOptions(t *testing.T, mode Mode, fs vfs.FS) Options {
	o := testOptions(t, mode, fs)
	o.MemTableBytes = 32 << 10 // so that flushes and compactions happen
	o.eager = true
	return o
}

// compare compares a log with what it may hold: a number of steps between what was
// confirmed and what had been asked for. With a journal, checkpoints that nobody
// was promised may be missing: they are made again from the log.
func (p *past) compare(l cluster.Log, least, issued int, journal bool) error {
	var last error
	for n := issued; n >= least; n-- {
		for m := n; m >= 0; m-- {
			model := p.models[m]
			if m < n {
				model = model.Clone()
			}
			for _, w := range p.writes[m+1 : n+1] {
				model.Append(w)
			}
			err := model.Compare(l, true)
			if err == nil {
				return nil
			}
			if m == n {
				last = err
			}
			if !journal || p.writes[m].Install != nil {
				break
			}
		}
	}
	return fmt.Errorf("the log is like none of the models %d to %d; the last difference: %w", least, issued, last)
}

func TestCrashEverywhere(t *testing.T) { shelves(t, crashEverywhere) }

func crashEverywhere(t *testing.T, journal bool) {
	for _, test := range []struct {
		mode    Mode
		percent int // of what was not synced that survives; 100 is the end of the process
	}{{Sync, 0}, {Sync, 100}, {Sync, 50}, {Async, 100}, {Async, 0}, {Async, 50}} {
		t.Run(fmt.Sprintf("%v/%d", test.mode, test.percent), func(t *testing.T) {
			steps := 200
			if test.percent == 50 {
				steps = 120
			}
			o := crashOptions(t, test.mode, nil)
			o.inPebble = !journal
			points, p := crashRun(t, o, 1, steps, test.percent)
			if len(points) < 60 {
				t.Fatalf("only %d crash points", len(points))
			}
			for n, at := range points {
				// Pebble looks for a flipped bit in every torn block, which takes
				// long.
				every := sparse
				if test.percent == 50 {
					every *= 6
				}
				if n%every == 0 {
					p.recovered(t, at, o, test.percent == 100)
				}
			}
		})
	}
}

// recovered opens what a crash left and compares it with what was asked.
func (p *past) recovered(t *testing.T, at crashPoint, o Options, sameBoot bool) {
	t.Helper()
	o.FS = at.disk
	if !sameBoot {
		o.BootID = func() (string, error) { return "boot 2", nil }
	}
	e, err := Open(o)
	if err != nil {
		t.Fatalf("crash before %s: %v", at.op, err)
	}
	l, err := e.Open(7)
	if err != nil {
		t.Fatalf("crash before %s: %v", at.op, err)
	}
	forgot := l.MayHaveForgotten()
	if (forgot != nil) != (o.Mode == Async && !sameBoot) {
		t.Fatalf("crash before %s: forgot: %v", at.op, forgot)
	} else if forgot != nil && !errors.Is(forgot, cluster.ErrMayHaveForgotten) {
		t.Fatal(forgot)
	}
	// Of what was forgotten, a journal and its Pebble may remember different parts.
	switch {
	case forgot == nil:
		err = p.compare(l, at.acked, at.issued, !o.inPebble)
	case o.inPebble:
		err = p.compare(l, 0, at.issued, false)
	}
	if err != nil {
		t.Fatalf("crash before %s: %v", at.op, err)
	}
	if err := e.Close(); err != nil {
		t.Fatalf("crash before %s: %v", at.op, err)
	}
}

// A crash while copies come and go: what Create or Remove has returned from
// holds, and every start succeeds.
func TestCrashCopies(t *testing.T) { shelves(t, crashCopies) }

func crashCopies(t *testing.T, journal bool) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		t.Run(mode.String(), func(t *testing.T) {
			r := &recorder{fs: vfs.NewCrashableMem(), on: true}
			steps := []func(*Engine) error{
				func(*Engine) error { return nil }, // Open
				func(e *Engine) error { return create(e, 7, 1) },
				func(e *Engine) error { return create(e, 8, 1) },
				func(e *Engine) error { return create(e, 7, 2) },
				func(e *Engine) error { return e.Remove(8) },
				func(e *Engine) error { return e.Close() },
			}
			// What is there behind each step: the replica of each group.
			after := []map[uint64]uint64{{}, {7: 1}, {7: 1, 8: 1}, {7: 2, 8: 1}, {7: 2}, {7: 2}}
			o := crashOptions(t, mode, errorfs.Wrap(steady{r.fs}, r))
			o.inPebble = !journal
			e, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for n, step := range steps {
				r.issued.Store(int64(n))
				if err := step(e); err != nil {
					t.Fatal(err)
				}
				r.acked.Store(int64(n))
			}
			for n, p := range r.points {
				if n == 0 || n%sparse != 0 {
					continue // before the first, not even the directory is there
				}
				copiesAfter(t, o, p, after[p.acked], after[p.issued])
			}
		})
	}
}

func create(e *Engine, group, replica uint64) error {
	_, err := e.Create(group, Copy{ReplicaID: replica, Voters: clustertest.Voters})
	return err
}

// copiesAfter opens what a crash left. It must hold the copies of before or after
// the step that was under way, each group for itself.
func copiesAfter(t *testing.T, o Options, p crashPoint, before, after map[uint64]uint64) {
	t.Helper()
	o.FS = p.disk
	e, err := Open(o)
	if err != nil {
		t.Fatalf("crash before %s: %v", p.op, err)
	}
	groups, err := e.Groups()
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]uint64{}
	for _, g := range groups {
		found[g.ID] = g.Copy.ReplicaID
		// Or a later power cut could not be held against the copy.
		if known := e.mu.registry.find(g.ID); known == nil || known.Replica != g.Copy.ReplicaID {
			t.Errorf("crash before %s: the registry has %+v of group %d, which is replica %d", p.op, known, g.ID, g.Copy.ReplicaID)
		}
		l, err := e.Open(g.ID)
		if err != nil {
			t.Fatalf("crash before %s: group %d: %v", p.op, g.ID, err)
		}
		removing := after[g.ID] == 0
		if forgot := l.MayHaveForgotten(); o.Mode != Memory && forgot != nil && !removing {
			t.Errorf("crash before %s: %v", p.op, forgot)
		} else if o.Mode == Memory && forgot == nil {
			t.Errorf("crash before %s: group %d was in memory and has not forgotten", p.op, g.ID)
		}
	}
	for group := uint64(7); group <= 8; group++ {
		if found[group] != before[group] && found[group] != after[group] {
			t.Errorf("crash before %s: group %d is replica %d, want %d or %d", p.op, group, found[group], before[group], after[group])
		}
	}
	if err := e.Close(); err != nil {
		t.Errorf("crash before %s: %v", p.op, err)
	}
}

// Crash after crash: what one opening left is what the next begins with.
func TestCrashAgain(t *testing.T) {
	for _, mode := range []Mode{Sync, Async} {
		t.Run(mode.String(), func(t *testing.T) {
			for seed := range uint64(max(2, 10/sparse)) {
				crashAgain(t, mode, seed)
			}
		})
	}
}

func crashAgain(t *testing.T, mode Mode, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	fs := vfs.NewCrashableMem()
	d := clustertest.NewDriver(seed, clustertest.Voters)
	for round := range 12 {
		o := crashOptions(t, mode, steady{fs})
		o.SyncInterval = time.Millisecond // beside the steps
		o.eager = rng.IntN(2) == 0
		e, err := Open(o)
		if err != nil {
			t.Fatalf("seed %d round %d: %v", seed, round, err)
		}
		var l *Log
		if round == 0 {
			l, err = e.Create(7, Copy{ReplicaID: 2, Voters: clustertest.Voters})
		} else {
			l, err = e.Open(7)
		}
		if err == nil && l.MayHaveForgotten() != nil {
			err = l.MayHaveForgotten()
		}
		if err == nil {
			err = d.Model.Compare(l, true)
		}
		if err != nil {
			t.Fatalf("seed %d round %d: %v", seed, round, err)
		}
		for range rng.IntN(60) {
			if did, err := d.Step(l, func() {}); err != nil {
				t.Fatalf("seed %d round %d: %s: %v", seed, round, did.What, err)
			}
		}
		l.drain()
		// With this the model is exact: else checkpoints might be missing.
		if err := e.journal.db.LogData(nil, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
