package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// lineHeader carries the number of a message.
const lineHeader = "line"

// consumption is one durable and its subscribers.
type consumption struct {
	durable string
	clients []*client.Client
	subs    []*client.Subscription
	running sync.WaitGroup
	stop    context.CancelFunc

	mu struct {
		sync.Mutex
		seen        []bool // by number of message
		ids         map[message.ID]int
		distinct    int
		delivered   int
		redelivered int
		outOfOrder  int
		duplicated  int // messages that the store holds twice
		last        time.Time
		err         error
		done        chan struct{} // closed when distinct reaches want
		want        int
	}
}

// consume subscribes a durable with n subscribers, each with a client of its
// own, and lets them acknowledge what they get.
func (d *demo) consume(ctx context.Context, durable string, n int) (*consumption, error) {
	c := &consumption{durable: durable}
	c.mu.seen, c.mu.ids = make([]bool, d.options.count), make(map[message.ID]int, d.options.count)
	c.mu.want, c.mu.done, c.mu.last = -1, make(chan struct{}), time.Now()
	var consuming context.Context
	consuming, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	for i := range n {
		cl, err := d.connect(ctx, fmt.Sprintf("demo-%s-%d", durable, i+1))
		if err != nil {
			c.close()
			return nil, err
		}
		c.clients = append(c.clients, cl)
		s, err := cl.Subscribe(ctx, demoEndpoint, client.Durable(durable))
		if err != nil {
			c.close()
			return nil, err
		}
		c.subs = append(c.subs, s)
		c.running.Go(func() { c.work(consuming, s) })
	}
	return c, nil
}

// work is one subscriber.
func (c *consumption) work(ctx context.Context, s *client.Subscription) {
	highest := -1 // among first deliveries here
	for {
		d, err := s.Receive(ctx)
		if err == nil {
			if highest, err = c.note(d, highest); err == nil {
				err = d.Ack()
			}
		}
		switch {
		case errors.Is(err, client.ErrClosed), errors.Is(err, context.Canceled):
			return
		case err != nil:
			c.fail(err)
			return
		}
	}
}

// note writes down a delivery, before it is acknowledged.
func (c *consumption) note(d client.Delivery, highest int) (int, error) {
	m, err := d.Message()
	if err != nil {
		return highest, err
	}
	text, _ := m.Header(lineHeader)
	number, err := strconv.Atoi(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || number < 0 || number >= len(c.mu.seen) {
		return highest, fmt.Errorf("message %v is none of ours: its line is %q", d.ID(), text)
	}
	c.mu.delivered++
	c.mu.last = time.Now()
	if d.DeliveryCount() > 0 {
		c.mu.redelivered++
	}
	if before, known := c.mu.ids[d.ID()]; known && before != number {
		return highest, fmt.Errorf("id %v names both flight %d and flight %d", d.ID(), before, number)
	} else if !known {
		c.mu.ids[d.ID()] = number
		if c.mu.seen[number] {
			c.mu.duplicated++
		}
	}
	if c.mu.seen[number] {
		return highest, nil
	}
	c.mu.seen[number] = true
	c.mu.distinct++
	if number < highest {
		c.mu.outOfOrder++
	}
	if c.mu.distinct == c.mu.want {
		close(c.mu.done)
	}
	return max(highest, number), nil
}

func (c *consumption) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err == nil {
		c.mu.err = err
		if c.mu.distinct < c.mu.want || c.mu.want < 0 {
			close(c.mu.done)
			c.mu.want = -2 // never reached
		}
	}
}

// finish waits until all that was published was delivered, or nothing has come
// for long; then until every acknowledgement is confirmed.
func (c *consumption) finish(ctx context.Context, sent *publication) error {
	if err := c.awaitAll(ctx, sent.published); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, fmt.Errorf("acknowledgements were not confirmed within %v", demoPatience))
	defer cancel()
	errs := make([]error, len(c.subs))
	var draining sync.WaitGroup
	for i, s := range c.subs {
		draining.Go(func() { errs[i] = s.Drain(ctx) })
	}
	draining.Wait()
	c.running.Wait()
	return errors.Join(errs...)
}

// awaitAll waits for want distinct messages, as long as some come.
func (c *consumption) awaitAll(ctx context.Context, want int) error {
	c.mu.Lock()
	if c.mu.want != -2 {
		if c.mu.want = want; c.mu.distinct >= want {
			close(c.mu.done)
		}
	}
	done := c.mu.done
	c.mu.Unlock()
	tick := time.NewTicker(demoPatience / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-done:
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.mu.err
		case <-tick.C:
			c.mu.Lock()
			silent := time.Since(c.mu.last)
			c.mu.Unlock()
			if silent > demoPatience {
				return nil // what is missing is counted as lost
			}
		}
	}
}

// distinct returns how many messages came.
func (c *consumption) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.distinct
}

// close ends the subscribers and waits for them.
func (c *consumption) close() {
	c.stop()
	for _, cl := range c.clients {
		closeClient(cl)
	}
	c.running.Wait()
}

// figures returns what the report says of the durable.
func (c *consumption) figures(sent *publication) demoDurable {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := demoDurable{
		Delivered: c.mu.delivered, Distinct: c.mu.distinct, Redelivered: c.mu.redelivered,
		OutOfOrder: c.mu.outOfOrder, Duplicated: c.mu.duplicated, Pending: -1,
	}
	for number, ok := range sent.confirmed {
		if ok && !c.mu.seen[number] {
			f.Lost++
		}
	}
	return f
}
