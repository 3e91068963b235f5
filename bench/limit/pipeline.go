package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/bench/limit/child"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// pipeline is three running servers of ours, A first.
type pipeline struct {
	servers []*child.Child
	address string // of A
	dir     string
}

// startPipeline starts the servers, with segments of so many bytes, and waits
// until they are ready.
func startPipeline(ctx context.Context, size int64, sync bool) (_ *pipeline, err error) {
	p := &pipeline{}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "perdure-limit-"); err != nil {
		return nil, err
	}
	start := func(name, followers string) (string, error) {
		c, out, err := child.Start(os.Stderr, serveWord, "-file", filepath.Join(p.dir, name),
			fmt.Sprintf("-size=%d", size), fmt.Sprintf("-sync=%v", sync), "-followers", followers)
		if err != nil {
			return "", err
		}
		p.servers = append(p.servers, c)
		return child.Line(ctx, out)
	}
	b, err := start("b", "")
	if err != nil {
		return nil, err
	}
	c, err := start("c", "")
	if err != nil {
		return nil, err
	}
	p.address, err = start("a", b+","+c)
	return p, err
}

// stop kills the servers and removes their files.
func (p *pipeline) stop() {
	slices.Reverse(p.servers) // A first: it ends when a follower does
	for _, s := range p.servers {
		s.Stop()
	}
	_ = os.RemoveAll(p.dir)
}

// run puts the load on the pipeline: warm-up, then the time that counts.
func (p *pipeline) run(ctx context.Context, l load) (ratio.Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	defer all.Wait() // after the connections are closed
	var publishers []*publisher
	defer func() {
		for _, pub := range publishers {
			pub.close()
		}
	}()
	for range l.publishers {
		pub, err := connect(p.address, l)
		if err != nil {
			return nil, err
		}
		publishers = append(publishers, pub)
	}
	for i, pub := range publishers {
		all.Go(func() {
			if err := pub.publish(l); err != nil {
				cancel(fmt.Errorf("publisher %d: %w", i+1, err))
			}
		})
	}
	if err := wait(ctx, l.warm); err != nil {
		return nil, err
	}
	before, began := confirmed(publishers), time.Now()
	for _, pub := range publishers {
		pub.timed.Store(true)
	}
	if err := wait(ctx, l.time); err != nil {
		return nil, err
	}
	rate := float64(confirmed(publishers)-before) / time.Since(began).Seconds()
	if !l.oneByOne() {
		return ratio.Figures{ratio.MsgsPerSecond: rate, ratio.MBPerSecond: rate * float64(l.Size) / 1e6}, nil
	}
	times := publishers[0].finish()
	return ratio.Figures{ratio.P50: ratio.Quantile(times, 0.50), ratio.P99: ratio.Quantile(times, 0.99)}, nil
}

func confirmed(publishers []*publisher) (messages int64) {
	for _, pub := range publishers {
		messages += pub.confirmed.Load()
	}
	return messages
}

// wait returns nil after d, or why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
