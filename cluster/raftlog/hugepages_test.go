package raftlog

import (
	"math"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

func TestRoomIsMadeAheadOfWhatIsKept(t *testing.T) {
	var made []int64
	enough := math.MaxInt
	r := newRoom(func(n int64) bool {
		made = append(made, n>>20)
		return len(made) < enough
	})
	var making sync.WaitGroup
	keep := func(mib int64) {
		r.keep(mib<<20, &making)
		making.Wait()
	}
	keep(7)
	if len(made) > 0 {
		t.Errorf("%d MiB made for 7", made)
	}
	for range 600 {
		keep(8)
		if have := r.made.Load(); have < 2*r.kept.Load()-roomFrom {
			t.Fatalf("room of %d MiB for %d", have>>20, r.kept.Load()>>20)
		}
	}
	if want := []int64{512, 512, 1024, 2048, 2048, 2048, 2048}; !slices.Equal(made, want) {
		t.Errorf("made %d MiB, want %d", made, want)
	}
	n := len(made)
	keep(-4000)
	keep(4000)
	if len(made) != n {
		t.Errorf("room was made again for what had room before: %d MiB", made[n:])
	}
	enough = n + 1
	keep(1 << 20)
	keep(1 << 20)
	if len(made) != n+1 {
		t.Errorf("asked %d times after a refusal", len(made)-n-1)
	}
}

// TestMemoryCountsWhatItKeeps goes through all that makes entries come and go.
func TestMemoryCountsWhatItKeeps(t *testing.T) {
	s := newMemoryShelf(1)
	s.room = newRoom(func(int64) bool { return false })
	put := func(generation uint32, indexes ...uint64) *change {
		c := &change{group: 7, generation: generation}
		for _, i := range indexes {
			c.entries = append(c.entries, &pb.Entry{Index: &i, Data: make([]byte, 100*i)})
		}
		return c
	}
	const each = overhead
	cut := put(1, 3)
	cut.cut = cluster.Range{Lo: 3, Hi: 5}
	dead := &change{group: 7, generation: 1, dead: []cluster.Range{{Lo: 1, Hi: 2}}}
	dropped := put(2, 6)
	dropped.drop = 1
	gone := &change{group: 7, generation: 2, drop: 2, remove: true}
	for i, step := range []struct {
		changes []*change
		want    int64
	}{
		{[]*change{put(1, 1, 2), put(1, 3, 4)}, 1000 + 4*each},
		{[]*change{cut}, 600 + 3*each},
		{[]*change{put(1, 3)}, 600 + 3*each},
		{[]*change{dead}, 500 + 2*each},
		{[]*change{put(2, 5)}, 1000 + 3*each},
		{[]*change{dropped}, 1100 + 2*each},
		{[]*change{gone}, 0},
		{[]*change{put(3, 9)}, 900 + each},
	} {
		s.commit(step.changes, false)
		if got := s.room.kept.Load(); got != step.want {
			t.Errorf("step %d: %d bytes are kept, want %d", i, got, step.want)
		}
	}
	for range 2 {
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if got := s.room.kept.Load(); got != 0 {
			t.Errorf("%d bytes are kept by a shelf that is closed", got)
		}
	}
}
