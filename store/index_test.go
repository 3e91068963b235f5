package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// TestIndexModel drives an index of many pages, and the entries with it,
// against live counts per message.
func TestIndexModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { indexSteps(t, rand.New(rand.NewPCG(seed, 4))) })
	}
}

// indexStepsMost are more batches than open pages hold.
const indexStepsMost = (hotPages + 256) * pageBatches

func indexSteps(t *testing.T, rnd *rand.Rand) {
	m, s := New(), newStore(1)
	m.stores = []*storeState{s}
	var messages []int // live count by id
	var entry []uint64 // by id
	front := 1         // nothing below is needed
	for now := uint64(1); now <= indexStepsMost; now++ {
		m.applied = now
		count := uint32(1 + rnd.IntN(4))
		first, live := message.ID(len(messages)), 1+rnd.IntN(2)
		if first == 0 {
			first, messages, entry = 1, []int{0}, []uint64{0}
		}
		for range count {
			messages, entry = append(messages, live), append(entry, now)
		}
		s.counter = uint64(len(messages) - 1)
		s.index.add(batch{first: first, live: uint64(live) * uint64(count), entry: now, count: count, bytes: 100})
		m.entries.add(now)
		// Settling keeps up in the end: a front that moves, and holes.
		lo := rnd.IntN(len(messages))
		if rnd.IntN(2) == 0 {
			for front < len(messages) && messages[front] == 0 {
				front++
			}
			lo = front
		}
		releaseRuns(t, m, s, messages, lo, min(len(messages), lo+rnd.IntN(12)))
		m.entries.close(now)
	}
	needed := map[uint64]bool{}
	for id := 1; id < len(messages); id++ {
		b, ok := s.index.get(message.ID(id))
		if messages[id] > 0 {
			needed[entry[id]] = true
			if !ok || b.entry != entry[id] {
				t.Fatalf("message %d is needed: %v, %+v", id, ok, b)
			}
		}
	}
	live := 0
	m.Live(0, ^uint64(0), func(index uint64) {
		live++
		if !needed[index] {
			t.Fatalf("entry %d is live although nobody needs it", index)
		}
	})
	if live != len(needed) {
		t.Fatalf("%d entries live, want %d", live, len(needed))
	}
	lives := map[uint64]uint32{}
	for e := range needed {
		lives[e] = 1
	}
	if err := errors.Join(m.entries.check(lives), s.index.check()); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	m.Dead(func(index uint64) {
		if seen[index] || needed[index] {
			t.Fatalf("entry %d is dead twice or although needed", index)
		}
		seen[index] = true
	})
	if len(seen)+live != indexStepsMost {
		t.Fatalf("%d dead and %d live of the entries", len(seen), live)
	}
	reloadIndex(t, &s.index)
	releaseRuns(t, m, s, messages, 1, len(messages))
	releaseRuns(t, m, s, messages, 1, len(messages))
	if len(s.index.pages) != 0 {
		t.Fatalf("%d pages are left", len(s.index.pages))
	}
	if _, _, ok := s.index.release(5, 1, func(uint64) {}); ok {
		t.Fatal("released what is not there")
	}
}

// TestIndexSmall: a backlog of small batches takes little memory.
func TestIndexSmall(t *testing.T) {
	var x index
	var e entries
	const batches = 400_000
	for i := range message.ID(batches) {
		at := uint64(i) + 1_000_000
		x.add(batch{first: 1_000_000 + i, live: 1, entry: at, stamp: 1_700_000_000_000_000_000 + int64(i)*50_000, count: 1, offset: 60, bytes: 200})
		e.add(at)
		e.close(at)
	}
	closed, open := 0, 0
	for _, p := range x.pages {
		closed += cap(p.closed) + cap(p.batches)*int(unsafe.Sizeof(batch{}))
		if p.batches != nil {
			open++
		}
	}
	perBatch := float64(closed+len(x.pages)*int(unsafe.Sizeof(indexPage{}))+len(e.chunks)*int(unsafe.Sizeof(entryChunk{}))) / batches
	if perBatch > 36 || open > hotPages {
		t.Fatalf("a batch takes %.1f bytes, %d pages are open", perBatch, open)
	}
	for i := range message.ID(5_000) { // in an order that opens another page each time
		id := 1_000_000 + i*7919%batches
		if b, ok := x.get(id); !ok || b.first != id || b.entry != uint64(id) {
			t.Fatalf("batch %d: %v, %+v", id, ok, b)
		}
	}
	if err := x.check(); err != nil {
		t.Fatal(err)
	}
}

