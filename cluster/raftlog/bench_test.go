package raftlog

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// BenchmarkAppend appends one small entry at a time and waits for done, as a lone
// publisher does.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		b.Run(mode.String(), func(b *testing.B) {
			e, err := Open(Options{Dir: b.TempDir(), Mode: mode})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			l, err := e.Create(1, Copy{ReplicaID: 1, Voters: []uint64{1}})
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 200)
			done := make(chan struct{}, 1)
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				i++
				l.Append(cluster.Write{Entries: []*pb.Entry{newEntry(i, 1, pb.EntryType_EntryNormal, body)}}, func(bool) { done <- struct{}{} })
				<-done
				if i%4096 == 0 {
					c := cluster.Checkpoint{Applied: i, First: i + 1, Dead: []cluster.Range{{Lo: i - 4095, Hi: i + 1}}}
					if err := l.Checkpoint(c); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
