package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestFifoKeepsOrderAndBoundsItsMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q fifo[*int]
	var model []*int
	for i := range 100_000 {
		if rng.IntN(2) == 0 && len(model) < 100 {
			q.push(&i)
			model = append(model, &i)
		} else if len(model) > 0 {
			if got := q.pop(); got != model[0] {
				t.Fatalf("step %d: popped %d, want %d", i, *got, *model[0])
			}
			model = model[1:]
		}
		if q.len() != len(model) || !slices.Equal(q.all(), model) {
			t.Fatalf("step %d: %d items, want %d", i, q.len(), len(model))
		}
	}
	if cap(q.items) > 512 {
		t.Errorf("room for %d items, there were at most 100", cap(q.items))
	}
	for _, p := range q.items[:q.head] {
		if p != nil {
			t.Fatal("what was popped is still referred to")
		}
	}
}

func TestFifoDoesNotAllocateInSteadyState(t *testing.T) {
	var q fifo[int]
	n := testing.AllocsPerRun(1000, func() {
		for i := range 10 {
			q.push(i)
		}
		for range 9 {
			q.pop()
		}
		if q.len() > 50 {
			for q.len() > 0 {
				q.pop()
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
