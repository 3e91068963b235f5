package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// Damage condemns the group that needs what is in it, and no other: with
// the log in it the copy does not open; with older messages in it, reading those
// fails.
func TestDamaged(t *testing.T) { shelves(t, damagedEntries) }

func damagedEntries(t *testing.T, journal bool) {
	for _, first := range []uint64{1, 201} {
		t.Run(fmt.Sprint("first ", first), func(t *testing.T) {
			o := testOptions(t, Sync, vfs.NewMem())
			o.Logger = nil
			o.inPebble = !journal
			o.tune = func(o *pebble.Options) {
				// Pebble tries every bit of a damaged block: let it be small.
				for i := range o.Levels {
					o.Levels[i].BlockSize = 4 << 10
				}
			}
			open := func() *Engine {
				e, err := Open(o)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			e := open()
			body := strings.Repeat("x", 1000)
			for group := uint64(7); group <= 8; group++ {
				l, err := e.Create(group, Copy{ReplicaID: 1, Voters: clustertest.Voters})
				if err != nil {
					t.Fatal(err)
				}
				var entries []*pb.Entry
				for i := uint64(1); group == 7 && i <= 200; i++ {
					entries = append(entries, data(i, 1, fmt.Sprint(i, body)))
				}
				l.Append(cluster.Write{Entries: append(entries, data(uint64(len(entries)+1), 1, "last"))}, func(bool) {})
				l.drain()
				if group == 7 {
					if err := l.Checkpoint(cluster.Checkpoint{Applied: 200, First: first}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if p, ok := e.shelf.(*pebbleShelf); ok {
				if err := p.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if journal {
				damageRecord(t, o.FS, fmt.Sprint(77, body))
			} else {
				damageLargestTable(t, o.FS)
			}
			e = open()
			defer e.Close()
			if l, err := e.Open(8); err != nil || l.MayHaveForgotten() != nil {
				t.Errorf("the other group: %v", err)
			}
			l, err := e.Open(7)
			if first == 1 {
				wantCorrupt(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			bad := 0
			for i := uint64(1); i <= 200; i++ {
				got, err := l.Command(i)
				if err != nil {
					wantCorrupt(t, err)
					bad++
				} else if string(got) != fmt.Sprint(i, body) {
					t.Errorf("entry %d is wrong", i)
				}
			}
			c, err := l.Capture()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			wantCorrupt(t, c.Entries([]cluster.Range{{Lo: 1, Hi: 201}}, func(uint64, []byte) error { return nil }))
			if bad == 0 || bad == 200 || e.Metrics().Damage == 0 {
				t.Errorf("%d entries are bad; %v", bad, e.Metrics())
			}
		})
	}
}

func damageLargestTable(t *testing.T, fs vfs.FS) {
	t.Helper()
	largest, size := "", int64(0)
	for _, name := range list(t, fs, "log/"+dataDir) {
		if info, err := fs.Stat(name); err == nil && strings.HasSuffix(name, ".sst") && info.Size() > size {
			largest, size = name, info.Size()
		}
	}
	if size < 100<<10 {
		t.Fatalf("the largest table has %d bytes", size)
	}
	rewrite(t, fs, largest, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
}

// damageRecord flips a bit in the data of the journal's record with it.
func damageRecord(t *testing.T, fs vfs.FS, content string) {
	t.Helper()
	for _, name := range list(t, fs, "log/"+dataDir+"/"+journalDir) {
		rewrite(t, fs, name, func(b []byte) []byte {
			if at := bytes.Index(b, []byte(content)); at >= 0 {
				b[at+len(content)/2] ^= 1
			}
			return b
		})
	}
}

func wantCorrupt(t *testing.T, err error) {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || c.Group != 7 || c.Index == 0 {
		t.Errorf("%v", err)
	}
}
