package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// load is one publisher. Its methods are called by one goroutine at a time.
type load struct {
	client  *client.Client
	pub     *client.Publisher
	message *message.Message
	times   *hdrhistogram.Histogram // microseconds from call to confirmation
	receipt client.Receipt          // one of them
}

func (p *Publish) open(ctx context.Context, i int) (*load, error) {
	c, err := p.Connect(ctx, fmt.Sprintf("bench-%d", i+1))
	if err != nil {
		return nil, err
	}
	l := &load{client: c, times: newTimes(), message: &message.Message{Body: make([]byte, p.Size)}}
	// Bodies are not all zeros: nothing on the way is to gain from that.
	for k := range l.message.Body {
		l.message.Body[k] = byte(k*31 + i)
	}
	l.pub, err = c.Publisher(ctx, p.Endpoint,
		client.WithBatchTarget(p.Batch), client.WithWindow(p.Window, max(client.DefaultWindowBytes, p.Window*p.Batch)))
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *load) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = l.client.Close(ctx) // all outcomes are known
}

// oneByOne publishes n messages, each after the one before is confirmed.
func (l *load) oneByOne(ctx context.Context, n int) error {
	for range n {
		began := time.Now()
		r, err := l.pub.Publish(ctx, l.message)
		if err != nil {
			return err
		}
		if err := l.times.RecordValue(time.Since(began).Microseconds()); err != nil {
			return err
		}
		l.receipt = r
	}
	return nil
}

type sample struct {
	began  time.Time
	future client.Future
}

// stream publishes n messages as the window allows, and measures some.
func (l *load) stream(ctx context.Context, n int) error {
	samples := make(chan sample, sampling)
	measured := make(chan error, 1)
	go func() { measured <- l.measure(ctx, samples) }()
	for i := range n {
		if i%sampleEvery != 0 && i != n-1 {
			l.pub.PublishAsync(ctx, l.message) // Flush says if one failed
			continue
		}
		if ctx.Err() != nil {
			break
		}
		s := sample{began: time.Now()}
		s.future = l.pub.PublishAsync(ctx, l.message)
		samples <- s
	}
	close(samples)
	err := l.pub.Flush(ctx)
	if e := <-measured; e != nil {
		return e
	}
	return err
}

// measure waits for futures in their order. It reads samples to the end.
func (l *load) measure(ctx context.Context, samples <-chan sample) error {
	var first error
	for s := range samples {
		if first != nil {
			continue
		}
		r, err := s.future.Wait(ctx)
		if err == nil {
			l.receipt = r
			err = l.times.RecordValue(time.Since(s.began).Microseconds())
		}
		first = err
	}
	return first
}
