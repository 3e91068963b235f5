package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// syncEvery is how often a subscriber waits for the confirmation of an
// acknowledgement. The others are not waited for: that would be a test of the
// disk's speed.
const syncEvery = 50 * time.Millisecond

// consumed is what the subscribers of one durable got. Its fields are guarded by
// the lock of the history.
type consumed struct {
	h     *History
	store string
	name  string
	kind  client.Kind
	subs  []*Consuming

	since      map[uint32]uint64 // first sequence that the durable owes, by publisher
	got        map[uint32][]byte // how often a message came, up to 255, by publisher
	by         map[uint32][]byte // number of the newest subscriber to which it came, by publisher
	settled    map[uint32][]bool // acknowledged, and that was confirmed
	next       map[uint32]uint64 // above the sequence of the newest first delivery
	lastID     message.ID        // of first deliveries
	deliveries uint64
	distinct   uint64
	counted    uint64 // deliveries with a count
}

// Consuming is one subscriber.
type Consuming struct {
	d        *consumed
	s        *client.Subscription
	number   byte    // of the durable's subscribers, in order, up to 255
	careless float64 // part of the messages that it does not acknowledge
	stop     context.CancelFunc
	finished chan struct{}
	err      error // why it ended; read once finished is closed
}

// Subscribe starts a subscriber, which acknowledges everything. An endpoint has
// the name of its store.
func (h *History) Subscribe(c *client.Client, endpoint string, opts ...client.SubscribeOption) *Consuming {
	h.t.Helper()
	return h.SubscribeCareless(c, endpoint, 0, opts...)
}

// SubscribeCareless starts a subscriber that leaves a part of the messages
// unacknowledged, or gives them back, by chance. It must be closed before Finish,
// for another to get them. A newer one may close it by force.
func (h *History) SubscribeCareless(c *client.Client, endpoint string, part float64, opts ...client.SubscribeOption) *Consuming {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := c.Subscribe(ctx, endpoint, opts...)
	if err != nil {
		h.t.Fatalf("subscribe %s: %v", endpoint, err)
	}
	run, stop := context.WithCancel(context.Background())
	h.t.Cleanup(stop)
	sub := &Consuming{s: s, careless: part, stop: stop, finished: make(chan struct{})}
	h.mu.Lock()
	key := s.Store() + "/" + s.Durable()
	if h.durables[key] == nil {
		h.durables[key] = h.newConsumed(s)
	}
	sub.d = h.durables[key]
	sub.number = byte(min(len(sub.d.subs), 255))
	sub.d.subs = append(sub.d.subs, sub)
	h.mu.Unlock()
	go sub.consume(run)
	return sub
}

// newConsumed begins with what was published before, unless the durable is new.
// The lock is held.
func (h *History) newConsumed(s *client.Subscription) *consumed {
	d := &consumed{
		h: h, store: s.Store(), name: s.Durable(), kind: s.Kind(),
		since: map[uint32]uint64{}, got: map[uint32][]byte{}, by: map[uint32][]byte{}, settled: map[uint32][]bool{}, next: map[uint32]uint64{},
	}
	if s.Created() {
		for _, p := range h.publishers {
			d.since[p.index] = uint64(len(p.outcomes))
		}
	}
	return d
}

// Close ends a subscriber: what it did not acknowledge goes back.
func (c *Consuming) Close(ctx context.Context) error {
	c.stop()
	<-c.finished
	return c.s.Close(ctx)
}

// ForceClosed waits until a careless subscriber has been told that a newer one
// took its durable.
func (c *Consuming) ForceClosed(ctx context.Context) error {
	select {
	case <-c.finished:
	case <-ctx.Done():
		return fmt.Errorf("nobody told the subscriber of durable %s of %s that a newer one took it", c.d.name, c.d.store)
	}
	if !errors.Is(c.err, client.ErrForceClosed) {
		return fmt.Errorf("the subscriber of durable %s of %s ended: %w", c.d.name, c.d.store, c.err)
	}
	return c.s.Close(ctx)
}

// Forget makes the history judge a store no more, because it is to be deleted.
// What uses it may fail from here on.
func (h *History) Forget(store string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgotten[store] = true
	for _, p := range h.publishers {
		if p.store == store {
			p.stop()
		}
	}
	for key, d := range h.durables {
		if d.store == store {
			for _, s := range d.subs {
				s.stop()
			}
			delete(h.durables, key)
		}
	}
}

func (c *Consuming) consume(ctx context.Context) {
	defer close(c.finished)
	var synced time.Time
	for {
		batch, err := c.s.Fetch(ctx, 256)
		if err != nil {
			c.err = err
			if ctx.Err() == nil && !(c.careless > 0 && errors.Is(err, client.ErrForceClosed)) {
				c.d.h.mu.Lock()
				c.d.h.problem(c.d.store, "a subscriber of durable %s of %s ended: %v", c.d.name, c.d.store, err)
				c.d.h.mu.Unlock()
			}
			return
		}
		for _, delivery := range batch {
			sync := time.Since(synced) >= syncEvery
			c.take(ctx, delivery, sync)
			if sync {
				synced = time.Now()
			}
		}
	}
}

