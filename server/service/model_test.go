package service

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// model knows what must hold of one durable whatever happens: each message is
// held by at most one subscriber, deliveries of a standard durable come in
// order, and what was settled with an answer is never delivered again.
type model struct {
	*rig
	rand    *rand.Rand
	stored  message.ID
	active  map[uint64][]*subscriber // by durable
	settled map[uint64]map[message.ID]bool
	seen    map[*subscriber]int // messages looked at
	answers int
	asked   int
	stops   bool // the cluster is suspended once everything that is sealed is applied
}

// held is what a subscriber has and has neither settled nor given back.
type held map[message.ID]bool

// TestModel runs random histories: batches, subscribers that come and go,
// acknowledgements, nacks, entries that are held up, suspensions, and changes of
// leader.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed, 400) })
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	m := &model{
		rig: newRig(t), rand: rand.New(rand.NewPCG(seed, 1)), active: map[uint64][]*subscriber{},
		settled: map[uint64]map[message.ID]bool{audit: {}, delays: {}}, seen: map[*subscriber]int{},
	}
	holds := map[*subscriber]held{}
	for range steps {
		m.step(holds)
		m.look(holds)
	}
	m.stops = false
	m.run(store.AppendResume(nil))
	// At the end somebody takes and settles everything.
	for _, id := range []uint64{audit, delays} {
		for _, s := range m.active[id] {
			m.s.Detach(s.ID)
		}
		for len(m.log) > 0 {
			m.commit()
		}
		m.settle()
		m.pass(2000 * millisecond)
		last := m.subscribe(id, 1000, 1<<20)
		for m.pending(id) > 0 {
			ids := last.ids()
			before := m.pending(id)
			m.s.Settle(last.ID, acks(ids[0], ids[len(ids)-1]), m.now())
			m.settle()
			m.pass(ackDelay)
			if m.pending(id) == before {
				t.Fatalf("durable %d: stuck with %d pending, %d delivered", id, before, len(ids))
			}
		}
		for _, d := range last.ids() {
			if m.settled[id][d] {
				t.Fatalf("durable %d: %v was settled and delivered again", id, d)
			}
		}
	}
	if m.asked != m.answers {
		t.Fatalf("%d settlements asked for an answer, %d got one", m.asked, m.answers)
	}
}

// step does one random thing.
func (m *model) step(holds map[*subscriber]held) {
	id := []uint64{audit, delays}[m.rand.IntN(2)]
	switch p := m.rand.IntN(100); {
	case p < 25:
		n := 1 + m.rand.IntN(8)
		m.seal(publish(n))
		m.stored += message.ID(n)
	case p < 35:
		m.arrive(id, holds)
	case p < 42:
		if len(m.active[id]) > 0 {
			s := m.active[id][m.rand.IntN(len(m.active[id]))]
			m.leave(s, holds)
			m.s.Detach(s.ID)
		}
	case p < 70:
		m.answer(id, holds)
	case p < 80:
		m.seal()
	case p < 92:
		for range m.rand.IntN(3) {
			if len(m.log) > 0 {
				m.commit()
			}
		}
	case p < 98:
		m.mono += m.rand.Int64N(20 * millisecond)
	case p < 99:
		if m.stops = !m.stops; m.stops {
			m.seal(store.AppendSuspend(nil, m.rand.Int64N(20*millisecond)))
		} else {
			m.seal(store.AppendResume(nil))
		}
	default:
		for len(m.log) > 0 {
			m.commit()
		}
		m.unlead()
		m.active = map[uint64][]*subscriber{}
		clear(holds)
		m.lead()
		m.stops = m.s.Suspended()
	}
	m.s.Settled(m.rand.IntN(10) > 0, m.now())
}

func (m *model) arrive(id uint64, holds map[*subscriber]held) {
	if len(m.active[id]) > 3 || m.stops || m.s.Suspended() {
		return
	}
	m.next++
	s := m.make(id, m.next)
	if err := m.s.Attach(s.Subscription, dispatch.Credit{Messages: uint64(1 + m.rand.IntN(10)), Bytes: 1 << 20}); err != nil {
		m.t.Fatal(err)
	}
	if id == audit {
		for _, old := range slices.Clone(m.active[id]) {
			if len(old.ended) != 1 {
				m.t.Fatalf("the older subscriber was told %v", old.ended)
			}
			m.leave(old, holds)
		}
	}
	m.active[id] = append(m.active[id], s)
	holds[s] = held{}
}

