package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// Limits of Publish.
const (
	MaxPublishers = 1024
	MaxSize       = message.MaxMessageSize / 2 // bytes of a body

	// sampleEvery is how many asynchronous messages share one measured time: to
	// measure each costs as much as publishing it.
	sampleEvery = 16
	// warmUp is the part of the messages that is published before the clock runs.
	warmUp = 20
	// sampling bounds the futures of a publisher that are waited for.
	sampling = 16 << 10
)

// Publish is a load of publishers that send equal messages to one endpoint.
type Publish struct {
	Endpoint   string
	Size       int  // bytes of a body
	Count      int  // messages in all, besides a twentieth for warming up
	Publishers int  // each with a client of its own
	Window     int  // batches of a publisher that are unconfirmed
	Batch      int  // bytes at which a batch is sent
	Sync       bool // each publisher waits for every message

	// Connect makes the client of a publisher; Run closes it.
	Connect func(ctx context.Context, name string) (*client.Client, error)
	// CPU returns the processor time that the servers have used so far. It may
	// be nil.
	CPU func() (time.Duration, error)
}

// Result is what a run of Publish measured.
type Result struct {
	Messages     int     `json:"messages"`
	Seconds      float64 `json:"seconds"`
	MsgsPerSec   float64 `json:"msgs_per_s"`
	MBPerSec     float64 `json:"mb_per_s"` // of bodies, 1 MB = 1,000,000 bytes
	P50          int64   `json:"p50_us"`   // call to confirmation
	P99          int64   `json:"p99_us"`
	ServersCPU   float64 `json:"servers_cpu_s_per_million"` // all servers; 0 where unknown
	Measured     int64   `json:"measured"`                  // times that p50 and p99 are of
	Interested   bool    `json:"interested"`                // whether something kept the messages
	Size         int     `json:"size"`
	Publishers   int     `json:"publishers"`
	Window       int     `json:"window"`
	Batch        int     `json:"batch"`
	Synchronous  bool    `json:"sync"`
	Confirmation string  `json:"durability"`
}

// Validate says everything that is out of range.
func (p *Publish) Validate() error {
	var errs []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s %d: it must be %d to %d", name, value, low, high))
		}
	}
	check("size", p.Size, 0, MaxSize)
	check("count", p.Count, 1, 1<<40)
	check("publishers", p.Publishers, 1, MaxPublishers)
	check("window", p.Window, 1, client.MaxWindowBatches)
	check("batch", p.Batch, 1, message.MaxBatchSize)
	return errors.Join(errs...)
}

// Run publishes and returns what it measured. It ends early, with an error,
// when ctx ends or a message is refused.
func (p *Publish) Run(ctx context.Context) (*Result, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loads := make([]*load, p.Publishers)
	defer func() {
		for _, l := range loads {
			if l != nil {
				l.close()
			}
		}
	}()
	for i := range loads {
		l, err := p.open(ctx, i)
		if err != nil {
			return nil, err
		}
		loads[i] = l
	}
	if err := p.each(ctx, cancel, loads, max(1, p.Count/warmUp)); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	for _, l := range loads {
		l.times.Reset()
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := p.each(ctx, cancel, loads, p.Count); err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := p.cpu()
	if err != nil {
		return nil, err
	}
	return p.result(loads, took, after-before), nil
}

func (p *Publish) cpu() (time.Duration, error) {
	if p.CPU == nil {
		return 0, nil
	}
	return p.CPU()
}

// each lets every publisher send its share of count.
func (p *Publish) each(ctx context.Context, cancel context.CancelCauseFunc, loads []*load, count int) error {
	var all sync.WaitGroup
	for i, l := range loads {
		share := count / len(loads)
		if i < count%len(loads) {
			share++
		}
		all.Go(func() {
			send := l.stream
			if p.Sync {
				send = l.oneByOne
			}
			if err := send(ctx, share); err != nil {
				cancel(fmt.Errorf("publisher %d: %w", i+1, err))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func (p *Publish) result(loads []*load, took, cpu time.Duration) *Result {
	times := newTimes()
	for _, l := range loads {
		times.Merge(l.times)
	}
	seconds := took.Seconds()
	r := &Result{
		Messages: p.Count, Seconds: rounded(seconds),
		MsgsPerSec: math.Round(float64(p.Count) / seconds),
		MBPerSec:   rounded(float64(p.Count) * float64(p.Size) / 1e6 / seconds),
		P50:        times.ValueAtQuantile(50), P99: times.ValueAtQuantile(99), Measured: times.TotalCount(),
		ServersCPU: rounded(cpu.Seconds() * 1e6 / float64(p.Count)),
		Size:       p.Size, Publishers: p.Publishers, Window: p.Window, Batch: p.Batch, Synchronous: p.Sync,
	}
	for _, l := range loads {
		r.Interested = r.Interested || l.receipt.Interested
		r.Confirmation = l.receipt.Durability.String()
	}
	return r
}

func newTimes() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 3)
}

// rounded keeps three digits after the point: there is no more to measure.
func rounded(f float64) float64 { return math.Round(f*1000) / 1000 }
