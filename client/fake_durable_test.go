package client_test

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

// fakeDurable does what a leader's dispatcher does for one durable: it delivers
// what is pending within the credit, and takes settlements.
type fakeDurable struct {
	mu       sync.Mutex
	changed  chan struct{} // closed at each change
	kind     perdurepb.Kind
	prefetch uint64
	most     int // messages of a frame

	ids      []uint64          // pending, ascending
	bodies   map[uint64]string // of all ids ever
	holder   map[uint64]*fakeSubscriber
	ended    map[uint64]uint32
	possible map[uint64]uint32
	acked    []uint64 // in the order of their acknowledgement
	delayed  map[uint64]uint64
	subs     map[*fakeSubscriber]bool
	mute     bool // settlements are taken and not answered
	deaf     bool // settlements are neither taken nor answered
	// withhold says which settlements are answered only when release is called; nil: none.
	withhold func(*perdurepb.Settle) bool
}

type fakeSubscriber struct {
	process  uint64
	messages uint64 // credit
	bytes    int64  // credit; below 0 after a message that always passes
	most     uint64 // messages unsettled at once, ever
	held     uint64
	over     error // ends the stream
	granted  uint64
	withheld []*perdurepb.SubscribeResponse // answers, until release is called
	first    []*perdurepb.SubscribeResponse // to be sent before anything else
}

func newFakeDurable() *fakeDurable {
	return &fakeDurable{
		changed: make(chan struct{}), kind: perdurepb.Kind_KIND_SHARED, prefetch: 256, most: 50,
		bodies: map[uint64]string{}, holder: map[uint64]*fakeSubscriber{}, ended: map[uint64]uint32{},
		possible: map[uint64]uint32{}, delayed: map[uint64]uint64{}, subs: map[*fakeSubscriber]bool{},
	}
}

// change runs f and lets everybody look again.
func (d *fakeDurable) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// add makes messages pending.
func (d *fakeDurable) add(bodies ...string) {
	d.change(func() {
		for _, b := range bodies {
			id := uint64(len(d.bodies)) + 1
			d.bodies[id] = b
			d.ids = append(d.ids, id)
		}
	})
}

// newLeader forgets who holds what, as a new leader does not know.
func (d *fakeDurable) newLeader() {
	d.change(func() {
		for id := range d.holder {
			d.possible[id]++
		}
		clear(d.holder)
	})
}

func (d *fakeDurable) pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ids)
}

// leave releases what a subscriber holds.
func (d *fakeDurable) leave(s *fakeSubscriber) {
	d.change(func() {
		delete(d.subs, s)
		for id, holder := range d.holder {
			if holder == s {
				delete(d.holder, id)
				d.ended[id]++
			}
		}
	})
}

// release sends the answers that were withheld, and withholds no more.
func (d *fakeDurable) release() {
	d.change(func() {
		d.withhold = nil
		for s := range d.subs {
			s.first = append(s.first, s.withheld...)
			s.withheld = nil
		}
	})
}

// lend makes somebody else hold messages.
func (d *fakeDurable) lend(ids ...uint64) {
	d.change(func() {
		for _, id := range ids {
			d.holder[id] = &fakeSubscriber{}
		}
	})
}

// handBack makes that somebody give them back.
func (d *fakeDurable) handBack(ids ...uint64) {
	d.change(func() {
		for _, id := range ids {
			delete(d.holder, id)
			delete(d.delayed, id)
			d.ended[id]++
		}
	})
}

// next returns what to send to s now, nil if nothing; and what to wait for.
func (d *fakeDurable) next(s *fakeSubscriber) (*perdurepb.SubscribeResponse, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.over != nil {
		return nil, nil, s.over
	}
	if len(s.first) > 0 {
		r := s.first[0]
		s.first = s.first[1:]
		return r, nil, nil
	}
	var b message.Builder
	delivery := &perdurepb.Delivery{Stamp: 1e18}
	for _, id := range d.ids {
		size := uint64(len(d.bodies[id])) + 8
		if b.Len() >= d.most || s.messages == 0 || s.bytes <= 0 && s.held > 0 {
			break
		}
		if d.holder[id] != nil || d.delayed[id] > 0 {
			continue
		}
		if err := b.AddBody([]byte(d.bodies[id])); err != nil {
			return nil, nil, err
		}
		if n := len(delivery.Ids); n > 0 && delivery.Ids[n-1]+1 == id {
			delivery.Ids[n-1] = id
		} else {
			delivery.Ids = append(delivery.Ids, id, id)
		}
		if d.ended[id]+d.possible[id] > 0 {
			delivery.Counted = append(delivery.Counted, uint32(b.Len()-1))
			delivery.Ended = append(delivery.Ended, d.ended[id])
			delivery.Possible = append(delivery.Possible, d.possible[id])
		}
		delivery.Bytes += size
		d.holder[id] = s
		s.messages--
		s.bytes -= int64(size)
		s.held++
		s.most = max(s.most, s.held)
	}
	if b.Len() == 0 {
		return nil, d.changed, nil
	}
	return &perdurepb.SubscribeResponse{Delivery: delivery, Batch: b.AppendTo(nil, message.Options{})}, nil, nil
}

