package perdurepb_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

func TestPoolGivesWhatIsAskedFor(t *testing.T) {
	p := perdurepb.Pool()
	for _, n := range []int{0, 1, 4096, 4097, 16 << 10, 16<<10 + 1, 1 << 20, 1<<20 + 1} {
		for range 3 {
			b := p.Get(n)
			if len(*b) != n {
				t.Errorf("a buffer of %d bytes, asked for %d", len(*b), n)
			}
			*b = (*b)[:n/2]
			p.Put(b)
		}
	}
	odd := make([]byte, 5000)
	p.Put(&odd)
	if b := p.Get(16 << 10); len(*b) != 16<<10 {
		t.Errorf("a buffer of %d bytes, asked for %d", len(*b), 16<<10)
	}
}

// frame is a batch in HTTP/2 frames, as gRPC hands it to the codec.
func frame(tb testing.TB, size int) mem.BufferSlice {
	data, err := perdurepb.Codec().Marshal(&perdurepb.PublishRequest{Sequence: 7, Attempt: 1, Batch: bytes.Repeat([]byte("b"), size)})
	if err != nil {
		tb.Fatal(err)
	}
	var s mem.BufferSlice
	for wire := data.Materialize(); len(wire) > 0; {
		n := min(len(wire), 16<<10)
		s, wire = append(s, mem.SliceBuffer(wire[:n])), wire[n:]
	}
	return s
}

func BenchmarkUnmarshalPublish(b *testing.B) {
	data := frame(b, 64<<10)
	var m perdurepb.PublishRequest
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if err := perdurepb.Codec().Unmarshal(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPool compares the pool with gRPC's own.
func BenchmarkPool(b *testing.B) {
	for name, p := range map[string]mem.BufferPool{"perdure": perdurepb.Pool(), "grpc": mem.DefaultBufferPool()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Put(p.Get(16 << 10))
			}
		})
	}
}
