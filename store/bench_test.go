package store

import (
	"encoding/binary"
	"fmt"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
)

// feeder applies one batch per entry, and settles it in the next one, as a
// cluster does whose subscribers keep up.
type feeder struct {
	m        *Machine
	commands [][]byte
	offsets  []uint32
	out      []Result
	sequence uint64
	n        int
}

func newFeeder(t testing.TB, n int, durables ...*statepb.Durable) *feeder {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, durables...)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint(i % 100)
	}
	f := &feeder{m: r.m, n: n, offsets: make([]uint32, 1+len(durables))}
	f.commands = [][]byte{AppendPublish(nil, 1, x, 1, 1, newBatch(t, 1, keys...))}
	for _, d := range durables {
		f.commands = append(f.commands, AppendSettle(nil, d.Id, []Range{{1, 1}}))
	}
	return f
}

func (f *feeder) step(t testing.TB) {
	f.sequence++
	le := binary.LittleEndian
	le.PutUint64(f.commands[0][21:], f.sequence)
	for _, c := range f.commands[1:] {
		le.PutUint64(c[settleHeader:], 1)
		le.PutUint64(c[settleHeader+8:], uint64(f.n)*(f.sequence-1)+1)
	}
	var err error
	f.out, err = f.m.Apply(f.m.Applied()+1, 1, 0, f.commands, f.offsets, f.out[:0])
	if err != nil || f.out[0].Code != OK {
		t.Fatal(err, f.out[0])
	}
	if f.sequence%64 == 0 && len(f.commands) > 1 { // a checkpoint
		f.m.Touched()
		f.m.Dead(func(uint64) {})
		f.m.Changed(func(_, _ []byte) {})
	}
}

var benchDurables = []*statepb.Durable{standard(10, "audit"), {Id: 11, Name: "work", Kind: 2}}

// TestAllocs: what a batch allocates does not depend on its messages.
func TestAllocs(t *testing.T) {
	for name, durables := range map[string][]*statepb.Durable{
		"no matchers": benchDurables,
		"matchers":    {standard(10, "audit"), {Id: 11, Name: "seven", Kind: 2, Matcher: `{"k":"7"}`}},
	} {
		for _, n := range []int{50, 500, 5000} {
			f := newFeeder(t, n, durables...)
			for range 150 {
				f.step(t)
			}
			if got := testing.AllocsPerRun(300, func() { f.step(t) }); got > 0 {
				t.Errorf("%s: %v allocations for a batch of %d", name, got, n)
			}
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFeeder(b, n, benchDurables...)
			b.ReportAllocs()
			for b.Loop() {
				f.step(b)
			}
		})
	}
	b.Run("500-by-1000-matchers", func(b *testing.B) {
		var durables []*statepb.Durable
		for i := range 1000 {
			durables = append(durables, &statepb.Durable{Id: uint64(10 + i), Name: fmt.Sprint(i), Kind: 2, Matcher: fmt.Sprintf(`{"k":"%d"}`, i)})
		}
		f := newFeeder(b, 500, durables...)
		f.commands, f.offsets = f.commands[:101], f.offsets[:101] // the others get nothing
		for b.Loop() {
			f.step(b)
		}
	})
}

// BenchmarkBacklog settles at random in a backlog of a million messages.
func BenchmarkBacklog(b *testing.B) {
	f := newFeeder(b, 100, benchDurables...)
	f.commands, f.offsets = f.commands[:1], f.offsets[:1]
	for range 10_000 {
		f.step(b)
	}
	var c []byte
	id := uint64(1)
	for b.Loop() {
		id = (id*48271 + 11) % 1_000_000
		at := message.ID(id + 1)
		c = AppendSettle(c[:0], 10, []Range{{at, at}})
		f.out, _ = f.m.Apply(f.m.Applied()+1, 1, 0, [][]byte{c}, f.offsets, f.out[:0])
	}
}

// BenchmarkLoad loads a machine with a backlog of a million messages.
func BenchmarkLoad(b *testing.B) {
	f := newFeeder(b, 10, benchDurables...)
	f.commands, f.offsets = f.commands[:1], f.offsets[:1]
	for range 100_000 {
		f.step(b)
	}
	saved := disk{}
	saved.save(b, f.m)
	b.ResetTimer()
	for b.Loop() {
		saved.load(b, f.m.Applied())
	}
}
