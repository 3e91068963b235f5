package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// A write or a sync that fails must end the process: what was confirmed before is
// on disk, and nothing is confirmed afterwards. Each operation of a workload
// fails once.
func TestFailedOperation(t *testing.T) { shelves(t, failedOperation) }

func failedOperation(t *testing.T, journal bool) {
	kinds := map[string]func(errorfs.Op) bool{
		"sync":  func(op errorfs.Op) bool { return op.Kind >= errorfs.OpFileSync && op.Kind <= errorfs.OpFileSyncTo },
		"write": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt },
	}
	for name, match := range kinds {
		for _, mode := range []Mode{Sync, Async} {
			t.Run(fmt.Sprint(name, "/", mode), func(t *testing.T) {
				total := failAt(t, mode, journal, match, 1<<40)
				for at := int64(1); at <= total; at += max(1, sparse*total/40) {
					failAt(t, mode, journal, match, at)
				}
			})
		}
	}
}

// failAt lets the n-th matching operation and all behind it fail, and returns how
// many there were.
func failAt(t *testing.T, mode Mode, journal bool, match func(errorfs.Op) bool, n int64) int64 {
	t.Helper()
	mem := vfs.NewCrashableMem()
	var count atomic.Int64
	var on atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && match(op) && count.Add(1) >= n {
			return errorfs.ErrInjected
		}
		return nil
	}))
	o := crashOptions(t, mode, fs)
	o.inPebble = !journal
	died := make(chan struct{})
	once := sync.OnceFunc(func() { close(died) })
	o.Fatal = func(error) { once() }
	o.Logger = nil
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Create(7, Copy{ReplicaID: 2, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	const steps = 80
	asked := pastOf(t, 3, steps)
	on.Store(true)
	var acked, issued atomic.Int64
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		work(clustertest.NewDriver(3, clustertest.Voters), l, e, steps, &issued, &acked)
		l.drain()
		on.Store(false)
		// A failure in the background may still come first.
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-finished:
		return count.Load()
	case <-died:
	}
	// The engine is lost, as is the process. What is on disk must be enough.
	percent := 0
	if mode == Async {
		percent = 100
	}
	p := crashPoint{op: fmt.Sprint("failure ", n), acked: int(acked.Load())}
	p.disk = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 1))})
	p.issued = int(issued.Load())
	o = crashOptions(t, mode, nil)
	o.inPebble = !journal
	asked.recovered(t, p, o, true)
	return count.Load()
}

// pastOf returns what a driver asks of a log.
func pastOf(t *testing.T, seed uint64, steps int) *past {
	t.Helper()
	d := clustertest.NewDriver(seed, clustertest.Voters)
	mem := clustertest.NewMemLog(clustertest.Memory, 1, clustertest.Voters)
	p := &past{models: []*clustertest.Model{d.Model.Clone()}, writes: make([]cluster.Write, 1)}
	for range steps {
		l := &noting{Log: mem}
		if _, err := d.Step(l, func() {}); err != nil {
			t.Fatal(err)
		}
		p.models, p.writes = append(p.models, d.Model.Clone()), append(p.writes, l.last)
	}
	return p
}

// work drives a log. It stops, or sleeps for ever, when something is fatal.
func work(d *clustertest.Driver, l *Log, e *Engine, steps int, issued, acked *atomic.Int64) {
	for n := 1; n <= steps; n++ {
		issued.Store(int64(n))
		var done, durable atomic.Bool
		confirm := func() {
			if done.Load() && durable.Load() {
				acked.Store(max(acked.Load(), int64(n)))
			}
		}
		did, err := d.Step(l, func() {
			done.Store(true)
			confirm()
		})
		if err != nil {
			return
		}
		durable.Store(did.Durable)
		confirm()
		if n%8 == 6 && e.note() != nil {
			return
		}
		// Let the worker run, so that failures fall between steps too.
		for range 10 {
			runtime.Gosched()
		}
	}
}

// Pebble goes on after Fatalf as if all were well, and would confirm what a failed
// sync has lost. So Fatalf must not return, even if the hook does.
func TestFatalDoesNotReturn(t *testing.T) {
	told, wentOn := make(chan struct{}), make(chan struct{})
	o := Options{Fatal: func(error) { close(told) }}
	o.setDefaults()
	go func() {
		defer close(wentOn) // also if the goroutine ends
		(&pebbleLogger{opts: &o}).Fatalf("sync %d", 1)
	}()
	<-told
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-wentOn:
		t.Error("Fatalf returned")
	default:
	}
}

