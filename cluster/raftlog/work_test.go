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
	confirmed("who waits for all", false) // by drain: Work is not called

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
