package dispatch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/perdure/perdure/message"
)

// place is where the model thinks an id is.
type place struct {
	state  state
	sub    uint64
	due    int64
	ended  uint32
	nacked bool // so it may come out of order
}

// member is a subscriber as the model sees it.
type member struct {
	messages, bytes int64
	held            int
	last            message.ID // highest delivered in this attachment
}

func (m *member) fits(size int64) bool {
	return m.messages > 0 && (m.bytes >= size || m.held == 0)
}

// model does everything one id at a time, in maps.
type model struct {
	t    *testing.T
	rng  *rand.Rand
	kind Kind
	rec  *record
	d    *Dispatcher

	at     map[message.ID]place
	cursor message.ID
	subs   map[uint64]*member
	now    int64
	nextID uint64
	seen   uint64 // messages delivered

	settles, releases []Run // proposed, not applied
	raises            []message.ID
}

func newModel(t *testing.T, kind Kind, seed uint64) *model {
	rec := newRecord()
	return &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), kind: kind, rec: rec, d: New(kind, rec),
		at: make(map[message.ID]place), subs: make(map[uint64]*member), now: 1,
	}
}

// failover forgets all that is volatile and starts a new Dispatcher. Proposals
// may be applied before that or are lost.
func (m *model) failover() {
	if m.rng.IntN(2) == 0 {
		m.apply()
	}
	for _, id := range m.rec.ids {
		if id <= m.rec.Limit() {
			m.rec.ended[id]++
		}
	}
	m.rec.idle = m.rng.IntN(2) == 0
	m.d = New(m.kind, m.rec)
	m.at, m.cursor, m.subs = make(map[message.ID]place), 0, make(map[uint64]*member)
	m.settles, m.releases, m.raises = nil, nil, nil
}

func (m *model) publish() {
	n := 1 + m.rng.IntN(12)
	if m.rng.IntN(8) == 0 {
		n = 200
	}
	wants := m.rng.IntN(3)
	m.rec.publish(n, uint32(n*(1+m.rng.IntN(40))), func(i int) bool { return wants > 0 || i%3 == 0 })
	m.d.Added()
}

func (m *model) attach() {
	m.nextID++
	credit := Credit{uint64(m.rng.IntN(40)), uint64(m.rng.IntN(1500))}
	err := m.d.Attach(m.nextID, credit)
	if full := m.kind == Standard && len(m.subs) > 0; full != (err != nil) {
		m.t.Fatalf("attach: %v with %d attached", err, len(m.subs))
	}
	if err == nil {
		m.subs[m.nextID] = &member{messages: int64(credit.Messages), bytes: int64(credit.Bytes)}
	}
}

// anySub returns an attached subscriber, or now and then one that is not.
func (m *model) anySub() uint64 {
	ids := slices.Sorted(maps.Keys(m.subs))
	if len(ids) == 0 || m.rng.IntN(20) == 0 {
		return 1_000_000
	}
	return ids[m.rng.IntN(len(ids))]
}

func (m *model) grant() {
	sub := m.anySub()
	credit := Credit{uint64(m.rng.IntN(30)), uint64(m.rng.IntN(900))}
	m.d.Grant(sub, credit)
	if s := m.subs[sub]; s != nil {
		s.messages += int64(credit.Messages)
		s.bytes += int64(credit.Bytes)
	}
}

func (m *model) detach() {
	sub := m.anySub()
	var want []message.ID
	for _, id := range slices.Sorted(maps.Keys(m.at)) {
		if p := m.at[id]; p.state == held && p.sub == sub {
			want = append(want, id)
			m.at[id] = place{state: returned, ended: p.ended + 1, nacked: p.nacked}
		}
	}
	got := m.d.Detach(sub, nil)
	m.same("detach", got, want)
	delete(m.subs, sub)
	m.releases = append(m.releases, got...)
}

func (m *model) recall() {
	n := uint64(0)
	for id, p := range m.at {
		if p.state == held {
			n++
			m.at[id] = place{state: returned, ended: p.ended, nacked: p.nacked}
		}
	}
	if got := m.d.Recall(); got != n {
		m.t.Fatalf("recall: %d messages, want %d", got, n)
	}
	for _, s := range m.subs {
		s.held, s.last = 0, 0 // what was recalled comes again, in order
	}
}

// someRange returns a range, mostly near what is held.
func (m *model) someRange() (first, last message.ID) {
	if m.rng.IntN(30) == 0 {
		return 0, ^message.ID(0)
	}
	first = message.ID(m.rng.Uint64N(uint64(m.rec.top) + 3))
	if ids := m.rec.ids; len(ids) > 0 && m.rng.IntN(10) > 0 {
		first = ids[m.rng.IntN(min(len(ids), 80))]
	}
	return first, first + message.ID(m.rng.IntN(1+m.rng.IntN(40)))
}

func (m *model) ack() {
	sub := m.anySub()
	first, last := m.someRange()
	var want []message.ID
	verdict := OK
	if m.subs[sub] == nil {
		verdict = NotOwner
	} else {
		for id := max(first, 1); id <= min(last, m.rec.top); id++ {
			p, known := m.at[id]
			switch {
			case known && p.state == held && p.sub != sub:
				verdict = NotOwner
				continue
			case !known && !m.rec.contains(id):
				continue
			case !known && id > m.rec.watermark:
				verdict = NotOwner
				continue
			case known && p.state == held:
				m.subs[sub].held--
			}
			m.at[id] = place{state: settling}
			want = append(want, id)
		}
	}
	got, v := m.d.Ack(sub, first, last, nil)
	m.same(fmt.Sprintf("ack %d-%d", first, last), got, want)
	if v != verdict {
		m.t.Fatalf("ack %d-%d by %d: verdict %d, want %d", first, last, sub, v, verdict)
	}
	m.settles = append(m.settles, got...)
}

