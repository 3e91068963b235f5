package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// start opens an engine under a boot of the machine.
func start(t *testing.T, mode Mode, fs vfs.FS, boot string) *Engine {
	t.Helper()
	o := testOptions(t, mode, fs)
	o.BootID = func() (string, error) {
		if boot == "" {
			return "", errors.New("unknown")
		}
		return boot, nil
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func forgotten(t *testing.T, e *Engine, group uint64) error {
	t.Helper()
	l, err := e.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	return l.MayHaveForgotten()
}

// The right to vote after a restart: what stopped, and under which boot of the
// machine the next start is.
func TestMayHaveForgotten(t *testing.T) {
	for _, test := range []struct {
		mode   Mode
		clean  bool
		boot   string
		forgot bool
	}{
		{Memory, true, "boot 1", true},
		{Memory, false, "boot 1", true},
		{Async, true, "boot 1", false},
		{Async, true, "boot 2", false},
		{Async, true, "", false},
		{Async, false, "boot 1", false},
		{Async, false, "boot 2", true},
		{Async, false, "", true},
		{Sync, false, "boot 1", false},
		{Sync, false, "boot 2", false},
		{Sync, true, "", false},
	} {
		t.Run(fmt.Sprintf("%v/clean=%v/%s", test.mode, test.clean, test.boot), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			e := start(t, test.mode, fs, "boot 1")
			l, err := e.Create(7, Copy{ReplicaID: 2, Epoch: 3, Voters: clustertest.Voters})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.MayHaveForgotten(); err != nil {
				t.Errorf("a new copy: %v", err)
			}
			l.Append(cluster.Write{Entries: []*pb.Entry{data(1, 1, "x")}}, func(bool) {})
			if test.clean {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			for n := range 3 { // a reason outlives further starts, clean ones too
				next := start(t, test.mode, left, test.boot)
				err := forgotten(t, next, 7)
				if (err != nil) != test.forgot || err != nil && !errors.Is(err, cluster.ErrMayHaveForgotten) {
					t.Errorf("start %d: %v", n, err)
				}
				if c := next.mu.logs[7].Copy(); c.ReplicaID != 2 || c.Epoch != 3 || len(c.Voters) != 3 {
					t.Errorf("copy is %+v", c)
				}
				if n == 2 {
					// Only a new copy has nothing to forget.
					l, err := next.Create(7, Copy{ReplicaID: 9, Voters: clustertest.Voters})
					if err != nil || l.MayHaveForgotten() != nil {
						t.Error(err, l.MayHaveForgotten())
					}
				}
				if err := next.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !test.clean {
				_ = e.Close()
			}
			if test.mode != Memory {
				e := start(t, test.mode, left, "boot 7")
				defer e.Close()
				if err := forgotten(t, e, 7); err != nil {
					t.Errorf("the new copy after a clean stop: %v", err)
				}
			}
		})
	}
}

func TestDataGone(t *testing.T) {
	fs := vfs.NewMem()
	e := start(t, Sync, fs, "boot 1")
	if err := create(e, 7, 1); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll("log/" + dataDir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e = start(t, Sync, fs, "boot 1")
		groups, err := e.Groups()
		if err != nil || len(groups) != 1 || groups[0].ID != 7 {
			t.Fatal(groups, err)
		}
		if err := forgotten(t, e, 7); !errors.Is(err, cluster.ErrMayHaveForgotten) {
			t.Fatal(err)
		}
		l, _ := e.Open(7)
		if err := l.Checkpoint(cluster.Checkpoint{First: 1}); err == nil {
			t.Error("a checkpoint of nothing succeeds")
		}
		if c, err := l.Capture(); err != nil || c.Applied() != 0 || c.Close() != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSetAside(t *testing.T) {
	fs := vfs.NewMem()
	e := start(t, Sync, fs, "boot 1")
	if err := create(e, 7, 1); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range list(t, fs, "log/"+dataDir) {
		if strings.Contains(name, "MANIFEST") || strings.HasSuffix(name, ".sst") {
			rewrite(t, fs, name, func(b []byte) []byte { clear(b); return b })
		}
	}
	o := testOptions(t, Sync, fs)
	if _, err := Open(o); !errors.Is(err, ErrCorrupt) || !errors.Is(err, cluster.ErrMayHaveForgotten) {
		t.Fatal(err)
	}
	o.SetAside = true
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := forgotten(t, e, 7); err == nil || !strings.Contains(err.Error(), "set aside") {
		t.Error(err)
	}
	if ok, err := exists(fs, "log/data.corrupt-1"); !ok || err != nil {
		t.Error("the damaged data is gone", err)
	}
}

func TestRegistryDamaged(t *testing.T) {
	fs := vfs.NewMem()
	e := start(t, Sync, fs, "boot 1")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions(t, Sync, fs)
	rewrite(t, fs, "log/registry", func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
		t.Error("damaged:", err)
	}
	if err := fs.Remove("log/registry"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
		t.Error("removed:", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	fs := vfs.NewMem()
	e := start(t, Sync, fs, "boot 1")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Options){
		"another mode":      func(o *Options) { o.Mode = Async },
		"no mode":           func(o *Options) { o.Mode = 0 },
		"no directory":      func(o *Options) { o.Dir = "" },
		"negative interval": func(o *Options) { o.SyncInterval = -1 },
	} {
		o := testOptions(t, Sync, fs)
		edit(&o)
		if _, err := Open(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	e = start(t, Sync, fs, "boot 1")
	if _, err := e.Open(99); !errors.Is(err, ErrNoCopy) {
		t.Error(err)
	}
	if _, err := e.Create(0, Copy{ReplicaID: 1}); err == nil {
		t.Error("group 0 is accepted")
	}
	if err := e.Remove(99); err != nil {
		t.Error(err)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	_, err1 := e.Open(7)
	_, err2 := e.Create(7, Copy{ReplicaID: 1})
	_, err3 := e.Groups()
	for _, err := range []error{err1, err2, err3, e.Remove(7)} {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// On a real file system: the lock, and files where they should be.
func TestLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for _, mode := range []Mode{Memory, Sync} {
		o := Options{Dir: filepath.Join(dir, mode.String()), Mode: mode}
		e, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(o)
		var locked *LockedError
		if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.Dir != o.Dir || !strings.Contains(err.Error(), o.Dir) {
			t.Error(err)
		}
		if err := create(e, 7, 1); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if e, err = Open(o); err != nil {
			t.Fatal(err)
		}
		if err := forgotten(t, e, 7); (err != nil) != (mode == Memory) {
			t.Error(err)
		}
		if m := e.Metrics(); m.Mode != mode || m.Groups != 1 || !strings.Contains(m.String(), "groups 1") {
			t.Error(m)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(o.Dir, registryFile)); err != nil {
			t.Error(err)
		}
	}
}

func TestMark(t *testing.T) {
	m := mark{generation: 3, term: 5, vote: 2, lastTerm: 4, last: 10}
	for _, test := range []struct {
		found mark
		lost  bool
	}{
		{m, false},
		{mark{4, 1, 0, 1, 1}, false},
		{mark{2, 9, 9, 9, 99}, true},
		{mark{3, 5, 2, 4, 9}, true},
		{mark{3, 5, 2, 3, 99}, true},
		{mark{3, 5, 2, 5, 6}, false},
		{mark{3, 6, 0, 4, 10}, false},
		{mark{3, 4, 2, 4, 10}, true},
		{mark{3, 5, 0, 4, 10}, true},
	} {
		if got := m.missing(test.found); (got != "") != test.lost {
			t.Errorf("%+v: %q", test.found, got)
		}
	}
}

func TestWatermarkSlots(t *testing.T) {
	fs := vfs.NewMem()
	w, lost, err := openWatermark(fs, "")
	if err != nil || lost {
		t.Fatal(lost, err)
	}
	if err := w.fill(); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 5; i++ {
		w.set(7, mark{last: i})
		if err := w.write(w.take()); err != nil {
			t.Fatal(err)
		}
	}
	w.set(7, mark{last: 5})
	if w.take() != nil {
		t.Error("nothing changed and there is something to write")
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	want := uint64(5)
	for range 2 {
		w, lost, err = openWatermark(fs, "")
		if m, _ := w.get(7); err != nil || lost || m.last != want {
			t.Fatal(m, lost, err)
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		// The newer slot is torn: the older one counts.
		rewrite(t, fs, watermarkName(int(w.sequence%2)), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		want--
	}
	if _, lost, err = openWatermark(fs, ""); err != nil || !lost {
		t.Error("both slots are damaged:", lost, err)
	}
}
