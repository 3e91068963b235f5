package dispatch

import (
	"fmt"
	"testing"

	"github.com/perdure/perdure/message"
)

// deliver calls Next and judges each id of what it hands out, then that nothing
// was left behind.
func (m *model) deliver() {
	due := int64(0)
	for _, p := range m.at {
		if p.state == delayed && (due == 0 || p.due < due) {
			due = p.due
		}
	}
	if got := m.d.Deadline(); got != due {
		m.t.Fatalf("deadline %d, want %d", got, due)
	}
	for id, p := range m.at {
		if p.state == delayed && p.due <= m.now {
			m.at[id] = place{state: returned, ended: p.ended, nacked: true}
		}
	}
	prev := message.ID(0)
	for _, d := range m.d.Next(m.now, nil) {
		s := m.subs[d.Sub]
		if s == nil {
			m.t.Fatalf("delivered to %d, who is not there", d.Sub)
		}
		if len(d.Spans) == 0 {
			m.t.Fatalf("an empty delivery: %+v", d)
		}
		n, counted := uint64(0), false
		size := int64(d.Batch.MessageBytes())
		for _, r := range d.Spans {
			if r.First < d.Batch.First || r.Last > d.Batch.Last() {
				m.t.Fatalf("%+v is not all in its batch", d)
			}
			for id := r.First; id <= r.Last; id++ {
				if id <= prev {
					m.t.Fatalf("%d was handed out after %d", id, prev)
				}
				prev = id
				n++
				counted = m.take(s, d.Sub, id, r.Ended, size) || counted
			}
		}
		if d.Messages != n || int64(d.Bytes) != int64(n)*size || d.Counted != counted || d.Whole() != (n == uint64(d.Batch.Count)) {
			m.t.Fatalf("%+v should be %d messages, counted %t", d, n, counted)
		}
	}
	m.leftBehind()
}

// take judges the delivery of one id and says whether it is counted.
func (m *model) take(s *member, sub uint64, id message.ID, ended uint32, size int64) bool {
	p, known := m.at[id]
	switch {
	case !m.rec.contains(id):
		m.t.Fatalf("%d is not pending", id)
	case id > m.rec.Limit():
		m.t.Fatalf("%d is above the limit %d, watermark %d", id, m.rec.Limit(), m.rec.watermark)
	case known && p.state != returned:
		m.t.Fatalf("%d was handed to %d but is %+v", id, sub, p)
	case !known && id < m.cursor:
		m.t.Fatalf("%d is new again", id)
	case p.ended != ended:
		m.t.Fatalf("%d has ended %d times unseen, said %d", id, p.ended, ended)
	case !s.fits(size):
		m.t.Fatalf("%d has no room for %d bytes: %+v", sub, size, *s)
	case m.kind == Standard && !p.nacked && id <= s.last:
		m.t.Fatalf("%d comes after %d", id, s.last)
	}
	if !known {
		for lower, q := range m.at {
			if q.state == returned && m.rec.contains(lower) {
				m.t.Fatalf("%d is new and goes before %d, which was returned", id, lower)
			}
		}
		m.cursor = id + 1
	}
	s.messages--
	s.bytes -= size
	s.held++
	s.last = max(s.last, id)
	m.seen++
	m.at[id] = place{state: held, sub: sub, ended: ended, nacked: p.nacked}
	return ended > 0 || m.rec.ended[id] > 0
}

// leftBehind fails if somebody has room for what should go next.
func (m *model) leftBehind() {
	head := message.ID(0)
	for id, p := range m.at {
		if p.state == returned && (head == 0 || id < head) {
			head = id
		}
	}
	for _, id := range m.rec.ids {
		if head != 0 || id > m.rec.Limit() {
			break
		}
		if _, known := m.at[id]; !known {
			head = id
		}
	}
	if head == 0 {
		return
	}
	b, _ := m.rec.Batch(head)
	for id, s := range m.subs {
		if s.fits(int64(b.MessageBytes())) {
			m.t.Fatalf("%d was left behind though %d has room: %+v", head, id, *s)
		}
	}
}

func TestModel(t *testing.T) {
	for _, kind := range []Kind{Standard, Shared} {
		for seed := range uint64(40) {
			t.Run(fmt.Sprintf("kind=%d/seed=%d", kind, seed), func(t *testing.T) {
				m := newModel(t, kind, seed)
				for range 500 {
					m.step()
				}
				if m.seen == 0 {
					t.Fatal("nothing was delivered")
				}
			})
		}
	}
}