// leave forgets a subscriber: nothing may come to it any more.
func (m *model) leave(s *subscriber, holds map[*subscriber]held) {
	m.look(holds)
	delete(holds, s)
	m.active[s.Durable] = slices.DeleteFunc(m.active[s.Durable], func(o *subscriber) bool { return o == s })
	m.seen[s] = -1
}

// answer settles or gives back some of what a subscriber holds.
func (m *model) answer(id uint64, holds map[*subscriber]held) {
	if len(m.active[id]) == 0 {
		return
	}
	s := m.active[id][m.rand.IntN(len(m.active[id]))]
	all := make([]message.ID, 0, len(holds[s]))
	for d := range holds[s] {
		all = append(all, d)
	}
	slices.Sort(all)
	var st Settlement
	var acked []message.ID
	for _, d := range all {
		switch m.rand.IntN(4) {
		case 0:
			st.Nacks = append(st.Nacks, Nack{Range: Range{First: d, Last: d}, Delay: m.rand.Int64N(3) * 10 * millisecond})
		case 1, 2:
			st.Acks = append(st.Acks, Range{First: d, Last: d})
			acked = append(acked, d)
		default:
			continue
		}
		delete(holds[s], d)
	}
	n := uint64(len(st.Acks) + len(st.Nacks))
	if m.rand.IntN(2) == 0 {
		m.asked++
		st.Done = func(owner, lost bool) {
			m.answers++
			if !owner {
				m.t.Fatalf("subscriber %d does not own %v", s.ID, st)
			}
			for _, d := range acked {
				if !lost {
					m.settled[id][d] = true
				}
			}
		}
	}
	m.s.Settle(s.ID, st, m.now())
	m.s.Grant(s.ID, dispatch.Credit{Messages: n, Bytes: 1 << 10})
}

// look takes new deliveries into account.
func (m *model) look(holds map[*subscriber]held) {
	for s, h := range holds {
		// A suspended leader takes back everything at once.
		if n, _ := m.s.Unacked(s.Durable); m.s.Suspended() && n == 0 {
			clear(h)
		}
	}
	for _, id := range []uint64{audit, delays} {
		for _, s := range m.active[id] {
			ids := s.ids()
			for _, d := range ids[m.seen[s]:] {
				for other, h := range holds {
					if other.Durable == id && h[d] {
						m.t.Fatalf("durable %d: %v went to subscriber %d while %d holds it", id, d, s.ID, other.ID)
					}
				}
				if m.settled[id][d] {
					m.t.Fatalf("durable %d: %v was settled and delivered again", id, d)
				}
				holds[s][d] = true
			}
			m.seen[s] = len(ids)
		}
	}
}

// A machine that was loaded from another's pages goes on where that one was.
func TestLoadedServiceGoesOn(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(audit, 7, 100)
	r.publish(10)
	r.s.Settle(s.ID, acks(1, 4), r.now())
	r.settle()
	r.pass(ackDelay)
	other := New()
	other.Reset()
	r.s.Changed(func(key, value []byte) {
		if value == nil {
			return
		}
		if err := other.LoadPage(key, value); err != nil {
			t.Fatal(err)
		}
	})
	if err := other.Loaded(r.index); err != nil {
		t.Fatal(err)
	}
	if other.Hash() != r.s.Hash() {
		t.Fatal("another state")
	}
	var live []uint64
	other.Live(cluster.Range{Lo: 0, Hi: r.index + 1}, func(i uint64) { live = append(live, i) })
	if len(live) != 1 {
		t.Fatalf("live entries %v", live)
	}
	r.unlead()
	r.s = other
	r.lead()
	again := r.subscribe(audit, 8, 100)
	again.wantIDs(t, 5, 6, 7, 8, 9, 10)
	if c := again.counts(5); len(c) != 1 || c[0].Possible != 1 {
		t.Fatalf("counts %v", c)
	}
	if res := r.run(store.AppendWatermark(nil, audit, 3)); res.Code != store.OK {
		t.Fatal(res)
	}
}
