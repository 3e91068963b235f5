package bench

import (
	"context"
	"time"
)

// RateReached is, of Figures.More, the part of the rate that was consumed: all of
// it is 1.
const RateReached = "rate_reached"

// latency publishes at a fixed rate, open loop, and consumes. All times are from
// when a message was meant to go: where something stalls, those that had to wait
// behind it count as late, too.
func latency(r *run) (*Figures, error) {
	if err := r.consumeAll(); err != nil {
		return nil, err
	}
	if err := r.feedAll(); err != nil {
		return nil, err
	}
	r.start(true, true)
	start := time.Now()
	r.publish(func(f *feed, ctx context.Context) error {
		// Each has its share of the rate; they take turns.
		pace := NewPacer(float64(r.load.Rate)/float64(len(r.feeds)), start.Add(time.Second*time.Duration(f.number-1)/time.Duration(r.load.Rate)))
		return f.paced(ctx, pace)
	})
	f, err := r.window(r.consumed)
	if err != nil {
		return nil, err
	}
	f.Rate, f.Durables = r.load.Rate, r.load.Durables
	f.More = map[string]float64{RateReached: rounded(f.MsgsPerSec / float64(f.Rate))}
	return r.finish(f)
}

// paced publishes when the pacer says so, and measures every message from when
// it was meant to go.
func (f *feed) paced(ctx context.Context, pace *Pacer) error {
	samples := make(chan sample, sampling)
	measured := make(chan error, 1)
	go func() { measured <- f.measure(ctx, samples) }()
	for i := int64(1); !f.r.over.Load(); i++ {
		meant, err := pace.Wait(ctx)
		if err != nil {
			break // the cause is the run's
		}
		f.stamp(meant)
		samples <- sample{began: meant, through: i, future: f.pub.PublishAsync(ctx, f.message)}
	}
	close(samples)
	err := f.pub.Flush(ctx)
	if e := <-measured; e != nil {
		return e
	}
	return err
}
