package main

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// perdure is our side: fresh servers for each run.
type perdure struct{ binary *ours.Binary }

func (perdure) name() string { return perdureName }

func (perdure) close() {} // runs leave nothing

// paths are the windows: 8 batches of 64 KiB or of 256 KiB. Where it is not the
// window that limits a load, there is one.
func (p perdure) paths(l load) []ratio.Path {
	batches := []int{64 << 10, 256 << 10}
	if l.oneByOne || l.rate > 0 || l.drains() {
		batches = batches[:1]
	}
	var paths []ratio.Path
	for _, batch := range batches {
		paths = append(paths, ratio.Path{
			Name: fmt.Sprintf("%d KiB x 8", batch>>10),
			Run:  func(ctx context.Context) (ratio.Figures, error) { return p.run(ctx, l, batch) },
		})
	}
	return paths
}

func (p perdure) run(ctx context.Context, l load, batch int) (ratio.Figures, error) {
	b := bench.Load{
		Scenario: "publish", Size: l.Size, Publishers: l.publishers, Window: 8, Batch: batch, Sync: l.oneByOne,
		Rate: l.rate, Workers: l.workers, Backlog: l.backlog, Warmup: l.warm, Duration: l.time,
	}
	switch {
	case l.drains():
		b.Scenario = "drain"
	case l.rate > 0:
		b.Scenario = "latency"
	case l.consumed:
		b.Scenario = "stream"
	}
	f, err := p.binary.Run(ctx, l.Durability, b)
	if err != nil {
		return nil, err
	}
	figures := ratio.Figures{
		ratio.MsgsPerSecond: f.MsgsPerSec, ratio.MBPerSecond: f.MBPerSec,
		ratio.CPU: f.ServersCPU, ratio.Written: f.WrittenPerByte,
	}
	switch {
	case l.oneByOne:
		figures[ratio.P50], figures[ratio.P99] = float64(f.P50), float64(f.P99)
	case l.rate > 0:
		figures[ratio.P50], figures[ratio.P99] = float64(f.ReceiveP50), float64(f.ReceiveP99)
	}
	return figures, nil
}
