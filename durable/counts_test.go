package durable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/perdure/perdure/message"
)

func TestCountsModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { countsSteps(t, seed) })
	}
}

func countsSteps(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	c, disk := new(Counts), saved{}
	const space = 4 * pageIDs
	var model [space + 1]uint32
	for step := range 300 {
		if rnd.IntN(3) > 0 {
			id := message.ID(rnd.IntN(space))
			c.Add(id)
			model[id]++
		} else {
			first := message.ID(rnd.IntN(space))
			last := first + message.ID(rnd.IntN([]int{1, 100, 2 * pageIDs}[rnd.IntN(3)]))
			c.RemoveRange(first, last)
			for id := first; id <= min(last, space); id++ {
				model[id] = 0
			}
		}
		if step%30 != 0 {
			continue
		}
		n := 0
		for id, want := range model {
			if got := c.Get(message.ID(id)); got != want {
				t.Fatalf("step %d: %d ended %d times, want %d", step, id, got, want)
			}
			if want > 0 {
				n++
			}
		}
		if c.Len() != n || c.Empty() != (n == 0) {
			t.Fatalf("step %d: len %d, want %d", step, c.Len(), n)
		}
		c.track.Changed('c', 1, c, nil, disk.take)
		d := new(Counts)
		for k, v := range disk {
			_, _, page, _ := ParseKey([]byte(k))
			if err := d.LoadPage(page, v); err != nil {
				t.Fatal(err)
			}
		}
		hc, _ := c.track.Hash('c', 1, c, nil)
		hd, _ := d.track.Hash('c', 1, d, nil)
		if hc != hd || hc != disk.sum() {
			t.Fatalf("step %d: hash %x, reloaded %x, saved %x", step, hc, hd, disk.sum())
		}
		c = d
	}
}

func TestMarks(t *testing.T) {
	var m Marks
	for _, id := range []message.ID{10, 10, 30, 20} { // 20 counts as 30
		m.Add(id)
	}
	for id, want := range map[message.ID]uint32{1: 4, 10: 4, 11: 2, 30: 2, 31: 0} {
		if got := m.Count(id); got != want {
			t.Errorf("%d may have been delivered %d times, want %d", id, got, want)
		}
	}
	enc := m.AppendTo(nil)
	var l Marks
	if rest, err := l.Load(append(bytes.Clone(enc), 7)); err != nil || len(rest) != 1 || !bytes.Equal(l.AppendTo(nil), enc) {
		t.Fatalf("loaded %v, %v", l, err)
	}
	if m.Prune(10) || !m.Prune(11) || m.Count(1) != 2 || !m.Clear() || !m.Empty() {
		t.Fatalf("after pruning: %v", m)
	}
	for _, bad := range [][]byte{{}, {1}, {1, 1}, {1, 1, 0}, {2, 5, 1, 5, 1}, {255}} {
		if _, err := l.Load(bad); err == nil {
			t.Errorf("%x: accepted", bad)
		}
	}
}

func FuzzCountsAndMarks(f *testing.F) {
	f.Add([]byte{0, 1, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Counts
		if c.LoadPage(3, b) == nil {
			if again, m := c.AppendPage(nil, 3); m == nil || !bytes.Equal(again, b) {
				t.Fatalf("%x is saved as %x", b, again)
			}
		}
		var m Marks
		if rest, err := m.Load(b); err == nil && !bytes.Equal(m.AppendTo(nil), b[:len(b)-len(rest)]) {
			t.Fatalf("marks %x are saved as %x", b, m.AppendTo(nil))
		}
	})
}
