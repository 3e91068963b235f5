package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// Many groups share an engine: each has its own order and its own content,
// whoever reads meanwhile.
func TestManyGroups(t *testing.T) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		t.Run(mode.String(), func(t *testing.T) {
			o := testOptions(t, mode, vfs.NewMem())
			o.CacheBytes = 64 << 10
			o.MemTableBytes = 256 << 10
			e, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			models := make([]*clustertest.Model, 6)
			for g := range models {
				all.Go(func() {
					models[g] = driveGroup(t, e, uint64(g+1))
				})
			}
			all.Wait()
			if m := e.Metrics(); m.Groups != len(models) || m.CacheBytes > o.CacheBytes {
				t.Error(m)
			}
			if mode == Memory {
				return
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e, err = Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			for g, m := range models {
				l, err := e.Open(uint64(g + 1))
				if err == nil {
					err = m.Compare(l, false)
				}
				if err != nil {
					t.Errorf("group %d: %v", g+1, err)
				}
			}
		})
	}
}

// driveGroup does random steps to a group while others read it.
func driveGroup(t *testing.T, e *Engine, group uint64) *clustertest.Model {
	l, err := e.Create(group, Copy{ReplicaID: group, Voters: clustertest.Voters})
	if err != nil {
		t.Error(err)
		return nil
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for n := range uint64(2) {
		readers.Go(func() { readAll(t, l, n, stop) })
	}
	d := clustertest.NewDriver(group, clustertest.Voters)
	var order []int
	var owed sync.WaitGroup
	for n := range 150 {
		owed.Add(1)
		did, err := d.Step(l, func() {
			order = append(order, n)
			owed.Done()
		})
		if !did.Appended {
			owed.Done()
		}
		if err != nil {
			t.Error(err)
		}
		if n%20 == 0 {
			owed.Wait()
			if err := d.Model.Compare(l, false); err != nil {
				t.Errorf("group %d step %d: %v", group, n, err)
			}
		}
	}
	owed.Wait()
	close(stop)
	readers.Wait()
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			t.Errorf("group %d: dones ran in the order %v", group, order)
		}
	}
	if err := d.Model.Compare(l, false); err != nil {
		t.Errorf("group %d: %v", group, err)
	}
	return d.Model
}

// readAll reads until stop is closed. It may find that what it asks for is gone
// or not yet there, never damage.
func readAll(t *testing.T, l *Log, seed uint64, stop chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 3))
	fine := func(err error) {
		if err != nil && !errors.Is(err, raft.ErrCompacted) && !errors.Is(err, raft.ErrUnavailable) && !errors.Is(err, cluster.ErrCollected) {
			t.Error(err)
		}
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		first, err := l.FirstIndex()
		fine(err)
		last, err := l.LastIndex()
		fine(err)
		_, err = l.Term(last)
		fine(err)
		if last >= first {
			lo := first + rng.Uint64N(last-first+1)
			_, err = l.Entries(lo, last+1, 5000)
			fine(err)
		}
		_, err = l.Command(1 + rng.Uint64N(last+1))
		fine(err)
		if rng.IntN(8) == 0 {
			c, err := l.Capture()
			if err == nil {
				err = errors.Join(c.Pages(func(_, _ []byte) error { return nil }), c.Close())
			}
			fine(err)
		}
	}
}

// A burst of one group does not hold up the others: each gets its share of every
// round.
func TestQueueShares(t *testing.T) {
	q := &queue{}
	q.work.L, q.drained.L = &q.mu, &q.mu
	hot, quiet := &Log{group: 1}, &Log{group: 2}
	big := strings.Repeat("x", 256<<10)
	for i := uint64(1); i <= 100; i++ {
		q.add(&change{log: hot, entries: []*pb.Entry{data(i, 1, big)}}, true)
	}
	q.add(&change{log: quiet, entries: []*pb.Entry{data(1, 1, "y")}}, true)
	take := func() []*change {
		q.mu.busy = false // what was taken is performed
		return q.take(nil)
	}
	round := take()
	groups := map[uint64]int{}
	for _, c := range round {
		groups[c.log.group]++
	}
	if groups[2] != 1 || groups[1] < 4 || groups[1] > 5 {
		t.Errorf("the first round has %v", groups)
	}
	for next := uint64(groups[1]) + 1; next <= 100; {
		for _, c := range take() {
			if c.entries[0].GetIndex() != next {
				t.Fatalf("entry %d, want %d", c.entries[0].GetIndex(), next)
			}
			next++
		}
	}
}

