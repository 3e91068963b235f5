package main

import (
	"context"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// perdure is our side.
type perdure struct{ binary *ours.Binary }

// run does on three servers of ours what pipeline.run does on three naked ones.
func (p perdure) run(ctx context.Context, l load) (ratio.Figures, error) {
	f, err := p.binary.Run(ctx, l.Durability, bench.Load{
		Scenario: publish, Size: l.Size, Publishers: l.publishers, Window: l.window, Batch: l.batch,
		Sync: l.oneByOne(), Warmup: l.warm, Duration: l.time,
	})
	switch {
	case err != nil:
		return nil, err
	case l.oneByOne():
		return ratio.Figures{ratio.P50: float64(f.P50), ratio.P99: float64(f.P99)}, nil
	}
	return ratio.Figures{ratio.MsgsPerSecond: f.MsgsPerSec, ratio.MBPerSecond: f.MBPerSec}, nil
}
