package raftlog

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

func appendBodies(l *Log, from, to uint64) {
	for i := from; i <= to; i++ {
		l.Append(cluster.Write{Entries: []*pb.Entry{data(i, 1, strings.Repeat("x", 500))}}, func(bool) {})
	}
	l.drain()
}

// A power cut in mode async may leave Pebble ahead of the journal. The numbers of
// the segments that it names are not used again: what comes to lie there would be
// taken for what was lost.
func TestLostNumbersAreNotUsedAgain(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(t, Async, steady{fs})
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	appendBodies(l, 1, 3)
	if err := e.note(); err != nil {
		t.Fatal(err)
	}
	appendBodies(l, 4, 40)
	if err := l.Checkpoint(cluster.Checkpoint{Applied: 40, First: 41}); err != nil {
		t.Fatal(err)
	}
	e.disk.syncDeferred() // as the system may by itself
	crashed := steady{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	o.FS = crashed
	o.BootID = func() (string, error) { return "boot 2", nil }
	if e, err = Open(o); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if l, err = e.Create(7, Copy{ReplicaID: 2, Voters: clustertest.Voters}); err != nil {
		t.Fatal(err)
	}
	appendBodies(l, 1, 60)
	for i := uint64(1); i <= 30; i++ {
		if err := l.Checkpoint(cluster.Checkpoint{Applied: 60, First: 61, Dead: []cluster.Range{{Lo: i, Hi: i + 1}}}); err != nil {
			t.Fatal(err)
		}
		if err := e.note(); err != nil {
			t.Fatal(err)
		}
	}
	for n, bytes := range e.journal.where.live {
		if bytes < 0 {
			t.Errorf("segment %d has %d bytes", n, bytes)
		}
	}
	l.mu.cache.drop(cluster.Range{Lo: 0, Hi: 1 << 62}, nil)
	for i := uint64(31); i <= 60; i++ {
		if _, err := l.Command(i); err != nil {
			t.Errorf("entry %d, which is needed: %v", i, err)
		}
	}
}

// Who reads a capture may take its time: meanwhile appends and captures go on. If
// they did not, this test would wait for itself.
func TestSlowReaderHoldsNothing(t *testing.T) {
	for _, mode := range []Mode{Async, Sync} {
		e, err := Open(testOptions(t, mode, vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
		if err != nil {
			t.Fatal(err)
		}
		appendBodies(l, 1, 5)
		if err := l.Checkpoint(cluster.Checkpoint{Applied: 5, First: 1}); err != nil {
			t.Fatal(err)
		}
		l.drain()
		c, err := l.Capture()
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = c.Entries([]cluster.Range{{Lo: 1, Hi: 6}}, func(index uint64, _ []byte) error {
			seen++
			other, err := l.Capture()
			if err != nil {
				return err
			}
			appendBodies(l, 5+index, 5+index)
			return errors.Join(other.Close(), e.note())
		})
		if err != nil || seen != 5 {
			t.Errorf("%v: %d entries, %v", mode, seen, err)
		}
		if err := errors.Join(c.Close(), c.Close(), e.Close()); err != nil {
			t.Error(err)
		}
		if len(e.journal.where.pins) != 0 {
			t.Errorf("%d pins are left", len(e.journal.where.pins))
		}
	}
}

// A damaged place in Pebble condemns who reads the entry, not the engine: the
// others open, and the copy can be replaced.
func TestDamagedPosition(t *testing.T) {
	o := testOptions(t, Sync, vfs.NewMem())
	o.Logger = nil
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	appendBodies(l, 1, 5)
	if err := l.Checkpoint(cluster.Checkpoint{Applied: 5, First: 6}); err != nil {
		t.Fatal(err)
	}
	l.drain()
	key := positionKey(l.mu.generation, 3)
	v, closer, err := e.journal.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), v...)
	bad[len(bad)-1] ^= 1
	if err := errors.Join(closer.Close(), e.journal.db.Set(key, bad, pebble.Sync), e.Close()); err != nil {
		t.Fatal(err)
	}
	if e, err = Open(o); err != nil {
		t.Fatal(err)
	}
	if l, err = e.Open(7); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 5; i++ {
		_, err := l.Command(i)
		if i == 3 {
			wantCorrupt(t, err)
		} else if err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if _, err := e.Create(7, Copy{ReplicaID: 2, Voters: clustertest.Voters}); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// A write that comes when the engine is closed is dropped: it does not end the
// process, and a reader is told so.
func TestWriteAfterClose(t *testing.T) {
	e, err := Open(testOptions(t, Async, vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	appendBodies(l, 1, 5)
	c := l.take(cluster.Write{Entries: []*pb.Entry{data(6, 1, "x")}})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e.shelf.commit([]*change{c}, true)
	if err := e.shelf.scan(c.generation, cluster.Range{Lo: 1, Hi: 2}, func(*pb.Entry) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}
