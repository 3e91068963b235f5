package durable

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/perdure/perdure/message"
)

// check reports the first broken invariant of p.
func (p *Pending) check() error {
	var size uint64
	for i := range p.spans {
		s := &p.spans[i]
		if i > 0 && p.spans[i-1].end() > s.page {
			return fmt.Errorf("spans %d and %d overlap or do not ascend", i-1, i)
		}
		kinds := 0
		for _, is := range []bool{s.full > 0, s.bits != nil, s.list != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			return fmt.Errorf("span %d is %d of run, bitmap and list", i, kinds)
		}
		if s.bits != nil {
			was := s.bits.count
			s.bits.recount()
			if was != s.bits.count || was == 0 || was == pageIDs {
				return fmt.Errorf("span %d: count %d, holds %d", i, was, s.bits.count)
			}
		}
		if s.list != nil && (s.page%regionPages != 0 || len(s.list) == 0 || len(s.list) > listMost || !ascends(s.list)) {
			return fmt.Errorf("span %d: list of %d ids at page %d", i, len(s.list), s.page)
		}
		if i > 0 && p.spans[i-1].full > 0 && s.full > 0 && p.spans[i-1].end() == s.page {
			return fmt.Errorf("runs %d and %d touch", i-1, i)
		}
		size += s.count()
	}
	if size != p.size {
		return fmt.Errorf("size is %d, holds %d", p.size, size)
	}
	return p.listed()
}

func ascends(list []uint16) bool {
	return slices.IsSorted(list) && len(slices.Compact(slices.Clone(list))) == len(list)
}

// saved is a place that pages are written to.
type saved map[string][]byte

func (s saved) take(key, value []byte) {
	if value == nil {
		delete(s, string(key))
		return
	}
	s[string(key)] = slices.Clone(value)
}

// sum is the hash of what was saved, computed from nothing.
func (s saved) sum() (sum uint64) {
	for k, v := range s {
		sum += xxhash.Sum64(append([]byte(k), v...))
	}
	return sum
}

func (s saved) pending(t *testing.T) *Pending {
	t.Helper()
	p := new(Pending)
	for k, v := range s {
		_, _, page, _ := ParseKey([]byte(k))
		if err := p.LoadPage(page, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Loaded(); err != nil {
		t.Fatal(err)
	}
	return p
}

// pendingModel is the plain truth: sorted ids.
type pendingModel []message.ID

func (m pendingModel) bounds(first, last message.ID) (int, int) {
	i, _ := slices.BinarySearch(m, first)
	j, found := slices.BinarySearch(m, last)
	if found {
		j++
	}
	return i, j
}

func (m *pendingModel) add(first message.ID, n uint64) uint64 {
	i, j := m.bounds(first, first+message.ID(n)-1)
	ids := make([]message.ID, n)
	for k := range ids {
		ids[k] = first + message.ID(k)
	}
	*m = slices.Replace(*m, i, j, ids...)
	return n - uint64(j-i)
}

func (m *pendingModel) remove(first, last message.ID) uint64 {
	i, j := m.bounds(first, last)
	*m = slices.Delete(*m, i, j)
	return uint64(j - i)
}

func TestPendingModel(t *testing.T) {
	for seed := range uint64(36) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { pendingSteps(t, seed, 400) })
	}
}

