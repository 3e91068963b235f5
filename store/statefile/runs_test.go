package statefile

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// randomRuns returns runs of a density that changes.
func randomRuns(rnd *rand.Rand, n int) (list []Run) {
	next := uint64(1)
	gap, length := uint64(1), uint64(1)
	for range n {
		if rnd.IntN(500) == 0 {
			gap, length = 1<<rnd.IntN(20), 1<<rnd.IntN(18)
		}
		r := Run{First: message.ID(next + rnd.Uint64N(gap)), N: 1 + rnd.Uint64N(length)}
		list = append(list, r)
		next = uint64(r.First) + r.N + 1
	}
	return list
}

// written returns runs in their compact form, and what was counted for them.
func written(list []Run) (*runs, int64) {
	var w runWriter
	r := &runs{}
	w.begin(r)
	for _, run := range list {
		w.add(run)
	}
	w.end()
	return r, w.kept
}

func TestRuns(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		list := randomRuns(rnd, rnd.IntN(20_000))
		r, kept := written(list)
		var got []Run
		for c := (runCursor{of: r}); c.step(); {
			got = append(got, Run{First: message.ID(c.first), N: c.last - c.first + 1})
		}
		if !slices.Equal(got, list) {
			t.Fatalf("seed %d: %d runs came back as %d others", seed, len(list), len(got))
		}
		var bytes int64
		for _, s := range r.segments {
			bytes += int64(len(s))
			if cap(s) > segmentBytes*5/4 {
				t.Errorf("seed %d: a segment of %d bytes", seed, cap(s))
			}
		}
		if bytes != kept {
			t.Errorf("seed %d: %d bytes are kept, %d were counted", seed, bytes, kept)
		}
		var set durable.Pending
		for _, run := range list {
			set.AddRange(run.First, run.N)
		}
		c := runCursor{of: r}
		for id := message.ID(1); ; id += message.ID(1 + rnd.Uint64N(5000)) {
			first, _, ok := set.NextRun(id)
			if found := c.seek(uint64(id)); found != ok {
				t.Fatalf("seed %d: from %v on there is something: %t, want %t", seed, id, found, ok)
			} else if !ok {
				break
			}
			if max(c.first, uint64(id)) != uint64(first) {
				t.Fatalf("seed %d: after %v comes %d, want %v", seed, id, c.first, first)
			}
		}
	}
}

// every returns runs of n of each step ids, total runs of them.
func every(step, n uint64, total int) (list []Run) {
	for i := range uint64(total) {
		list = append(list, Run{First: message.ID(1 + i*step), N: n})
	}
	return list
}

// TestRunsAreCompact: a bit for each id at most, and a few bytes for each run.
func TestRunsAreCompact(t *testing.T) {
	for _, tc := range []struct {
		step, n uint64
		most    int64 // bytes of 100 thousand runs
	}{
		{2, 1, 200_000 / 8 * 11 / 10},
		{3, 2, 300_000 / 8 * 11 / 10},
		{100, 50, 200_010},
		{1 << 16, 1, 400_010},
		{1 << 20, 1 << 19, 600_010},
	} {
		if _, kept := written(every(tc.step, tc.n, 100_000)); kept > tc.most {
			t.Errorf("%d of each %d ids: %d bytes, want at most %d", tc.n, tc.step, kept, tc.most)
		}
	}
}

// heapAfter returns by how much the heap grows by what build returns.
func heapAfter(build func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := build()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestHoldingIsWhatItTakes: the rule is not below what package durable takes.
func TestHoldingIsWhatItTakes(t *testing.T) {
	for _, list := range [][]Run{
		every(1<<16, 1, 200_000),
		every(1<<17, 1<<16, 200_000),
		every(1<<12, 1, 1_000_000),
		every(40, 1, 2_000_000),
		every(30, 1, 2_000_000),
		every(2, 1, 5_000_000),
		every(10_000, 9_999, 20_000),
		every(1<<17, 3<<14, 10_000),
	} {
		var h holding
		for _, r := range list {
			h.add(r)
		}
		took := heapAfter(func() any {
			var set durable.Pending
			for _, r := range list {
				set.AddRange(r.First, r.N)
			}
			return &set
		})
		if took > h.bytes*3/2 {
			t.Errorf("%d runs like %v and %v: they take %d bytes, the rule says %d", len(list), list[0], list[1], took, h.bytes)
		}
	}
	var h holding
	for i := range 300_000 {
		h.count(Ended{ID: message.ID(i) << 14})
	}
	took := heapAfter(func() any {
		var counts durable.Counts
		for i := range 300_000 {
			counts.Append(message.ID(i)<<14, 1)
		}
		return &counts
	})
	if took > h.bytes*3/2 {
		t.Errorf("counts take %d bytes, the rule says %d", took, h.bytes)
	}
}