// The Log of a copy that was replaced or removed does nothing more.
func TestReplacedLog(t *testing.T) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		e := start(t, mode, vfs.NewMem(), "boot 1")
		old, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
		if err != nil {
			t.Fatal(err)
		}
		old.Append(cluster.Write{HardState: hardState{term: 4, vote: 1}.proto(), Entries: []*pb.Entry{data(1, 4, "old")}}, func(bool) {})
		r, err := old.Receive(&pb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1}}})
		if err != nil {
			t.Fatal(err)
		}
		l, err := e.Create(7, Copy{ReplicaID: 2, Epoch: 1, Voters: clustertest.Voters})
		if err != nil {
			t.Fatal(err)
		}
		old.Append(cluster.Write{Entries: []*pb.Entry{data(2, 4, "late")}}, func(bool) { t.Error("done runs") })
		_, err1 := old.Capture()
		_, err2 := old.Receive(r.Meta())
		_, err3 := old.Entries(1, 2, 0)
		for _, err := range []error{err1, err2, err3, old.Checkpoint(cluster.Checkpoint{Applied: 1, First: 1})} {
			if !errors.Is(err, ErrClosed) {
				t.Error(mode, err)
			}
		}
		if r.Page([]byte("a"), []byte("b")) == nil {
			t.Error("a discarded receiver takes a page")
		}
		if err := clustertest.NewModel(clustertest.Voters).Compare(l, false); err != nil {
			t.Error(mode, err)
		}
		if l.Group() != 7 || l.Copy().ReplicaID != 2 {
			t.Error(l.Group(), l.Copy())
		}
		if again, err := e.Open(7); again != l || err != nil {
			t.Error(again, err)
		}
		if err := e.Remove(7); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Open(7); !errors.Is(err, ErrNoCopy) {
			t.Error(mode, err)
		}
		if err := e.Close(); err != nil {
			t.Error(mode, err)
		}
	}
}

// Generations that nobody names are removed, and numbers are not used again.
func TestGenerations(t *testing.T) {
	fs := vfs.NewMem()
	used := map[uint32]bool{}
	for round := range 4 {
		e := start(t, Sync, fs, "boot 1")
		for group := uint64(1); group <= 3; group++ {
			l, err := e.Create(group, Copy{ReplicaID: uint64(round + 1), Voters: clustertest.Voters})
			if err != nil {
				t.Fatal(err)
			}
			if used[l.mu.generation] {
				t.Fatalf("generation %d is used again", l.mu.generation)
			}
			used[l.mu.generation] = true
			r, err := l.Receive(&pb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1}}})
			if err != nil {
				t.Fatal(err)
			}
			rec := r.(*Receiver)
			if err := rec.Entry(1, []byte(strings.Repeat("x", pieceBytes))); err != nil {
				t.Fatal(err)
			}
			if used[rec.generation] {
				t.Fatalf("generation %d is used again", rec.generation)
			}
			used[rec.generation] = true
			// Left behind as a crash would leave it.
			l.mu.receiver = nil
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = start(t, Sync, fs, "boot 1")
		s := e.shelf
		copies, err := s.copies()
		if err != nil || len(copies) != 3 {
			t.Fatal(copies, err)
		}
		for g := range used {
			found := false
			for _, r := range copies {
				found = found || r.generation == g
			}
			n := 0
			if err := s.scan(g, cluster.Range{Lo: 0, Hi: 1 << 62}, func(*pb.Entry) bool { n++; return true }); err != nil || n > 0 && !found {
				t.Errorf("generation %d: %d entries (%v), named %v", g, n, err, found)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A hole in the log is damage, not an end.
func TestHole(t *testing.T) {
	o := testOptions(t, Sync, vfs.NewMem())
	o.inPebble = true
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 9; i++ {
		l.Append(cluster.Write{Entries: []*pb.Entry{data(i, 1, fmt.Sprint(i))}}, func(bool) {})
	}
	l.drain()
	for l.mu.cache.evict() {
	}
	e.shelf.commit([]*change{{group: 7, generation: l.mu.generation, dead: []cluster.Range{{Lo: 5, Hi: 6}}}}, true)
	_, err1 := l.Command(5)
	_, err2 := l.Entries(3, 8, 1<<40)
	e.detach(7)
	_, err3 := e.Open(7)
	for _, err := range []error{err1, err2, err3} {
		var c *CorruptError
		if !errors.As(err, &c) || c.Group != 7 || c.Index == 0 || !errors.Is(err, cluster.ErrMayHaveForgotten) {
			t.Error(err)
		}
	}
	if got, err := l.Entries(3, 5, 1<<40); !errors.Is(err, ErrClosed) {
		t.Error(got, err)
	}
}