// take notes a delivery and acknowledges it.
func (c *Consuming) take(ctx context.Context, delivery client.Delivery, sync bool) {
	d, h := c.d, c.d.h
	index, sequence, err := read(delivery.Body())
	h.mu.Lock()
	if err != nil {
		h.problem(d.store, "durable %s of %s delivered what nobody published: id %v: %v", d.name, d.store, delivery.ID(), err)
	} else if why := d.note(c.number, index, sequence, delivery.ID(), delivery.DeliveryCount()); why != "" {
		h.problem(d.store, "durable %s of %s, message %d of publisher %d, id %v, count %d: %s", d.name, d.store, sequence, index, delivery.ID(), delivery.DeliveryCount(), why)
	}
	h.mu.Unlock()
	switch {
	case rand.Float64() >= c.careless:
	case rand.IntN(2) == 0:
		_ = delivery.Nack() // fails as Ack does
		return
	default:
		return
	}
	if !sync {
		_ = delivery.Ack() // fails when the subscription has ended, and Fetch says so
		return
	}
	if delivery.AckSync(ctx) == nil && err == nil {
		h.mu.Lock()
		d.settled[index] = grow(d.settled[index], sequence)
		d.settled[index][sequence] = true
		h.mu.Unlock()
	}
}

// note records a delivery with its count and says what is wrong with it. The
// lock is held.
func (d *consumed) note(number byte, index uint32, sequence uint64, id message.ID, count int) string {
	h := d.h
	if int(index) >= len(h.publishers) || sequence >= uint64(len(h.publishers[index].outcomes)) {
		return "nobody published that"
	}
	p := h.publishers[index]
	if p.outcomes[sequence] == refused {
		return "it was refused, and delivered all the same"
	}
	if p.store != d.store {
		return "it was published to store " + p.store
	}
	h.slot(d.store, id, p, sequence, "delivery")
	d.deliveries++
	if count > 0 {
		d.counted++
	}
	d.got[index] = grow(d.got[index], sequence)
	first := d.got[index][sequence] == 0
	if d.got[index][sequence] < 255 {
		d.got[index][sequence]++
	}
	d.by[index] = grow(d.by[index], sequence)
	after := d.by[index][sequence]
	d.by[index][sequence] = max(after, number)
	if !first && number < after {
		// It was taken over while it worked off what it had fetched before.
		return ""
	}
	if !first {
		switch settled := d.settled[index]; {
		case d.kind == client.KindStandard && sequence < uint64(len(settled)) && settled[sequence]:
			return "it was acknowledged, which was confirmed, and it came again"
		case count == 0 && d.kind == client.KindStandard:
			return "it came before, and its count is 0"
		}
		return ""
	}
	d.distinct++
	if d.kind != client.KindStandard {
		return ""
	}
	wrong := ""
	if sequence < d.next[index] || id <= d.lastID {
		wrong = fmt.Sprintf("out of order: after message %d of its publisher, id %v", int64(d.next[index])-1, d.lastID)
	}
	d.next[index], d.lastID = sequence+1, id
	return wrong
}

// complete says what the durable has not delivered. The lock is held.
func (d *consumed) complete() error {
	for _, p := range d.h.publishers {
		if p.store != d.store {
			continue
		}
		missing, first, last := 0, uint64(0), uint64(0)
		got := d.got[p.index]
		for sequence := d.since[p.index]; sequence < uint64(len(p.outcomes)); sequence++ {
			if p.outcomes[sequence] != confirmed || sequence < uint64(len(got)) && got[sequence] > 0 {
				continue
			}
			if missing == 0 {
				first = sequence
			}
			missing, last = missing+1, sequence
		}
		if missing > 0 {
			return fmt.Errorf("durable %s of %s misses %d of the %d confirmed messages of publisher %d, from %d (id %v) to %d (id %v)",
				d.name, d.store, missing, p.confirmed, p.index, first, p.ids[first], last, p.ids[last])
		}
	}
	return nil
}

// drain ends the subscribers once everything they got is settled.
func (d *consumed) drain(ctx context.Context) {
	for _, s := range d.subs {
		s.stop()
		<-s.finished
		if s.careless > 0 {
			continue // closed by the test, or by force
		}
		if err := s.s.Drain(ctx); err != nil {
			d.h.mu.Lock()
			d.h.problem(d.store, "durable %s of %s: drain: %v", d.name, d.store, err)
			d.h.mu.Unlock()
		}
	}
}

func grow[T any](s []T, index uint64) []T {
	for uint64(len(s)) <= index {
		s = append(s, make([]T, max(64, len(s)))...)
	}
	return s
}