// settle applies a settlement of s and returns the answer, nil if there is none.
func (d *fakeDurable) settle(s *fakeSubscriber, m *perdurepb.Settle) *perdurepb.SubscribeResponse {
	answer := &perdurepb.Settled{Token: m.Token}
	mute := false // or withheld
	d.change(func() {
		mute = d.mute || d.deaf
		if d.deaf {
			return
		}
		end := func(first, last uint64, f func(id uint64)) {
			for id := first; id <= last; id++ {
				if holder := d.holder[id]; holder != nil && holder != s {
					answer.Error = &perdurepb.Error{Reason: perdurepb.Reason_REASON_NOT_OWNER}
					continue
				}
				if d.holder[id] == s {
					s.held--
				}
				delete(d.holder, id)
				f(id)
			}
		}
		for i := 0; i < len(m.Acks); i += 2 {
			end(m.Acks[i], m.Acks[i+1], func(id uint64) {
				if at, ok := slices.BinarySearch(d.ids, id); ok {
					d.ids = slices.Delete(d.ids, at, at+1)
					d.acked = append(d.acked, id)
				}
			})
		}
		for _, n := range m.Nacks {
			end(n.First, n.Last, func(id uint64) {
				d.ended[id]++
				if n.DelayMs > 0 {
					d.delayed[id] = n.DelayMs
				}
			})
		}
		if !mute && d.withhold != nil && d.withhold(m) {
			s.withheld = append(s.withheld, &perdurepb.SubscribeResponse{Settled: answer})
			mute = true
		}
	})
	if mute || m.Token == 0 {
		return nil
	}
	return &perdurepb.SubscribeResponse{Settled: answer}
}

func (s *fakeServer) Subscribe(stream perdurepb.Messages_SubscribeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := s.leads(stream.Context()); err != nil {
		return err
	}
	open, d := first.Open, s.w.durable
	s.w.mu.Lock()
	if s.w.onSub != nil {
		if err := s.w.onSub(open); err != nil {
			s.w.mu.Unlock()
			return err
		}
	}
	s.w.subOpened = append(s.w.subOpened, s.address)
	term, lineage := s.w.term, s.w.lineage
	s.w.mu.Unlock()
	sub := &fakeSubscriber{process: open.Process, messages: open.CreditMessages, bytes: int64(open.CreditBytes)}
	opened := &perdurepb.SubscribeOpened{
		Subscription: 1, DurableId: 1, Durable: "audit", Store: "flights", Term: term, Lineage: lineage,
		HeartbeatMs: heartbeatMillis, TimeoutMs: timeoutMillis,
	}
	d.change(func() {
		if sub.messages == 0 {
			sub.messages = d.prefetch
		}
		if sub.bytes == 0 {
			sub.bytes = 16 << 20
		}
		opened.CreditMessages, opened.CreditBytes, opened.Kind = sub.messages, uint64(sub.bytes), d.kind
		if d.kind == perdurepb.Kind_KIND_STANDARD {
			for other := range d.subs {
				other.over = refuse(perdurepb.Reason_REASON_FORCE_CLOSED, "")
			}
		}
		d.subs[sub] = true
	})
	defer d.leave(sub)
	out := make(chan *perdurepb.SubscribeResponse)
	done := make(chan error, 1)
	go func() { done <- s.takeSettlements(stream, sub, out) }()
	if err := stream.Send(&perdurepb.SubscribeResponse{Opened: opened}); err != nil {
		return err
	}
	return s.deliver(stream, sub, out, done)
}

// takeSettlements reads what the subscriber sends, until it closes.
func (s *fakeServer) takeSettlements(stream perdurepb.Messages_SubscribeServer, sub *fakeSubscriber, out chan<- *perdurepb.SubscribeResponse) error {
	d := s.w.durable
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := s.hang(stream.Context()); err != nil {
			return err
		}
		switch {
		case r.Settle != nil:
			s.w.with(func() {
				s.w.settles = append(s.w.settles, r.Settle)
				s.w.frames = append(s.w.frames, "settle")
			})
			if answer := d.settle(sub, r.Settle); answer != nil {
				select {
				case out <- answer:
				case <-stream.Context().Done():
					return stream.Context().Err()
				}
			}
		case r.Credit != nil:
			s.w.with(func() {
				s.w.credits = append(s.w.credits, r.Credit)
				s.w.frames = append(s.w.frames, "credit")
			})
			d.change(func() {
				sub.messages += r.Credit.Messages
				sub.bytes += int64(r.Credit.Bytes)
				sub.granted += r.Credit.Messages
			})
		case r.Close:
			s.w.with(func() { s.w.frames = append(s.w.frames, "close") })
			return io.EOF
		}
	}
}

// deliver sends what the subscriber is owed, answers and heartbeats, until one
// side has enough.
func (s *fakeServer) deliver(stream perdurepb.Messages_SubscribeServer, sub *fakeSubscriber, out <-chan *perdurepb.SubscribeResponse, done <-chan error) error {
	tick := time.NewTicker(heartbeatMillis * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.leads(stream.Context()); err != nil {
			return err
		}
		r, changed, err := s.w.durable.next(sub)
		if err != nil {
			return err
		}
		if r == nil {
			select {
			case <-changed:
				continue
			case r = <-out:
			case <-tick.C:
				r = &perdurepb.SubscribeResponse{Heartbeat: true}
			case err := <-done:
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
		if err := s.hang(stream.Context()); err != nil {
			return err
		}
		if err := stream.Send(r); err != nil {
			return err
		}
	}
}
