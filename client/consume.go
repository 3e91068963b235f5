package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Handler processes one message. It is called by the goroutines of Consume.
type Handler func(ctx context.Context, d Delivery) error

// ConsumeOption configures Consume.
type ConsumeOption interface{ applyConsume(*consumeConfig) }

type consumeConfig struct {
	workers int
	failed  func(Delivery, error)
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

// PanicError is what a handler panicked with.
type PanicError struct {
	Value any
	Stack []byte
}

// Error describes the value.
func (e *PanicError) Error() string { return fmt.Sprintf("client: handler panicked: %v", e.Value) }

// Consume calls handle for each message until ctx or the subscription ends. A
// message is acknowledged when its handler returned nil, and given back when it
// returned an error or panicked, unless the handler has settled it itself. When
// Consume returns, all handlers have. It returns why it ended; nil after Drain
// or Close.
func (s *Subscription) Consume(ctx context.Context, handle Handler, opts ...ConsumeOption) error {
	cfg := consumeConfig{workers: 1, failed: func(Delivery, error) {}}
	for _, o := range opts {
		o.applyConsume(&cfg)
	}
	if cfg.workers < 1 {
		return refusal(ErrInvalidArgument, nil, "%d workers: there must be at least 1", cfg.workers)
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
			s.c.cfg.log.Warn("handler failed", "endpoint", s.endpoint, "id", d.ID().String(), "count", d.DeliveryCount(), "err", err)
			cfg.failed(d, err)
			_ = d.Nack() // fails only when the subscription has ended: Receive says so
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