// releaseRuns takes one from every message in [lo, hi) that has any left.
func releaseRuns(t *testing.T, m *Machine, s *storeState, messages []int, lo, hi int) {
	t.Helper()
	for lo = max(lo, 1); lo < hi; lo++ {
		n := 0
		for lo+n < hi && messages[lo+n] > 0 {
			messages[lo+n]--
			n++
		}
		if n == 0 {
			continue
		}
		if _, _, ok := s.index.release(message.ID(lo), uint64(n), func(entry uint64) { m.entries.drop(entry, m.applied) }); !ok {
			t.Fatalf("releasing %d from %d on", n, lo)
		}
		lo += n
	}
}

// reloadIndex saves every page and loads it again.
func reloadIndex(t *testing.T, x *index) {
	t.Helper()
	var y index
	for _, p := range x.pages {
		enc := p.appendTo(nil)
		if err := y.load(p.number, enc); err != nil {
			t.Fatal(err)
		}
		if q := y.pages[len(y.pages)-1]; q.len() != p.len() || q.last != p.last {
			t.Fatalf("page %d is different", p.number)
		}
	}
	batches := func(x *index) (all []batch) {
		x.each(func(b *batch) { all = append(all, *b) })
		return all
	}
	if !slices.Equal(batches(x), batches(&y)) {
		t.Fatal("batches are different")
	}
	hx, _ := x.track.Hash(6, 1, x, nil)
	hy, _ := y.track.Hash(6, 1, &y, nil)
	if hx != hy || hx == 0 {
		t.Fatalf("hash %x, loaded %x", hx, hy)
	}
}

// TestLoadDamage: pages that do not decode, or do not fit, are errors.
func TestLoadDamage(t *testing.T) {
	m := New()
	for _, key := range [][]byte{nil, {1}, durable.AppendKey(nil, 99, 0, 0)} {
		if m.LoadPage(key, nil) == nil {
			t.Errorf("key %x: accepted", key)
		}
	}
	r := newRig(t)
	x := r.deploy(newDefinition(), standard(10, "audit"))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, 3)))
	r.want(OK, AppendRelease(nil, 10, []Range{{1, 1}}, true))
	saved := disk{}
	saved.save(t, r.m)
	if len(saved) != 7 {
		t.Fatalf("%d pages", len(saved))
	}
	load := func(d map[string][]byte, applied uint64) error {
		m := New()
		for k, v := range d {
			if err := m.LoadPage([]byte(k), v); err != nil {
				return err
			}
		}
		return m.Loaded(applied)
	}
	if err := load(saved, r.index-2); err == nil {
		t.Error("an index from the future: accepted")
	}
	for k, v := range saved {
		kind := k[0]
		for cut := range len(v) {
			if load(with(saved, k, v[:cut]), r.index) == nil {
				t.Errorf("page of kind %d, cut to %d of %d bytes: accepted", kind, cut, len(v))
			}
		}
		if load(with(saved, k, append(slices.Clone(v), 0)), r.index) == nil {
			t.Errorf("page of kind %d with a byte too many: accepted", kind)
		}
		if kind != pageCounts && kind != pageSession && kind != pageMeta && load(with(saved, k, nil), r.index) == nil {
			t.Errorf("page of kind %d missing: accepted", kind)
		}
	}
}

// with returns d with one page replaced, or without it if v is nil.
func with(d disk, k string, v []byte) disk {
	out := disk{}
	for key, value := range d {
		if key != k {
			out[key] = value
		}
	}
	if v != nil {
		out[k] = v
	}
	return out
}
