package dispatch

import (
	"testing"

	"github.com/perdure/perdure/message"
)

// stretch is a Source whose pending ids are one run, in batches of equal size.
type stretch struct {
	low, high message.ID // pending; none if low > high
	batch     uint64     // messages in each
	bytes     uint32     // of each message
}

func (s *stretch) NextRun(from message.ID) (message.ID, uint64, bool) {
	from = max(from, s.low)
	if from > s.high {
		return 0, 0, false
	}
	return from, uint64(s.high-from) + 1, true
}

func (s *stretch) Batch(id message.ID) (Batch, bool) {
	n := (uint64(id) - 1) / s.batch
	return Batch{First: message.ID(n*s.batch + 1), Count: uint32(s.batch), Bytes: s.bytes * uint32(s.batch), Index: n + 1}, true
}

func (s *stretch) Counted(message.ID, message.ID) bool { return false }
func (s *stretch) Watermark() message.ID               { return s.high }
func (s *stretch) Limit() message.ID                   { return s.high }

// publish adds a batch.
func (s *stretch) publish(d *Dispatcher) {
	s.high += message.ID(s.batch)
	d.Added()
}

// turn is one round of a durable that keeps up: publish, deliver, acknowledge,
// settle, grant.
type turn struct {
	src  *stretch
	d    *Dispatcher
	out  []Delivery
	acks []Run
}

func newTurn(kind Kind, subs int, batch uint64) *turn {
	src := &stretch{low: 1, batch: batch, bytes: 128}
	t := &turn{src: src, d: New(kind, src)}
	for i := range subs {
		if err := t.d.Attach(uint64(i+1), Credit{1024, 16 << 20}); err != nil {
			panic(err)
		}
	}
	return t
}

func (t *turn) run() {
	t.src.publish(t.d)
	t.out = t.d.Next(1, t.out[:0])
	t.acks = t.acks[:0]
	for _, o := range t.out {
		for _, s := range o.Spans {
			t.acks, _ = t.d.Ack(o.Sub, s.First, s.Last, t.acks)
		}
		t.d.Grant(o.Sub, Credit{o.Messages, o.Bytes})
	}
	t.src.low = t.src.high + 1
	for _, r := range t.acks {
		t.d.Gone(r.First, r.Last)
	}
}

func BenchmarkTurn(b *testing.B) {
	for _, c := range []struct {
		name  string
		kind  Kind
		subs  int
		batch uint64
	}{
		{"standard/batch=1", Standard, 1, 1},
		{"standard/batch=500", Standard, 1, 500},
		{"shared=3/batch=1", Shared, 3, 1},
		{"shared=3/batch=500", Shared, 3, 500},
		{"shared=1000/batch=1", Shared, 1000, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := newTurn(c.kind, c.subs, c.batch)
			t.run()
			b.ReportAllocs()
			for b.Loop() {
				t.run()
			}
		})
	}
}

// BenchmarkAckOutOfOrder acknowledges and settles windows of 1,024 in an order
// that leaves as many holes as can be. The time is that of one message.
func BenchmarkAckOutOfOrder(b *testing.B) {
	t := newTurn(Standard, 1, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := i % 1024
		if k == 0 {
			t.src.publish(t.d)
			t.out = t.d.Next(1, t.out[:0])
		}
		id := t.out[0].Batch.First + message.ID(k*389%1024)
		t.acks, _ = t.d.Ack(1, id, id, t.acks[:0])
		if k == 1023 {
			t.d.Gone(1, t.src.high)
			t.src.low = t.src.high + 1
			t.d.Grant(1, Credit{1024, 1024 * 128})
		}
	}
}

// BenchmarkNack gives back every second message of a window, one by one, and
// delivers them again.
func BenchmarkNack(b *testing.B) {
	t := newTurn(Shared, 2, 1024)
	t.src.publish(t.d)
	t.d.Next(1, nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := message.ID(i*2%1024) + 1
		for sub := uint64(1); sub <= 2; sub++ {
			t.acks, _ = t.d.Nack(sub, k, k, 0, t.acks[:0])
			if len(t.acks) > 0 {
				t.d.Grant(sub, Credit{1, 128})
			}
		}
		t.out = t.d.Next(1, t.out[:0])
	}
}
