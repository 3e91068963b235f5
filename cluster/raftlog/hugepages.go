package raftlog

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// What mode memory keeps is memory that is touched for the first time, and a fault
// for each 4 KiB of it was a quarter of all work on messages of 16 KiB. So the heap
// is given room ahead of what it keeps: blocks that nothing has touched, which the
// kernel is asked to back by huge pages and which the collector gets back at once.
// The heap grows into them. It is a hint: where it does not work, nothing is slower
// than without it. ADR 3 has the figures.
const (
	// roomFrom is how much is kept before room is made: less is not worth it.
	roomFrom = 8 << 20
	// roomLeast and roomMost bound what is made at once. It is address space, and
	// becomes memory as it is used.
	roomLeast, roomMost = 512 << 20, 2 << 30
)

// room is the address space that was asked to be of huge pages, against what is
// kept. It is one for the process, as the heap is.
type room struct {
	kept atomic.Int64 // bytes of entries in memory
	wake atomic.Int64 // kept bytes at which more room is made
	made atomic.Int64
	mu   sync.Mutex
	// reserve makes the heap greater by n bytes of huge pages. It reports false if
	// that cannot be had: then it is not called again.
	reserve func(n int64) bool
}

var heapRoom = newRoom(reserveHuge)

func newRoom(reserve func(int64) bool) *room {
	r := &room{reserve: reserve}
	r.wake.Store(roomFrom)
	return r
}

// keep counts bytes that are kept from now on, or no longer if it is negative. It
// never blocks: room is made by a goroutine of its own, which the caller joins.
func (r *room) keep(bytes int64, making *sync.WaitGroup) {
	if r.kept.Add(bytes) >= r.wake.Load() {
		r.more(making)
	}
}

func (r *room) more(making *sync.WaitGroup) {
	if !r.mu.TryLock() {
		return // another is making room
	}
	if r.kept.Load() < r.wake.Load() {
		r.mu.Unlock()
		return // it has been made
	}
	making.Go(func() {
		defer r.mu.Unlock()
		n := roomFor(r.made.Load())
		if !r.reserve(n) {
			r.wake.Store(math.MaxInt64)
			return
		}
		// The room is the heap's when the collector has been round.
		runtime.GC()
		r.wake.Store(r.made.Add(n) / 2)
	})
}

// roomFor is how much room is made where made bytes were: as much again.
func roomFor(made int64) int64 { return min(max(made, roomLeast), roomMost) }
