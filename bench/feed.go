package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

const (
	// sampleEvery is how many asynchronous messages share one measured time: to
	// measure each costs as much as publishing it.
	sampleEvery = 16
	// sampleAll is the size from which every message is measured.
	sampleAll = 4 << 10
	// sampling bounds the futures of a publisher that are waited for.
	sampling = 16 << 10
	// warmUp is the part of a counted load that is published before the clock runs.
	warmUp = 20
	// holdEvery is how many messages pass between two looks at the backlog.
	holdEvery = 64
)

// untilOver publishes until the run is over.
const untilOver = -1

// feed is one publisher.
type feed struct {
	r         *run
	number    int
	pub       *client.Publisher
	message   *message.Message
	stamped   bool                                               // bodies begin with the time of publishing
	hold      func(context.Context) error                        // waits while too much is unconsumed; may be nil
	prepare   func(*message.Message, int)                        // changes a message before it is published; may be nil
	noted     func(receipt client.Receipt, began, now time.Time) // is told of confirmations one by one; may be nil
	confirmed atomic.Int64                                       // messages
	times     *hdrhistogram.Histogram                            // publish to confirmation
	receipt   client.Receipt                                     // one of them
}

// feedTo adds a publisher to an endpoint.
func (r *run) feedTo(endpoint string, options ...client.PublisherOption) (*feed, error) {
	i := len(r.feeds)
	c, err := r.connect(fmt.Sprintf("bench-publisher-%d", i+1))
	if err != nil {
		return nil, err
	}
	f := &feed{r: r, number: i + 1, times: newTimes(), message: &message.Message{Body: make([]byte, r.load.Size)}}
	// Bodies are not all zeros: nothing on the way is to gain from that.
	for k := range f.message.Body {
		f.message.Body[k] = byte(k*31 + i)
	}
	options = append([]client.PublisherOption{
		client.WithBatchTarget(r.load.Batch),
		client.WithWindow(r.load.Window, max(client.DefaultWindowBytes, r.load.Window*r.load.Batch)),
	}, options...)
	if f.pub, err = c.Publisher(r.ctx, endpoint, options...); err != nil {
		return nil, err
	}
	r.feeds = append(r.feeds, f)
	return f, nil
}

// feedAll adds the load's publishers.
func (r *run) feedAll() error {
	for range r.load.Publishers {
		if _, err := r.feedTo(r.load.Endpoint); err != nil {
			return err
		}
	}
	return nil
}

// confirmed returns the messages of all publishers.
func (r *run) confirmed() int64 {
	var n int64
	for _, f := range r.feeds {
		n += f.confirmed.Load()
	}
	return n
}

// publish lets every publisher send, in goroutines that r.publishing knows.
func (r *run) publish(send func(f *feed, ctx context.Context) error) {
	for _, f := range r.feeds {
		r.publishing.Go(func() {
			if err := send(f, r.ctx); err != nil {
				r.fail(fmt.Errorf("publisher %d: %w", f.number, err))
			}
		})
	}
}

// sender returns how the load publishes n messages.
func (r *run) sender() func(f *feed, ctx context.Context, n int) error {
	switch {
	case r.load.Sync:
		return (*feed).oneByOne
	case r.load.Together > 0:
		return (*feed).batches
	}
	return (*feed).stream
}

// going tells whether message i of n is to be published.
func (f *feed) going(ctx context.Context, i, n int) bool {
	return i != n && !f.r.over.Load() && ctx.Err() == nil
}

// ready makes the body of message i and waits until it may go.
func (f *feed) ready(ctx context.Context, i int) error {
	if f.hold != nil && i%holdEvery == 0 {
		if err := f.hold(ctx); err != nil {
			return err
		}
	}
	if f.prepare != nil {
		f.prepare(f.message, i)
	}
	if f.stamped {
		if i%f.every() == 0 {
			f.stamp(time.Now())
		} else {
			f.unstamp()
		}
	}
	return nil
}

