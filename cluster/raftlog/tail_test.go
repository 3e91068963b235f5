package raftlog

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// data returns a normal entry.
func data(index, term uint64, content string) *pb.Entry {
	return newEntry(index, term, pb.EntryType_EntryNormal, []byte(content))
}

// newestLog returns the path of Pebble's newest log file.
func newestLog(t *testing.T, fs vfs.FS) string {
	t.Helper()
	name, _, err := newestLogFile(fs, path.Join("log", dataDir))
	if err != nil || name == "" {
		t.Fatal(name, err)
	}
	return path.Join("log", dataDir, name)
}

// rewrite edits a file.
func rewrite(t *testing.T, fs vfs.FS, name string, edit func([]byte) []byte) {
	t.Helper()
	content, err := readFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(edit(content)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil && err != io.EOF {
		t.Fatal(err)
	}
}

// After a power cut in mode async a hole in the unsynced end of the log must cost
// what is behind it and no more: all members may have lost power.
func TestTornTail(t *testing.T) { shelves(t, tornTail) }

func tornTail(t *testing.T, journal bool) {
	fs := vfs.NewCrashableMem()
	o := testOptions(t, Async, fs)
	o.inPebble, o.SegmentBytes = !journal, 1<<20
	s := newSubject(t, o)
	d := clustertest.NewModel(clustertest.Voters)
	const count = 250
	for i := uint64(1); i <= count; i++ {
		w := cluster.Write{Entries: []*pb.Entry{data(i, 1, strings.Repeat(fmt.Sprint(i, "."), 200))}}
		s.Log().Append(w, func(bool) {})
		d.Append(w)
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	newest := newestLog(t, after)
	if journal {
		segments := list(t, after, "log/"+dataDir+"/"+journalDir)
		newest = segments[len(segments)-1]
	}
	rewrite(t, after, newest, func(b []byte) []byte {
		if len(b) < 128<<10 {
			t.Fatalf("the log has only %d bytes", len(b))
		}
		clear(b[60<<10 : 64<<10])
		return b
	})
	o.FS = after
	o.BootID = func() (string, error) { return "boot 2", nil }
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := e.Open(7)
	if err != nil {
		t.Fatal(err)
	}
	if l.MayHaveForgotten() == nil {
		t.Error("the copy does not say that it may have forgotten")
	}
	last, _ := l.LastIndex()
	if last < 60 || last >= count {
		t.Errorf("%d entries are left", last)
	}
	got, err := l.Entries(1, last+1, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		if d.Entries[e.GetIndex()].Data != string(e.GetData()) {
			t.Fatalf("entry %d differs", e.GetIndex())
		}
	}
}