func pendingSteps(t *testing.T, seed uint64, steps int) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p, disk := new(Pending), saved{}
	var model pendingModel
	pages := []int{8, 40, 3 * regionPages}[seed%3]
	sparse := []int{3, 20, 500}[seed/3%3]
	at := func() message.ID {
		if rnd.IntN(3) == 0 { // the edges of pages are where bugs live
			return message.ID(max(1, rnd.IntN(pages+1)*pageIDs-1+rnd.IntN(3)))
		}
		return message.ID(1 + rnd.IntN(pages*pageIDs))
	}
	for step := range steps {
		var got, want uint64
		switch rnd.IntN(6) {
		case 0, 1:
			first, n := at(), uint64(1+rnd.IntN([]int{1, 10, 500, 3 * pageIDs}[rnd.IntN(4)]))
			got, want = p.AddRange(first, n), model.add(first, n)
		case 2:
			var ids []message.ID
			for id := at(); len(ids) < 300; id += message.ID(1 + rnd.IntN(sparse)) {
				ids = append(ids, id)
				want += model.add(id, 1)
			}
			got = p.AddIDs(ids)
		case 3:
			id := at()
			if p.Remove(id) {
				got = 1
			}
			want = model.remove(id, id)
		default:
			first, n := at(), message.ID(rnd.IntN([]int{1, 10, 500, 3 * pageIDs, pages * pageIDs}[rnd.IntN(5)]))
			got, want = p.RemoveRange(first, first+n), model.remove(first, first+n)
		}
		if got != want {
			t.Fatalf("step %d: changed %d ids, want %d", step, got, want)
		}
		if err := p.check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		compare(t, p, model, at())
		if step%20 == 0 {
			p.track.Changed('p', 7, p, nil, disk.take)
			q := disk.pending(t)
			compareAll(t, p, model)
			compareAll(t, q, model)
			hp, _ := p.track.Hash('p', 7, p, nil)
			hq, _ := q.track.Hash('p', 7, q, nil)
			if hp != hq || hp != disk.sum() {
				t.Fatalf("step %d: hash %x, reloaded %x, saved pages %x", step, hp, hq, disk.sum())
			}
			if rnd.IntN(4) == 0 {
				p = q
			}
		} else if step%7 == 0 {
			p.track.Hash('p', 7, p, nil)
		}
	}
}

func compare(t *testing.T, p *Pending, model pendingModel, at message.ID) {
	t.Helper()
	if p.Len() != uint64(len(model)) {
		t.Fatalf("len %d, want %d", p.Len(), len(model))
	}
	var floor, last message.ID
	if len(model) > 0 {
		floor, last = model[0], model[len(model)-1]
	}
	if p.Floor() != floor || p.Last() != last {
		t.Fatalf("from %d to %d, want %d to %d", p.Floor(), p.Last(), floor, last)
	}
	i, found := slices.BinarySearch(model, at)
	if p.Contains(at) != found {
		t.Fatalf("contains %d: %v, want %v", at, !found, found)
	}
	first, n, ok := p.NextRun(at)
	if ok != (i < len(model)) {
		t.Fatalf("next run at %d: %v", at, ok)
	}
	if ok {
		want := uint64(1)
		for i+int(want) < len(model) && model[i+int(want)] == model[i]+message.ID(want) {
			want++
		}
		if first != model[i] || n != want {
			t.Fatalf("next run at %d: %d of %d, want %d of %d", at, first, n, model[i], want)
		}
	}
}

func compareAll(t *testing.T, p *Pending, model pendingModel) {
	t.Helper()
	var got pendingModel
	p.Runs(0, ^message.ID(0), func(first message.ID, n uint64) bool {
		for k := range n {
			got = append(got, first+message.ID(k))
		}
		return true
	})
	if !slices.Equal(got, model) {
		t.Fatalf("holds %v, want %d ids", p, len(model))
	}
}

// TestPendingHistory reaches one set in two ways.
func TestPendingHistory(t *testing.T) {
	a, b := new(Pending), new(Pending)
	a.AddRange(1, 10*pageIDs)
	a.RemoveRange(pageIDs+100, pageIDs+199)
	for id := message.ID(10 * pageIDs); id > 0; id-- {
		if id < pageIDs+100 || id > pageIDs+199 {
			b.AddRange(id, 1)
		}
	}
	pages := func(p *Pending) saved {
		s := saved{}
		p.track.Changed('p', 1, p, nil, s.take)
		return s
	}
	pa, pb := pages(a), pages(b)
	if len(pa) != 4 || fmt.Sprint(pa) != fmt.Sprint(pb) {
		t.Fatalf("%d and %d pages differ", len(pa), len(pb))
	}
}

// TestPendingHuge holds a billion ids in a few bytes.
func TestPendingHuge(t *testing.T) {
	p := new(Pending)
	p.AddRange(1, 1<<30)
	if len(p.spans) != 3 || p.Len() != 1<<30 {
		t.Fatalf("%d spans, %d ids", len(p.spans), p.Len())
	}
	if n := p.RemoveRange(1<<20, 1<<29); n != 1<<29-1<<20+1 {
		t.Fatalf("removed %d", n)
	}
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	top := ^message.ID(0)
	p.AddRange(top-10, 11)
	if !p.Contains(top) || p.Last() != top {
		t.Fatal("the highest id is lost")
	}
	p.Runs(top-20, top, func(message.ID, uint64) bool { return true })
}

