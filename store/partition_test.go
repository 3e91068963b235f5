package store

import (
	"fmt"
	"runtime"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
)

// BenchmarkPartition publishes to durables that share the messages out among
// them by a field, with a checkpoint for each million messages. Nothing is
// settled: heap-B/msg is what a backlog takes.
func BenchmarkPartition(b *testing.B) {
	const perBatch = 450
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b)
			var durables []*statepb.Durable
			for i := range n {
				durables = append(durables, &statepb.Durable{Id: uint64(10 + i), Name: fmt.Sprint(i), Kind: 2, Matcher: fmt.Sprintf(`{"k":%d}`, i)})
			}
			r.deploy(&statepb.Store{}, durables...)
			var commands [][]byte
			for k := range 20 {
				var builder message.Builder
				for i := range perBatch {
					m := &message.Message{Body: make([]byte, 128)}
					m.SetInt("k", int64((k*perBatch+i)%n))
					if err := builder.Add(m); err != nil {
						b.Fatal(err)
					}
				}
				commands = append(commands, AppendPublish(nil, 1, 0, 0, 1, builder.AppendTo(nil, message.Options{})))
			}
			before := heapNow()
			var out []Result
			published, bytes, pages := 0, 0, 0
			b.ResetTimer()
			for i := 0; i < b.N; i += perBatch {
				at := i / perBatch % len(commands)
				var err error
				out, err = r.m.Apply(r.m.Applied()+1, 1, 0, commands[at:at+1], []uint32{0}, out[:0])
				if err != nil || out[0].Code != OK || !out[0].Interested {
					b.Fatal(err, out)
				}
				if r.m.Touched(); published/1e6 != (published+perBatch)/1e6 {
					r.m.Changed(func(key, value []byte) { bytes, pages = bytes+len(key)+len(value), pages+1 })
				}
				published += perBatch
			}
			b.ReportMetric((heapNow()-before)/float64(published), "heap-B/msg")
			b.ReportMetric(float64(bytes)/float64(published), "saved-B/msg")
			b.ReportMetric(float64(pages)/float64(published), "saved-pages/msg")
			runtime.KeepAlive(r)
		})
	}
}

func heapNow() float64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}
