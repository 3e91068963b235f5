package raftlog

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

var (
	streamBytes = flag.Int64("stream", 1<<30, "bytes that BenchmarkStream sends through a log")
	streamLag   = flag.Int64("lag", 128<<20, "bytes that are alive at a time")
	streamEntry = flag.Int("entry", 64<<10, "bytes of an entry")
)

// BenchmarkStream sends a long stream through a log on a real disk, where
// entries die in order some time after they came, as a consumed stream does. It
// reports what it cost and how much of the disk it took at most.
func BenchmarkStream(b *testing.B) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		b.Run(mode.String(), func(b *testing.B) {
			for b.Loop() {
				benchmarkStream(b, mode)
			}
		})
	}
}

func benchmarkStream(b *testing.B, mode Mode) {
	dir := b.TempDir()
	e, err := Open(Options{Dir: dir, Mode: mode})
	if err != nil {
		b.Fatal(err)
	}
	l, err := e.Create(1, Copy{ReplicaID: 1, Voters: []uint64{1}})
	if err != nil {
		b.Fatal(err)
	}
	random := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(random)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	start := time.Now()
	count := uint64(*streamBytes) / uint64(*streamEntry)
	lag := uint64(*streamLag) / uint64(*streamEntry)
	every := max(1, uint64(16<<20)/uint64(*streamEntry))
	first := uint64(1)
	slots := make(chan struct{}, 64)
	var most int64
	for i := uint64(1); i <= count; i++ {
		slots <- struct{}{}
		at := rand.IntN(len(random) - *streamEntry + 1)
		l.Append(cluster.Write{Entries: []*pb.Entry{newEntry(i, 1, pb.EntryType_EntryNormal, random[at:at+*streamEntry])}}, func(bool) { <-slots })
		if i%every == 0 {
			for range cap(slots) { // every append is done
				slots <- struct{}{}
			}
			for range cap(slots) {
				<-slots
			}
			c := cluster.Checkpoint{Applied: i, First: i + 1, Pages: []cluster.Page{{Key: []byte("page"), Value: random[:4096]}}}
			if i > lag {
				c.Dead = []cluster.Range{{Lo: first, Hi: i - lag + 1}}
				first = i - lag + 1
			}
			if err := l.Checkpoint(c); err != nil {
				b.Fatal(err)
			}
			most = max(most, dirSize(dir))
		}
	}
	took := time.Since(start)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	gb := float64(*streamBytes) / (1 << 30)
	b.ReportMetric(cpu.Seconds()/gb, "cpu-s/GB")
	b.ReportMetric(gb*1024/took.Seconds(), "MB/s")
	b.ReportMetric(float64(most)/(1<<20), "most-MB")
	b.ReportMetric(float64(dirSize(dir))/(1<<20), "last-MB")
	b.ReportMetric(0, "ns/op")
	fmt.Fprintln(os.Stderr, e.Metrics())
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

func dirSize(dir string) int64 {
	var n int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}
