package statefile

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/perdure/perdure/message"
)

// benchState is a store of 16 MiB in batches of 64 KiB, of messages with a few
// fields.
func benchState(b *testing.B) (records []Record, size int64) {
	rnd := rand.New(rand.NewPCG(1, 1))
	store := &Store{Name: "flights"}
	records = append(records, store)
	for size < 16<<20 {
		var builder message.Builder
		for builder.Size() < 64<<10-400 {
			m := &message.Message{Body: fmt.Appendf(nil, "%d on time at gate %d", rnd.Uint64(), rnd.IntN(50))}
			m.SetString("origin", []string{"LAS", "JFK", "SFO", "ORD"}[rnd.IntN(4)]).SetInt("flight", rnd.Int64N(9999)).SetFloat("delay", rnd.Float64())
			if err := builder.Add(m); err != nil {
				b.Fatal(err)
			}
		}
		n := builder.Len()
		data := builder.AppendTo(nil, message.Options{})
		records = append(records, &Batch{First: store.last() + 1, Count: uint32(n), Stamp: 1, Len: uint32(len(data)), Bytes: data})
		store.Counter += uint64(n)
		size += int64(len(data))
	}
	return records, size
}

func BenchmarkWrite(b *testing.B) {
	records, size := benchState(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		w, err := NewWriter(io.Discard, &Manifest{})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range records {
			if err := w.Put(r); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	records, size := benchState(b)
	file := save(b, records)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ReportMetric(float64(len(file))/float64(size), "file/content")
	for b.Loop() {
		if _, _, err := Verify(bytes.NewReader(file), nil); err != nil {
			b.Fatal(err)
		}
	}
}
