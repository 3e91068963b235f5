package harness

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// Outcomes of a message.
const (
	underway byte = iota
	confirmed
	unknown
	refused
)

// Load says how much a publisher publishes.
type Load struct {
	Rate  int // messages a second; as many as the window lets if 0
	Size  int // bytes of a body, at least 16
	Limit int // messages in all; no limit if 0
}

// burst is how often a publisher with a rate publishes.
const burst = 5 * time.Millisecond

// waiting bounds the futures whose outcome nobody has looked at: more than any
// window holds.
const waiting = 1 << 14

// Publishing is a publisher of a history. Its fields are guarded by the lock of
// the history.
type Publishing struct {
	h     *History
	p     *client.Publisher
	index uint32
	store string
	load  Load

	outcomes  []byte       // by sequence
	ids       []message.ID // by sequence, 0 if not known
	confirmed uint64
	failed    uint64
	longest   time.Duration // without a confirmation while some were awaited
	ended     bool

	stop     context.CancelFunc
	finished chan struct{}
}

// sent is a message on its way.
type sent struct {
	sequence uint64
	future   client.Future
}

// Publish starts a publisher through an endpoint that has the name of its store.
func (h *History) Publish(c *client.Client, endpoint string, load Load, opts ...client.PublisherOption) *Publishing {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := c.Publisher(ctx, endpoint, opts...)
	if err != nil {
		h.t.Fatalf("publisher to %s: %v", endpoint, err)
	}
	run, stop := context.WithCancel(context.Background())
	h.t.Cleanup(stop)
	h.mu.Lock()
	pub := &Publishing{h: h, p: p, index: uint32(len(h.publishers)), store: endpoint, load: load, stop: stop, finished: make(chan struct{})}
	h.publishers = append(h.publishers, pub)
	h.mu.Unlock()
	queue := make(chan sent, waiting)
	go pub.publish(run, queue)
	go pub.collect(queue)
	return pub
}

// Stop ends publishing and waits for every outcome.
func (p *Publishing) Stop(ctx context.Context) error {
	p.stop()
	select {
	case <-p.finished:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Wait waits until the publisher has published up to its limit, and every
// outcome is known.
func (p *Publishing) Wait(ctx context.Context) error {
	select {
	case <-p.finished:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Confirmed is how many messages were confirmed.
func (p *Publishing) Confirmed() uint64 {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	return p.confirmed
}

// Failed is how many messages were refused or have an unknown outcome.
func (p *Publishing) Failed() uint64 {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	return p.failed
}

// Longest is the longest time without a confirmation while one was awaited.
func (p *Publishing) Longest() time.Duration {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	return p.longest
}

func (p *Publishing) publish(ctx context.Context, queue chan<- sent) {
	defer close(queue)
	tick := time.NewTicker(burst)
	defer tick.Stop()
	began, n := time.Now(), 0
	var m message.Message
	for ctx.Err() == nil && (p.load.Limit == 0 || n < p.load.Limit) {
		if p.load.Rate > 0 && n >= int(time.Since(began).Seconds()*float64(p.load.Rate)) {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			continue
		}
		p.h.mu.Lock()
		sequence := uint64(len(p.outcomes))
		p.outcomes, p.ids = append(p.outcomes, underway), append(p.ids, 0)
		p.h.mu.Unlock()
		m.Body = body(m.Body[:0], p.index, sequence, p.load.Size)
		// Not ctx: a message that has a number is published, or its failure seen.
		queue <- sent{sequence, p.p.PublishAsync(context.Background(), &m)}
		n++
	}
}

func (p *Publishing) collect(queue <-chan sent) {
	defer close(p.finished)
	last := time.Now()
	for s := range queue {
		if len(queue) == 0 {
			last = time.Now() // what was awaited before is there: this wait is new
		}
		r, err := s.future.Wait(context.Background())
		p.h.mu.Lock()
		p.longest = max(p.longest, time.Since(last))
		last = time.Now()
		switch {
		case err == nil:
			p.outcomes[s.sequence] = confirmed
			p.confirmed++
			p.h.slot(p.store, r.ID, p, s.sequence, "confirmation")
			if !r.Interested {
				p.h.problem(p.store, "publisher %d: message %d of store %s was confirmed, and no durable was interested", p.index, s.sequence, p.store)
			}
		case errors.Is(err, client.ErrOutcomeUnknown):
			p.outcomes[s.sequence] = unknown
			p.failed++
			p.h.problem(p.store, "publisher %d: message %d of store %s has an unknown outcome: %v", p.index, s.sequence, p.store, err)
		default:
			p.outcomes[s.sequence] = refused
			p.failed++
			p.h.problem(p.store, "publisher %d: message %d of store %s failed: %v", p.index, s.sequence, p.store, err)
		}
		p.h.mu.Unlock()
	}
	p.h.mu.Lock()
	p.ended = true
	p.h.mu.Unlock()
}
