package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Handler processes one message. It is called by the goroutines of Consume.
type Handler func(ctx context.Context, d Delivery) error

// ConsumeOption configures Consume.
type ConsumeOption interface{ applyConsume(*consumeConfig) }

type consumeConfig struct {
	workers     int
	failed      func(Delivery, error)
	first, most time.Duration // of the pauses between tries
}

type consumeOption func(*consumeConfig)

func (f consumeOption) applyConsume(c *consumeConfig) { f(c) }

// Workers sets how many handlers run at once: 1 unless set. Messages are handled
// in order with one worker only.
func Workers(n int) ConsumeOption {
	return consumeOption(func(c *consumeConfig) { c.workers = n })
}

// OnFailure is called, by the worker, with each error that a handler returned or
// panicked with. It comes in addition to the log.
func OnFailure(report func(d Delivery, err error)) ConsumeOption {
	return consumeOption(func(c *consumeConfig) { c.failed = report })
}

// Backoff sets how long a message whose handler failed stays away: first after
// the first failure, twice as long after each further one, at most most, which is
// at most MaxNackDelay. 100 ms and 30 s unless set; 0 and 0 give it back at once.
// Other messages of the durable go on meanwhile.
func Backoff(first, most time.Duration) ConsumeOption {
	return consumeOption(func(c *consumeConfig) { c.first, c.most = first, most })
}

// delay returns how long a message stays away that failed so often before.
func (c *consumeConfig) delay(failed int) time.Duration {
	d := c.first
	for ; failed > 0 && d < c.most; failed-- {
		d *= 2
	}
	return min(d, c.most)
}

// PanicError is what a handler panicked with.
type PanicError struct {
	Value any
	Stack []byte
}

// Error describes the value.
func (e *PanicError) Error() string { return fmt.Sprintf("client: handler panicked: %v", e.Value) }

// Consume calls handle for each message until ctx or the subscription ends. A
// message is acknowledged when its handler returned nil, and given back, to come
// again later, when it returned an error or panicked, unless the handler has
// settled it itself. When Consume returns, all handlers have. It returns why it
// ended; nil after Drain or Close.
func (s *Subscription) Consume(ctx context.Context, handle Handler, opts ...ConsumeOption) error {
	cfg := consumeConfig{workers: 1, failed: func(Delivery, error) {}, first: 100 * time.Millisecond, most: 30 * time.Second}
	for _, o := range opts {
		o.applyConsume(&cfg)
	}
	if cfg.workers < 1 {
		return refusal(ErrInvalidArgument, nil, "%d workers: there must be at least 1", cfg.workers)
	}
	if cfg.first < 0 || cfg.most < cfg.first || cfg.most > MaxNackDelay {
		return refusal(ErrInvalidArgument, nil, "backoff from %v to %v: want 0 <= first <= most <= %v", cfg.first, cfg.most, MaxNackDelay)
	}
	errs := make(chan error, cfg.workers) // one each, so that none blocks
	var workers sync.WaitGroup
	for range cfg.workers {
		workers.Go(func() { errs <- s.work(ctx, handle, &cfg) })
	}
	workers.Wait()
	err := <-errs // all end for the same reason
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

func (s *Subscription) work(ctx context.Context, handle Handler, cfg *consumeConfig) error {
	for {
		d, err := s.Receive(ctx)
		if err != nil {
			return err
		}
		if err := protect(ctx, handle, d); err != nil {
			delay := cfg.delay(d.EndedDeliveries())
			s.c.cfg.log.Warn("handler failed", "endpoint", s.endpoint, "id", d.ID().String(), "count", d.DeliveryCount(), "again_after", delay, "err", err)
			cfg.failed(d, err)
			_ = d.NackAfter(delay) // fails only when the subscription has ended: Receive says so
			continue
		}
		_ = d.Ack() // as above
	}
}

// protect turns a panic into an error.
func protect(ctx context.Context, handle Handler, d Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return handle(ctx, d)
}
