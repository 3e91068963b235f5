package bench

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/client"
)

// turns is how often a backup scenario measures without and with a backup that runs:
// in turn, so that what else the machine does hits both.
const turns = 3

// backup publishes while a backlog is pending, half of the time with somebody who
// makes one backup after the other. What differs is what backups cost.
func backup(r *run) (*Figures, error) {
	if err := r.fill(r.load.backlog()); err != nil {
		return nil, err
	}
	b := &backingUp{r: r}
	if err := b.find(); err != nil {
		return nil, err
	}
	for _, f := range r.feeds {
		f.hold = b.pacing()
	}
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	r.enter("warm-up", r.confirmed)
	if err := r.sleep(r.load.Warmup); err != nil {
		return nil, err
	}
	from, err := r.begin(r.confirmed)
	if err != nil {
		return nil, err
	}
	r.measuring.Store(true)
	for range turns {
		for _, with := range []bool{false, true} {
			if err := b.turn(with); err != nil {
				return nil, err
			}
		}
	}
	r.measuring.Store(false)
	to, err := r.end(r.confirmed)
	if err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Warmup, f.Duration = r.load.Warmup.Seconds(), r.load.Duration.Seconds()
	f.Rate, f.Backlog, f.More = r.load.Rate, r.load.backlog(), b.figures()
	return r.finish(f)
}

// backingUp is what a backup scenario finds out.
type backingUp struct {
	r       *run
	admin   *client.Admin
	cluster string
	number  atomic.Int64 // of turns
	rates   [2]float64   // messages a second without and with backups; sums over the turns
	backups float64
	seconds float64 // of backups
	bytes   atomic.Int64
}

// find finds the cluster that the load goes to.
func (b *backingUp) find() (err error) {
	if b.admin, err = b.r.admin(); err != nil {
		return err
	}
	status, err := b.admin.Status(b.r.ctx)
	if err != nil {
		return err
	}
	c := clusterOf(status, b.r.load.Endpoint)
	if c == nil {
		return fmt.Errorf("no cluster has a store %s", b.r.load.Endpoint)
	}
	b.cluster = c.Name
	return nil
}

// pacing holds a publisher to its share of the rate. What one turn could not have
// confirmed is not made up in the next.
func (b *backingUp) pacing() func(context.Context) error {
	rate := float64(b.r.load.Rate) / float64(len(b.r.feeds)) / holdEvery
	var pace *Pacer
	seen := int64(-1)
	return func(ctx context.Context) error {
		if n := b.number.Load(); n != seen {
			pace, seen = NewPacer(rate, time.Now()), n
		}
		_, err := pace.Wait(ctx)
		return err
	}
}

// turn measures for a while; with backups for as long as one takes, at least.
func (b *backingUp) turn(with bool) error {
	ctx, over := context.WithCancel(b.r.ctx)
	done, whole := make(chan error, 1), make(chan struct{})
	phase, at := "without", 0
	if with {
		phase, at = "with a backup", 1
		go func() { done <- b.again(ctx, whole) }()
	} else {
		done <- nil
	}
	b.number.Add(1)
	before, began := b.r.confirmed(), time.Now()
	b.r.enter(phase, func() int64 { return b.r.confirmed() - before })
	err := b.r.sleep(b.r.load.Duration / (2 * turns))
	if with && err == nil {
		select {
		case <-whole:
		case err = <-done:
			done <- nil
		}
	}
	b.rates[at] += float64(b.r.confirmed()-before) / time.Since(began).Seconds()
	over()
	if e := <-done; err == nil {
		err = e
	}
	return err
}

// again makes one backup after the other, and closes whole after the first. That the
// turn is over while one is made is no failure.
func (b *backingUp) again(ctx context.Context, whole chan<- struct{}) error {
	for first := true; ; first = false {
		began := time.Now()
		_, err := b.admin.SaveCluster(ctx, b.cluster, client.SaveRequest{Online: true, Out: func() (io.Writer, error) { return counted{&b.bytes}, nil }})
		b.seconds += time.Since(began).Seconds()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		b.backups++
		if first {
			close(whole)
		}
	}
}

func (b *backingUp) figures() map[string]float64 {
	without, with := b.rates[0]/turns, b.rates[1]/turns
	return map[string]float64{
		"without_msgs_per_s": rounded(without), "with_msgs_per_s": rounded(with), "cost_percent": rounded(100 * ratio(without-with, without)),
		"backups": b.backups, "backup_mb": rounded(float64(b.bytes.Load()) / 1e6), "backup_s": rounded(b.seconds),
	}
}

// counted counts what is written.
type counted struct{ n *atomic.Int64 }

func (c counted) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
