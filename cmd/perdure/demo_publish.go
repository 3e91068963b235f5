package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/perdure/perdure/client"
)

// publication is what became of the messages.
type publication struct {
	published int
	confirmed []bool // by number of message
	latency   *hdrhistogram.Histogram
	newLeader string
	failover  time.Duration
}

func (s *publication) count() int {
	n := 0
	for _, ok := range s.confirmed {
		if ok {
			n++
		}
	}
	return n
}

// call is one message on its way.
type call struct {
	number int
	began  time.Time
	future client.Future
}

// failover is the kill, as the publisher and its confirmations see it.
type failover struct {
	at   atomic.Int64 // ns since the run began; 0 before
	mark atomic.Int64 // the first message that was called after it
}

// publish publishes all messages at the rate, kills the leader and restarts it
// on the way, and waits for every confirmation.
func (d *demo) publish(ctx context.Context) (*publication, error) {
	c, err := d.connect(ctx, "demo-publisher")
	if err != nil {
		return nil, err
	}
	defer closeClient(c)
	pub, err := c.Publisher(ctx, demoEndpoint)
	if err != nil {
		return nil, err
	}
	out := &publication{
		confirmed: make([]bool, d.options.count),
		latency:   hdrhistogram.New(1, time.Minute.Microseconds(), 3),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	var kill failover
	var side sync.WaitGroup                   // what goes on beside the publishing
	room := make(chan struct{}, demoInFlight) // one for each message called and not confirmed
	calls := make(chan call, demoInFlight)    // never fuller than room
	side.Go(func() {
		for one := range calls {
			if err := out.await(ctx, one, start, &kill, d.watch); err != nil {
				cancel(err)
			}
			<-room
		}
	})
	err = d.send(ctx, pub, start, &kill, room, calls, &side, cancel, out)
	close(calls)
	side.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return out, err
}

// send makes the calls, in time.
func (d *demo) send(ctx context.Context, pub *client.Publisher, start time.Time, kill *failover,
	room chan<- struct{}, calls chan<- call, side *sync.WaitGroup, cancel context.CancelCauseFunc, out *publication) error {
	pace := pacer{interval: time.Second / time.Duration(d.options.rate), next: start}
	for i := range d.options.count {
		switch i {
		case d.options.count / 3:
			if err := d.killLeader(ctx, start, kill, i); err != nil {
				return err
			}
			side.Go(func() {
				var err error
				if out.newLeader, _, err = d.leader(ctx, d.term); err != nil {
					cancel(err)
					return
				}
				d.watch.say("%s leads", out.newLeader)
			})
		case 2 * d.options.count / 3:
			d.watch.say("starting %s again", d.killed)
			if err := d.fleet.Start(d.fleet.Node(d.killed)); err != nil {
				return err
			}
		}
		m, err := d.flight(i)
		if err != nil {
			return err
		}
		if err := pace.wait(ctx); err != nil {
			return err
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		one := call{number: i, began: time.Now()}
		one.future = pub.PublishAsync(ctx, m)
		calls <- one
		out.published++
	}
	return nil
}

// killLeader kills the process that leads, and waits until it is gone.
func (d *demo) killLeader(ctx context.Context, start time.Time, kill *failover, next int) error {
	leader, term, err := d.leader(ctx, 0)
	if err != nil {
		return err
	}
	d.killed, d.term = leader, term
	kill.mark.Store(int64(next))
	kill.at.Store(int64(time.Since(start)))
	if err := d.fleet.Node(leader).Kill(); err != nil {
		return err
	}
	d.watch.say("%s led, and was killed with SIGKILL", leader)
	return nil
}

// await waits for one confirmation and writes down what it says.
func (s *publication) await(ctx context.Context, one call, start time.Time, kill *failover, watch *watcher) error {
	_, err := one.future.Wait(ctx)
	now := time.Now()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return context.Cause(ctx)
		}
		return fmt.Errorf("flight %d was not confirmed: %w", one.number, err)
	}
	s.confirmed[one.number] = true
	watch.confirmed.Add(1)
	if err := s.latency.RecordValue(now.Sub(one.began).Microseconds()); err != nil {
		return fmt.Errorf("flight %d was confirmed after %v: %w", one.number, now.Sub(one.began), err)
	}
	// A confirmation of an older call may have been on its way when the leader
	// died; one of a later call can only come from its successor.
	if at := kill.at.Load(); at != 0 && s.failover == 0 && int64(one.number) >= kill.mark.Load() {
		s.failover = now.Sub(start) - time.Duration(at)
		watch.say("the next confirmation came %d ms after the kill", s.failover.Milliseconds())
	}
	return nil
}

// pacer spreads calls evenly. After a stall it goes on at its rate and does not
// catch up.
type pacer struct {
	interval time.Duration
	next     time.Time
}

// pacerSlack is the shortest wait worth a timer.
const pacerSlack = 2 * time.Millisecond

func (p *pacer) wait(ctx context.Context) error {
	now := time.Now()
	if late := now.Add(-10 * pacerSlack); p.next.Before(late) {
		p.next = late
	}
	ahead := p.next.Sub(now)
	p.next = p.next.Add(p.interval)
	if ahead < pacerSlack {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(ahead):
		return nil
	}
}
