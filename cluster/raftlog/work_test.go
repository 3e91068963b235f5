package raftlog

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// What waits for Work is written where it is called if it is little and alone, and
// by the worker otherwise. It is written in any case, and confirmed once.
func TestWork(t *testing.T) {
	e, err := Open(testOptions(t, Sync, vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	logs := map[uint64]*Log{}
	for _, group := range []uint64{7, 8} {
		if logs[group], err = e.Create(group, Copy{ReplicaID: 1, Voters: clustertest.Voters}); err != nil {
			t.Fatal(err)
		}
	}
	l := logs[7]
	next := map[*Log]uint64{}
	dones := make(chan bool, 100)
	put := func(l *Log, size int, here bool) (waits bool) {
		next[l]++
		return l.Append(cluster.Write{Entries: []*pb.Entry{data(next[l], 1, strings.Repeat("x", size))}, Here: here}, func(here bool) { dones <- here })
	}
	confirmed := func(what string, want ...bool) {
		t.Helper()
		for _, want := range want {
			select {
			case got := <-dones:
				if got != want {
					t.Errorf("%s: done where Work was called: %v, want %v", what, got, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: not written", what)
			}
		}
		l.drain()
		if n := len(dones); n > 0 {
			t.Errorf("%s: confirmed %d times more", what, n)
		}
	}

	if put(l, 10, false) {
		t.Error("it waits although nobody will call Work")
	}
	confirmed("without Here", false)

	if !put(l, 10, true) || !l.Work() {
		t.Error("a lone small write was left to the worker")
	}
	confirmed("a lone one", true)
	if l.Work() {
		t.Error("Work did something, and nothing waits")
	}

	put(l, 10, true)
	put(l, 10, true)
	if l.Work() {
		t.Error("Work took on two")
	}
	confirmed("two", false, false)

	put(l, helpBytes, true)
	if l.Work() {
		t.Error("Work took on a large one")
	}
	confirmed("a large one", false)

	put(l, 10, true)
	put(logs[8], 10, true)
	if l.Work() {
		t.Error("Work took on what another group waits with")
	}
	confirmed("two groups", false, false)

	put(l, 10, true)
	l.drain() // Work is not called
	confirmed("who waits for all", false)

	put(l, 10, true)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	confirmed("at the end", false)
	if put(l, 10, true) || l.Work() {
		t.Error("a closed log takes on work")
	}
}

// TestWorkBesideTheWorker is for the race detector: two groups' loops and callers of
// Work at once. Each log's writes are confirmed in order.
func TestWorkBesideTheWorker(t *testing.T) {
	e, err := Open(testOptions(t, Sync, vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for group := range uint64(3) {
		l, err := e.Create(group+7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			const n = 500
			done := make(chan uint64, n)
			for i := uint64(1); i <= n; i++ {
				if l.Append(cluster.Write{Entries: []*pb.Entry{data(i, 1, "x")}, Here: i%3 > 0}, func(bool) { done <- i }) && i%5 > 0 {
					l.Work()
				}
			}
			l.drain()
			for i := uint64(1); i <= n; i++ {
				if got := <-done; got != i {
					t.Errorf("group %d: entry %d is confirmed as number %d", l.group, got, i)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// held is a shelf whose commits wait.
type held struct {
	shelf
	began, gate chan struct{}
}

func (h held) commit(changes []*change, wait bool) {
	h.began <- struct{}{}
	<-h.gate
	h.shelf.commit(changes, wait)
}

// While one round is being written nobody writes another; what came meanwhile is
// written without anybody asking once more.
func TestOneRoundAtATime(t *testing.T) {
	for _, worker := range []bool{true, false} {
		e, err := Open(testOptions(t, Sync, vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		l, err := e.Create(7, Copy{ReplicaID: 1, Voters: clustertest.Voters})
		if err != nil {
			t.Fatal(err)
		}
		h := held{e.shelf, make(chan struct{}, 100), make(chan struct{})}
		e.shelf = h
		dones := make(chan uint64, 10)
		put := func(i uint64, here bool) {
			l.Append(cluster.Write{Entries: []*pb.Entry{data(i, 1, "x")}, Here: here}, func(bool) { dones <- i })
		}
		put(1, !worker)
		var wg sync.WaitGroup
		if !worker {
			wg.Go(func() { l.Work() })
		}
		<-h.began
		put(2, true)
		refused := make(chan bool, 1)
		wg.Go(func() { refused <- !l.Work() })
		select {
		case ok := <-refused:
			if !ok {
				t.Errorf("worker %v: Work did something beside a round", worker)
			}
		case <-h.began:
			t.Fatalf("worker %v: two rounds at once", worker)
		case <-time.After(time.Minute):
			t.Fatalf("worker %v: Work waits for the round", worker)
		}
		put(3, false)
		if len(h.began) > 0 {
			t.Fatalf("worker %v: two rounds at once", worker)
		}
		close(h.gate)
		for want := uint64(1); want <= 3; want++ {
			select {
			case got := <-dones:
				if got != want {
					t.Errorf("worker %v: %d is confirmed, want %d", worker, got, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("worker %v: %d is not written", worker, want)
			}
		}
		wg.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
