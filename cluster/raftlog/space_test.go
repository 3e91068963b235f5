package raftlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// The bytes of entries that died come back while the stream goes on, whether they
// die in order or one in ten stays, and whether or not somebody captures the state
// and reads slowly. BenchmarkStream shows the same at full size.
func TestSpaceComesBack(t *testing.T) {
	for name, keep := range map[string]uint64{"in order": 0, "one in ten stays": 10} {
		for saves, held := range map[string]int{"nobody saves": 0, "a save that stands": 1, "saves that overlap": 2} {
			t.Run(name+"/"+saves, func(t *testing.T) { spaceComesBack(t, keep, held) })
		}
	}
}

func spaceComesBack(t *testing.T, keep uint64, held int) {
	fs := vfs.NewMem()
	o := testOptions(t, Async, fs)
	o.MemTableBytes = 256 << 10
	o.SegmentBytes = 256 << 10
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	const (
		size  = 4 << 10
		count = 8 << 10 // 32 MiB
		lag   = 256     // 1 MiB
		every = 64
	)
	body := strings.Repeat("x", size)
	most := int64(0)
	var saves openSaves
	for i := uint64(1); i <= count; i++ {
		l.Append(cluster.Write{Entries: []*pb.Entry{data(i, 1, body)}}, func(bool) {})
		if i%every != 0 {
			continue
		}
		c := cluster.Checkpoint{Applied: i, First: i + 1}
		if i > lag {
			c.Dead = deadRanges(i-lag-every+1, i-lag+1, keep)
		}
		if keep > 0 && i > 4*lag {
			// What stayed dies later, one by one.
			for at := i - 4*lag - every + 1; at <= i-4*lag; at++ {
				if at%keep == 0 {
					c.Dead = append(c.Dead, cluster.Range{Lo: at, Hi: at + 1})
				}
			}
		}
		if err := l.Checkpoint(c); err != nil {
			t.Fatal(err)
		}
		if i%(8*every) == 0 && i > lag && (held == 2 || held == 1 && len(saves) == 0) {
			saves.add(t, l, cluster.Range{Lo: i - lag + 1, Hi: i + 1}, held)
		}
		if err := e.note(); err != nil { // which releases
			t.Fatal(err)
		}
		most = max(most, fsSize(t, fs, "log/"+dataDir)+fsSize(t, fs, "log/"+dataDir+"/"+journalDir))
	}
	for len(saves) > 0 {
		saves.end(t)
	}
	t.Logf("at most %d KiB; %v", most>>10, e.Metrics())
	if most > 16<<20 {
		t.Errorf("32 MiB of which about 1 MiB is alive took %d KiB", most>>10)
	}
}

// openSaves are captures, and of each what is alive in it, at least.
type openSaves []struct {
	cluster.Capture
	live cluster.Range
}

// add opens one more, and closes the oldest if there are more than most.
func (s *openSaves) add(t *testing.T, l *Log, live cluster.Range, most int) {
	t.Helper()
	c, err := l.Capture()
	if err != nil {
		t.Fatal(err)
	}
	*s = append(*s, struct {
		cluster.Capture
		live cluster.Range
	}{c, live})
	if len(*s) > most {
		s.end(t)
	}
}

// end reads the oldest and closes it.
func (s *openSaves) end(t *testing.T) {
	t.Helper()
	c := (*s)[0]
	*s = (*s)[1:]
	n := uint64(0)
	err := c.Entries([]cluster.Range{c.live}, func(uint64, []byte) error {
		n++
		return nil
	})
	if err == nil && n != c.live.Hi-c.live.Lo {
		err = fmt.Errorf("%d entries of %v", n, c.live)
	}
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
}

// deadRanges is [lo,hi) without what can be divided by keep.
func deadRanges(lo, hi, keep uint64) []cluster.Range {
	if keep == 0 {
		return []cluster.Range{{Lo: lo, Hi: hi}}
	}
	var dead []cluster.Range
	for i := lo; i < hi; i++ {
		switch n := len(dead); {
		case i%keep == 0:
		case n > 0 && dead[n-1].Hi == i:
			dead[n-1].Hi++
		default:
			dead = append(dead, cluster.Range{Lo: i, Hi: i + 1})
		}
	}
	return dead
}

func fsSize(t *testing.T, fs vfs.FS, dir string) int64 {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, name := range names {
		// It may be gone by now.
		if info, err := fs.Stat(dir + "/" + name); err == nil {
			n += info.Size()
		}
	}
	return n
}
