package dispatch

import (
	"math/rand/v2"
	"testing"

	"github.com/perdure/perdure/message"
)

// Random pieces are added and taken; a map says what is left.
func TestRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const top = 3000
	var r runs
	want := make(map[message.ID]int32)
	for step := range 20_000 {
		first := message.ID(rng.IntN(top))
		last := first + message.ID(rng.IntN(6))
		if rng.IntN(2) == 0 {
			slot := int32(rng.IntN(3))
			for id := first; id <= last; id++ { // what is not there yet, one by one
				if _, ok := want[id]; !ok {
					want[id] = slot
					r.add(span{first: id, last: id, slot: slot})
				}
			}
		} else if piece, ok := r.take(first, last); ok {
			if piece.first < first || piece.last > last || piece.first > piece.last {
				t.Fatalf("took %+v of %d-%d", piece, first, last)
			}
			for id := first; id <= piece.last; id++ {
				slot, there := want[id]
				if there != (id >= piece.first) || (there && slot != piece.slot) {
					t.Fatalf("took %+v of %d-%d, but %d is with %d, %t", piece, first, last, id, slot, there)
				}
				delete(want, id)
			}
		}
		if step%50 == 0 {
			compareRuns(t, &r, want)
		}
	}
}

func compareRuns(t *testing.T, r *runs, want map[message.ID]int32) {
	t.Helper()
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range r.all() {
		for id := s.first; id <= s.last; id++ {
			n++
			if slot, ok := want[id]; !ok || slot != s.slot {
				t.Fatalf("%d is in %+v, want %d, %t", id, s, slot, ok)
			}
		}
	}
	if n != len(want) {
		t.Fatalf("%d ids, want %d", n, len(want))
	}
}

// However runs come and go, few chunks stay half empty.
func TestChunksStayFull(t *testing.T) {
	const n = 64 * 200
	orders := map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return n - 1 - i },
		"scattered":  func(i int) int { return i * 4801 % n },
	}
	for name, order := range orders {
		var r runs
		for i := range n {
			id := message.ID(2 * order(i)) // never neighbours
			r.add(span{first: id, last: id})
		}
		if k := len(r.chunks); k > n/chunkSpans*2+1 {
			t.Errorf("%s: %d spans in %d chunks", name, n, k)
		}
		kept := 0
		for i := range n {
			id := message.ID(2 * order(i))
			if id%100 == 0 {
				kept++
				continue
			}
			r.take(id, id)
		}
		if k, spans := len(r.chunks), len(r.all()); spans != kept || k > kept*4/chunkSpans+2 {
			t.Errorf("%s: %d spans in %d chunks, kept %d", name, spans, k, kept)
		}
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