// every is of how many messages one is timed.
func (f *feed) every() int {
	if f.r.load.Sync || f.r.load.Together > 0 || f.r.load.Size >= sampleAll {
		return 1
	}
	return sampleEvery
}

// stamp writes a time into the body.
func (f *feed) stamp(t time.Time) {
	binary.LittleEndian.PutUint64(f.message.Body, uint64(t.Sub(f.r.base)))
}

// unstamp marks the body as one without a time.
func (f *feed) unstamp() { binary.LittleEndian.PutUint64(f.message.Body, 0) }

// note writes down a confirmation of n messages.
func (f *feed) note(began time.Time, n int, receipt client.Receipt) {
	now := time.Now()
	if f.r.measuring.Load() {
		record(f.times, now.Sub(began))
	}
	if f.noted != nil {
		f.noted(receipt, began, now)
	}
	f.receipt = receipt
	f.confirmed.Add(int64(n))
}

// oneByOne publishes n messages, each after the one before is confirmed.
func (f *feed) oneByOne(ctx context.Context, n int) error {
	for i := 0; f.going(ctx, i, n); i++ {
		if err := f.ready(ctx, i); err != nil {
			return err
		}
		began := time.Now()
		receipt, err := f.pub.Publish(ctx, f.message)
		if err != nil {
			return err
		}
		f.note(began, 1, receipt)
	}
	return context.Cause(ctx)
}

// batches publishes n messages by calls of several, each after the one before is
// confirmed.
func (f *feed) batches(ctx context.Context, n int) error {
	list := make([]*message.Message, f.r.load.Together)
	for k := range list {
		list[k] = f.message
	}
	for i := 0; f.going(ctx, i, n); i += len(list) {
		if n > 0 && n-i < len(list) {
			list = list[:n-i]
		}
		if err := f.ready(ctx, i); err != nil {
			return err
		}
		began := time.Now()
		receipts, err := f.pub.PublishBatch(ctx, list)
		if err != nil {
			return err
		}
		f.note(began, len(list), receipts[0])
	}
	return context.Cause(ctx)
}

// sample is a message whose confirmation is waited for.
type sample struct {
	began   time.Time
	through int64 // messages of this publisher up to this one
	future  client.Future
}

// stream publishes n messages as the window allows, and measures some.
func (f *feed) stream(ctx context.Context, n int) error {
	every := f.every()
	samples := make(chan sample, sampling)
	measured := make(chan error, 1)
	before := f.confirmed.Load()
	go func() { measured <- f.measure(ctx, samples) }()
	sent := before
	var err error
	for i := 0; i != n && !f.r.over.Load(); i++ {
		if err = f.ready(ctx, i); err != nil {
			break
		}
		sent++
		if i%every != 0 && i != n-1 {
			f.pub.PublishAsync(ctx, f.message) // Flush says if one failed
			continue
		}
		if ctx.Err() != nil {
			break
		}
		s := sample{began: time.Now(), through: sent}
		s.future = f.pub.PublishAsync(ctx, f.message)
		samples <- s
	}
	close(samples)
	flushed := f.pub.Flush(ctx)
	if e := <-measured; e != nil {
		return e
	}
	if err == nil {
		err = flushed
	}
	if err == nil {
		f.confirmed.Store(sent)
	}
	return err
}

// measure waits for futures in their order. It reads samples to the end; the
// first error ends the run, so that publishing does.
func (f *feed) measure(ctx context.Context, samples <-chan sample) error {
	var first error
	for s := range samples {
		if first != nil {
			continue
		}
		receipt, err := s.future.Wait(ctx)
		if err != nil {
			first = err
			f.r.fail(fmt.Errorf("publisher %d: %w", f.number, err))
			continue
		}
		if f.r.measuring.Load() {
			record(f.times, time.Since(s.began))
		}
		f.receipt = receipt
		f.confirmed.Store(s.through)
	}
	return first
}
