package peer

import (
	"fmt"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// counter is a Receiving that gives a slot back for each message.
type counter struct {
	*recorder
	slots chan struct{}
}

func (c *counter) Receive(uint64, cluster.Envelope, *pb.Message, bool) { <-c.slots }

// BenchmarkAppends sends MsgApp of one entry over loopback, with a window in
// flight, and waits until all have arrived.
func BenchmarkAppends(b *testing.B) {
	for _, size := range []int{128, 64 << 10, 256 << 10} {
		for _, window := range []int{1, 32} {
			b.Run(fmt.Sprintf("size=%d/window=%d", size, window), func(b *testing.B) {
				slots := make(chan struct{}, window)
				x, y := pair(b, func(o *Options) {
					if o.Server == 2 {
						o.Receiving = &counter{o.Receiving.(*recorder), slots}
					}
				})
				_ = y
				e, m := entries(5, 1, 2, 1, cluster.SealEntry(1, 1, make([]byte, size)))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					slots <- struct{}{}
					if !x.Send(2, e, m) {
						b.Fatal("refused")
					}
				}
				for range window {
					slots <- struct{}{}
				}
			})
		}
	}
}

// BenchmarkHeartbeats sends small control messages.
func BenchmarkHeartbeats(b *testing.B) {
	slots := make(chan struct{}, 256)
	x, _ := pair(b, func(o *Options) {
		if o.Server == 2 {
			o.Receiving = &counter{o.Receiving.(*recorder), slots}
		}
	})
	e, m := heartbeat(1, 1, 2)
	b.ReportAllocs()
	for b.Loop() {
		slots <- struct{}{}
		if !x.Send(2, e, m) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	e, m := entries(5, 1, 2, 1, make([]byte, 100), make([]byte, 100))
	buf, err := appendMessage(nil, e, m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := decodeMessage(buf, true); err != nil {
			b.Fatal(err)
		}
	}
}