func TestPendingDamage(t *testing.T) {
	bad := map[string][]byte{
		"nothing": {}, "unknown": {9}, "empty run": {pageRun, 0}, "long run": {pageRun, 1, 1},
		"empty list": {pageList}, "odd list": {pageList, 1}, "falling": {pageList, 0, 2, 0, 1}, "twice": {pageList, 0, 2, 0, 2},
		"long list": append([]byte{pageList}, make([]byte, 2*listMost+2)...), "short bits": {pageBit, 1}, "no bits": append([]byte{pageBit}, make([]byte, 512)...),
		"all bits": append([]byte{pageBit}, slices.Repeat([]byte{255}, 512)...),
	}
	for name, value := range bad {
		if err := new(Pending).LoadPage(regionPages, value); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if new(Pending).LoadPage(1, []byte{pageList, 0, 1}) == nil {
		t.Error("list that begins within a region: accepted")
	}
	p := new(Pending)
	p.LoadPage(1, []byte{pageRun, 2})
	p.LoadPage(3, []byte{pageRun, 2})
	if p.Loaded() == nil {
		t.Error("runs that touch: accepted")
	}
	p = new(Pending)
	p.LoadPage(0, []byte{pageList, 0, 1})
	p.LoadPage(2, []byte{pageRun, 2})
	if p.Loaded() == nil {
		t.Error("list and run in one region: accepted")
	}
	p = new(Pending)
	p.LoadPage(2, append([]byte{pageBit, 1}, make([]byte, 511)...))
	p.LoadPage(3, append([]byte{pageBit, 1}, make([]byte, 511)...))
	if p.Loaded() == nil {
		t.Error("pages for two ids: accepted")
	}
}

// TestPendingSparse: few of many ids take little more than two bytes each, and
// their pages are as few.
func TestPendingSparse(t *testing.T) {
	p := new(Pending)
	const ids, every = 100_000, 1000
	for k := range ids {
		p.AddIDs([]message.ID{message.ID(7 + k*every)})
	}
	memory, pages := cap(p.spans)*int(unsafe.Sizeof(span{})), 0
	for i := range p.spans {
		memory += 2 * cap(p.spans[i].list)
	}
	p.Pages(func(uint64) { pages++ })
	if memory > 4*ids || pages > ids*every>>regionBits+1 {
		t.Errorf("%d ids take %d bytes in %d pages", ids, memory, pages)
	}
}

func FuzzPendingPage(f *testing.F) {
	f.Add(uint64(1), []byte{pageRun, 2})
	f.Add(uint64(16), []byte{pageList, 0, 1})
	f.Fuzz(func(t *testing.T, page uint64, value []byte) {
		p := new(Pending)
		if p.LoadPage(page, value) != nil || p.Loaded() != nil {
			return
		}
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		if again, m := p.AppendPage(nil, page); m == nil || string(again) != string(value) {
			t.Fatalf("%x is saved as %x", value, again)
		}
	})
}

func BenchmarkPending(b *testing.B) {
	b.Run("out-of-order", func(b *testing.B) {
		p, rnd := new(Pending), rand.New(rand.NewPCG(1, 1))
		p.AddRange(0, 1<<24)
		for b.Loop() {
			id := message.ID(rnd.Uint64N(1 << 24))
			if !p.Remove(id) {
				p.AddRange(id, 1)
			}
		}
	})
	b.Run("in-order", func(b *testing.B) {
		p, next := new(Pending), message.ID(1)
		b.ReportAllocs()
		for b.Loop() {
			p.AddRange(next, 500)
			p.RemoveRange(next, next+499)
			next += 500
		}
	})
	b.Run("sparse", func(b *testing.B) {
		p, next := new(Pending), message.ID(1)
		b.ReportAllocs()
		for b.Loop() {
			p.AddRange(next, 1)
			p.Remove(next - 100*1000)
			next += 1000
		}
	})
}
