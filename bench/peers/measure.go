package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// meter counts what counts in a run. Its methods may be called from several
// goroutines.
type meter struct {
	messages atomic.Int64
	timed    atomic.Bool

	mu    sync.Mutex
	times []time.Duration
}

// time keeps a time while the clock runs.
func (m *meter) time(d time.Duration) {
	if !m.timed.Load() {
		return
	}
	m.mu.Lock()
	m.times = append(m.times, d)
	m.mu.Unlock()
}

// measure lets a load that runs go on for its warm-up and its time, and returns
// the figures of the latter. servers are their process ids.
func (m *meter) measure(ctx context.Context, l load, servers []int) (ratio.Figures, error) {
	if err := wait(ctx, l.warm); err != nil {
		return nil, err
	}
	before, err := bench.ProcessUsage(servers...)
	if err != nil {
		return nil, err
	}
	first, began := m.messages.Load(), time.Now()
	m.timed.Store(true)
	if err := wait(ctx, l.time); err != nil {
		return nil, err
	}
	m.timed.Store(false)
	n, took := m.messages.Load()-first, time.Since(began)
	after, err := bench.ProcessUsage(servers...)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("nothing was done while the clock ran")
	}
	f := figures(l, n, took, before, after)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.times) > 0 {
		f[ratio.P50], f[ratio.P99] = ratio.Quantile(m.times, 0.50), ratio.Quantile(m.times, 0.99)
	}
	return f, nil
}

// figures are those of n messages that took so long, and so much of the servers.
func figures(l load, n int64, took time.Duration, before, after bench.Usage) ratio.Figures {
	rate := float64(n) / took.Seconds()
	return ratio.Figures{
		ratio.MsgsPerSecond: rate,
		ratio.MBPerSecond:   rate * float64(l.Size) / 1e6,
		ratio.CPU:           (after.CPU - before.CPU).Seconds() * 1e6 / float64(n),
		ratio.Written:       float64(after.Written-before.Written) / float64(after.Servers) / (float64(n) * float64(l.Size)),
	}
}