func (m *model) nack() {
	sub := m.anySub()
	first, last := m.someRange()
	notBefore := int64(0)
	if m.rng.IntN(2) == 0 {
		notBefore = m.now + m.rng.Int64N(10*DelayStep)
	}
	var want []message.ID
	verdict := OK
	if m.subs[sub] == nil {
		verdict = NotOwner
	} else {
		for id := max(first, 1); id <= min(last, m.rec.top); id++ {
			p := m.at[id]
			if p.state != held || p.sub == 0 {
				continue
			}
			if p.sub != sub {
				verdict = NotOwner
				continue
			}
			m.subs[sub].held--
			m.at[id] = place{state: returned, ended: p.ended + 1, nacked: true}
			if notBefore > 0 {
				m.at[id] = place{state: delayed, due: roundUp(notBefore), ended: p.ended + 1, nacked: true}
			}
			want = append(want, id)
		}
	}
	got, v := m.d.Nack(sub, first, last, notBefore, nil)
	m.same("nack", got, want)
	if v != verdict {
		m.t.Fatalf("nack %d-%d by %d: verdict %d, want %d", first, last, sub, v, verdict)
	}
	m.releases = append(m.releases, got...)
}

// gone forgets ids, settled or removed by others.
func (m *model) gone(first, last message.ID) {
	m.rec.remove(first, last)
	m.d.Gone(first, last)
	for id := first; id <= min(last, m.rec.top); id++ {
		if p, ok := m.at[id]; ok {
			if p.state == held {
				m.subs[p.sub].held--
			}
			delete(m.at, id)
		}
	}
}

// apply applies what was proposed.
func (m *model) apply() {
	for _, r := range m.settles {
		m.gone(r.First, r.Last)
	}
	n := m.rng.IntN(len(m.releases) + 1) // the rest comes with a later entry
	for _, r := range m.releases[:n] {
		m.rec.release(r.First, r.Last)
		m.d.Released(r.First, r.Last)
		for id := r.First; id <= r.Last; id++ {
			if p, ok := m.at[id]; ok && p.ended > 0 {
				p.ended--
				m.at[id] = p
			}
		}
	}
	for _, w := range m.raises {
		m.rec.raise(w)
	}
	m.settles, m.releases, m.raises = nil, m.releases[n:], nil
}

func (m *model) want() {
	if w, ok := m.d.WantWatermark(); ok {
		if w <= m.rec.Limit() || len(m.subs) == 0 {
			m.t.Fatalf("wants watermark %d of %d", w, m.rec.watermark)
		}
		// Less than wanted, so that the watermark is met often.
		m.raises = append(m.raises, min(w, m.rec.Limit()+message.ID(1+m.rng.IntN(30))))
		m.d.WatermarkLost()
	}
}

// same compares runs with ids and asks for the fewest runs.
func (m *model) same(what string, got []Run, want []message.ID) {
	m.t.Helper()
	var ids []message.ID
	for i, r := range got {
		if i > 0 && got[i-1].Last+1 >= r.First {
			m.t.Fatalf("%s: runs %v", what, got)
		}
		for id := r.First; id <= r.Last; id++ {
			ids = append(ids, id)
		}
	}
	if !slices.Equal(ids, want) {
		m.t.Fatalf("%s: got %v, want %v", what, ids, want)
	}
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 18:
		m.publish()
	case n < 22:
		m.attach()
	case n < 24:
		m.detach()
	case n < 36:
		m.grant()
	case n < 55:
		m.ack()
	case n < 63:
		m.nack()
	case n < 65:
		first, last := m.someRange()
		m.gone(max(first, 1), min(last, first+20))
	case n < 75:
		m.apply()
	case n < 76 && m.rng.IntN(4) == 0:
		m.failover()
	case n < 77 && m.rng.IntN(4) == 0:
		m.recall()
	default:
		m.now += m.rng.Int64N(2 * DelayStep)
		m.want()
		m.deliver()
	}
	if err := m.d.check(m.rec); err != nil {
		m.t.Fatal(err)
	}
	m.compare()
}

// compare asks for the same ids in the same places.
func (m *model) compare() {
	n := 0
	for _, list := range [][]span{m.d.claims.all(), m.d.free.all()} {
		for _, s := range list {
			for id := s.first; id <= s.last; id++ {
				n++
				got := place{state: s.state, due: s.due, ended: uint32(s.ended)}
				if s.state == held {
					got.sub = m.d.subs[s.slot].id
				}
				want := m.at[id]
				want.nacked = false
				if got != want {
					m.t.Fatalf("%d is %+v, want %+v", id, got, want)
				}
			}
		}
	}
	if n != len(m.at) {
		m.t.Fatalf("%d ids in places, want %d", n, len(m.at))
	}
	for id, s := range m.subs {
		got := m.d.subs[m.d.slots[id]]
		if got.messages != s.messages || got.bytes != s.bytes || m.d.Unacked(id) != uint64(s.held) {
			m.t.Fatalf("subscriber %d is %+v, want %+v", id, got, *s)
		}
	}
}
