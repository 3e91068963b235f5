package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/perdure/perdure/client"
)

// fetched is how many messages a subscriber takes at once.
const fetched = 256

// group is a durable and its subscribers.
type group struct {
	r        *run
	durable  string
	workers  []*worker
	stop     context.CancelFunc
	ctx      context.Context
	look     func(client.Delivery, []byte) error // sees each message; may be nil
	received atomic.Int64                        // messages, acknowledged right after
	repeated atomic.Int64                        // of them, may have been delivered before
	want     atomic.Int64                        // where done is closed; 0 is nowhere
	done     chan struct{}
	finished sync.Once
}

// worker is one subscriber.
type worker struct {
	sub   *client.Subscription
	times *hdrhistogram.Histogram // publish to receive
}

// consume subscribes a durable, the endpoint's default if it has no name, with
// some subscribers, each with a client of its own.
func (r *run) consume(endpoint, durable string, workers int) (*group, error) {
	g := &group{r: r, durable: durable, done: make(chan struct{})}
	g.ctx, g.stop = context.WithCancel(r.ctx)
	r.groups = append(r.groups, g)
	for i := range workers {
		c, err := r.connect(fmt.Sprintf("bench-subscriber-%d-%d", len(r.groups), i+1))
		if err != nil {
			return nil, err
		}
		var options []client.SubscribeOption
		if durable != "" {
			options = append(options, client.Durable(durable))
		}
		if r.load.Prefetch > 0 {
			options = append(options, client.Prefetch(r.load.Prefetch))
		}
		s, err := c.Subscribe(r.ctx, endpoint, options...)
		if err != nil {
			return nil, err
		}
		g.workers = append(g.workers, &worker{sub: s, times: newTimes()})
	}
	return g, nil
}

// consumeAll subscribes the load's durables.
func (r *run) consumeAll() error {
	for _, durable := range r.load.Consumes() {
		if _, err := r.consume(r.load.Endpoint, durable, max(1, r.load.Workers)); err != nil {
			return err
		}
	}
	return nil
}

// start lets all subscribers of all durables receive and acknowledge. stamped
// says that bodies begin with the time of publishing, or with 0, which is looked at
// in every message, or in the first that has one of those that came together.
func (r *run) start(stamped, every bool) {
	for _, g := range r.groups {
		for _, w := range g.workers {
			r.consuming.Go(func() {
				if err := g.work(w, stamped, every); err != nil {
					r.fail(fmt.Errorf("subscriber of %s: %w", w.sub.Durable(), err))
				}
			})
		}
	}
}

// work is one subscriber, until the group stops.
func (g *group) work(w *worker, stamped, every bool) error {
	for {
		list, err := w.sub.Fetch(g.ctx, fetched)
		now := time.Now()
		switch {
		case err == nil:
		case g.ctx.Err() != nil, errors.Is(err, client.ErrClosed):
			return nil
		default:
			return err
		}
		measuring := stamped && g.r.measuring.Load()
		measured := false
		for _, d := range list {
			body := d.Body()
			if len(body) != g.r.load.Size {
				return fmt.Errorf("message %v has a body of %d bytes, not %d; is the endpoint used by others?", d.ID(), len(body), g.r.load.Size)
			}
			if measuring && (every || !measured) {
				if at := binary.LittleEndian.Uint64(body); at != 0 {
					record(w.times, now.Sub(g.r.base)-time.Duration(at))
					measured = true
				}
			}
			if g.look != nil {
				if err := g.look(d, body); err != nil {
					return err
				}
			}
			if d.DeliveryCount() > 0 {
				g.repeated.Add(1)
			}
			if err := d.Ack(); err != nil {
				return err
			}
		}
		n := g.received.Add(int64(len(list)))
		if want := g.want.Load(); want > 0 && n >= want {
			g.finished.Do(func() { close(g.done) })
		}
	}
}

// consumed returns how far the slowest durable is.
func (r *run) consumed() int64 {
	least := int64(0)
	for i, g := range r.groups {
		if n := g.received.Load(); i == 0 || n < least {
			least = n
		}
	}
	return least
}

// leaveNothing waits until nothing pends for the durables that are consumed: in
// a cluster that goes on, what a closed loop still has under way would stay.
func (r *run) leaveNothing() error {
	admin, err := r.admin()
	if err != nil {
		return err
	}
	r.enter("consume the rest", r.consumed)
	for {
		s, err := admin.Status(r.ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(r.groups, func(g *group) bool { return g.pending(s) }) {
			return nil
		}
		if err := r.sleep(readyPoll); err != nil {
			return err
		}
	}
}

// pending reports whether something pends for the durable, or nobody says.
func (g *group) pending(s *client.Status) bool {
	store, durable := g.workers[0].sub.Store(), g.workers[0].sub.Durable()
	for _, c := range s.Clusters {
		for _, st := range c.Stores {
			for _, d := range st.Durables {
				if st.Name == store && d.Name == durable {
					return d.Pending > 0
				}
			}
		}
	}
	return true
}

// drainEach drains the subscriptions of all groups: it returns when every
// acknowledgement is confirmed.
func (r *run) drainEach() error {
	errs := make(chan error)
	n := 0
	for _, g := range r.groups {
		for _, w := range g.workers {
			n++
			go func(s *client.Subscription) { errs <- s.Drain(r.ctx) }(w.sub)
		}
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = fmt.Errorf("acknowledgements were not confirmed: %w", err)
		}
	}
	return first
}