// Damage is never served as a shorter log: after a flipped bit or a lost end, a
// start refuses, or the copy says that it may have forgotten, or nothing is
// missing but checkpoints at the end of Pebble's log, which the entries make again.
func TestDamage(t *testing.T) {
	outcomes := map[string]int{}
	for name, memtable := range map[string]uint64{"tables": 32 << 10, "log": 4 << 20} {
		t.Run(name, func(t *testing.T) { damageEverywhere(t, memtable, outcomes) })
	}
	t.Log(outcomes)
	if outcomes["refused"] == 0 || outcomes["may have forgotten"] == 0 || outcomes["same"] == 0 {
		t.Error("not every outcome was seen, so the test shows nothing")
	}
}

func damageEverywhere(t *testing.T, memtable uint64, outcomes map[string]int) {
	mem := vfs.NewCrashableMem()
	o := crashOptions(t, Sync, mem)
	o.MemTableBytes = memtable
	s := newSubject(t, o)
	d := clustertest.NewDriver(5, clustertest.Voters)
	d.Large = 20000
	p := &past{models: []*clustertest.Model{d.Model.Clone()}, writes: make([]cluster.Write, 1)}
	for range 100 {
		l := &noting{Log: s.Log()}
		if _, err := d.Step(l, func() {}); err != nil {
			t.Fatal(err)
		}
		p.models, p.writes = append(p.models, d.Model.Clone()), append(p.writes, l.last)
	}
	s.Settle()
	if err := s.engine.note(); err != nil {
		t.Fatal(err)
	}
	image := func() *vfs.MemFS { return mem.CrashClone(vfs.CrashCloneCfg{}) }
	for _, name := range append(list(t, image(), "log"), list(t, image(), "log/"+dataDir)...) {
		content, err := readFile(image(), name)
		if err != nil || len(content) == 0 {
			continue
		}
		rng := rand.New(rand.NewPCG(1, uint64(len(content))))
		for at := rng.IntN(min(len(content), 2048)); at < len(content); at += sparse * (2048 + rng.IntN(12<<10)) {
			for what, edit := range map[string]func([]byte) []byte{
				"bit flipped": func(b []byte) []byte { b[at] ^= 1 << rng.IntN(8); return b },
				"cut off":     func(b []byte) []byte { return b[:at] },
			} {
				fs := image()
				rewrite(t, fs, name, edit)
				outcome := damaged(t, fs, p)
				outcomes[outcome]++
				if outcome == "serves less" {
					t.Errorf("%s: %s at %d of %d: serves less and says nothing", name, what, at, len(content))
				}
			}
		}
	}
}

func list(t *testing.T, fs vfs.FS, dir string) []string {
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, n := range names {
		if info, err := fs.Stat(dir + "/" + n); err == nil && !info.IsDir() && !strings.HasSuffix(n, "LOCK") {
			files = append(files, dir+"/"+n)
		}
	}
	return files
}

// damaged opens a damaged disk and says what became of it.
func damaged(t *testing.T, fs *vfs.MemFS, p *past) string {
	o := crashOptions(t, Sync, fs)
	o.Logger = nil
	var fatals atomic.Int64
	o.Fatal = func(error) { fatals.Add(1) }
	result := make(chan string, 1)
	go func() {
		outcome := "refused" // also if this goroutine ends
		defer func() { result <- outcome }()
		e, err := Open(o)
		if err != nil {
			return
		}
		defer func() { _ = e.Close() }()
		l, err := e.Open(7)
		switch {
		case errors.Is(err, ErrCorrupt):
			return
		case err != nil:
			outcome = fmt.Sprint("odd error: ", err)
			return
		case l.MayHaveForgotten() != nil:
			outcome = "may have forgotten"
			return
		}
		err = p.compare(l, len(p.models)-1, len(p.models)-1, true)
		switch {
		case err == nil:
			outcome = "same"
		case errors.Is(err, ErrCorrupt):
			outcome = "refused on read"
		default:
			outcome = "serves less"
			t.Log(err)
		}
	}()
	return <-result
}
