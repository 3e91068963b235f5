package store

import (
	"fmt"

	"github.com/perdure/perdure/message"
)

// caughtUp is how many messages may be pending for a durable to be nearly
// caught up: where the leader delivers, a publish then raises the dispatch
// watermark along, so that it may do so at once. Others wait for a Watermark
// command.
const caughtUp = 1024

// publish applies a Publish: first the rules of the session, then the batch.
func (m *Machine) publish(c []byte, index uint64, offset uint32) Result {
	p, ok := decodePublish(c)
	if !ok {
		return invalid("publish is cut off or has sequence 0")
	}
	s := m.store(p.store)
	if s == nil {
		return Result{Code: NoSuchStore, Session: p.session, Detail: fmt.Sprintf("store %d does not exist", p.store)}
	}
	if p.session == 0 {
		return m.accept(s, p.batch, index, offset+publishHeader).result
	}
	x := m.sessions.byID[p.session]
	if x == nil || x.store != p.store {
		return Result{Code: SessionUnknown, Session: p.session, Detail: fmt.Sprintf("session %d is not open for store %q", p.session, s.spec.name)}
	}
	m.useSession(x)
	r := m.publishIn(x, s, p, index, offset)
	r.Session, r.Last, r.Attempt = x.id, x.last, x.attempt
	return r
}

// publishIn decides by session x what p is: new, repeated or out of turn.
func (m *Machine) publishIn(x *session, s *storeState, p publication, index uint64, offset uint32) Result {
	if p.sequence <= x.last {
		return x.repeated(p)
	}
	switch {
	case p.attempt < x.attempt || p.attempt == x.attempt && x.closed:
		return Result{Code: Aborted, Detail: fmt.Sprintf("attempt %d ended with a rejected batch", p.attempt)}
	case p.sequence != x.last+1:
		return Result{Code: SequenceGap, Detail: fmt.Sprintf("sequence %d follows %d", p.sequence, x.last)}
	}
	x.attempt, x.closed = p.attempt, false
	a := m.accept(s, p.batch, index, offset+publishHeader)
	if a.result.Code != OK {
		x.closed = true
		return a.result
	}
	x.record(p.sequence, outcome{first: a.result.First, sum: a.sum, count: a.result.Count, interested: a.result.Interested})
	return a.result
}

// repeated answers a batch whose sequence was accepted before.
func (x *session) repeated(p publication) Result {
	o := x.outcome(p.sequence)
	if o == nil {
		return Result{Code: ReceiptForgotten, Duplicate: true,
			Detail: fmt.Sprintf("sequence %d was stored; its ids are forgotten after %d more", p.sequence, maxOutcomes)}
	}
	b, err := message.ParseBatch(p.batch)
	if err != nil {
		return Result{Code: Corrupt, Detail: err.Error()}
	}
	if b.Sum() != o.sum || uint32(b.Count()) != o.count {
		return Result{Code: SequenceReused, Detail: fmt.Sprintf("sequence %d was used for another batch", p.sequence)}
	}
	return Result{First: o.first, Count: o.count, Interested: o.interested, Duplicate: true}
}

// acceptance is the result of a batch, and what a session remembers of it.
type acceptance struct {
	result Result
	sum    uint64
}

// accept gives ids to the messages of a batch and stores it for the durables
// that want it, or rejects it and changes nothing. The checksums in the batch were
// compared before it was proposed, and since then those of the log are over it.
func (m *Machine) accept(s *storeState, data []byte, entry uint64, offset uint32) acceptance {
	b, err := message.OpenBatch(data)
	if err != nil {
		return acceptance{result: Result{Code: Corrupt, Detail: err.Error()}}
	}
	n := uint64(b.Count())
	if n == 0 || s.counter+n > message.MaxCounter {
		return acceptance{result: Result{Code: Corrupt, Detail: fmt.Sprintf("%d messages after id %v", n, s.last())}}
	}
	if m.suspended {
		return acceptance{result: isSuspended("nothing is published")}
	}
	first := message.MakeID(s.epoch, s.counter+1)
	pairs := n*uint64(len(s.unmatched)) + m.match(s, b, first)
	stored := min(n, pairs)
	size := share(uint64(len(data)), n)
	if detail := s.full(stored, stored*size); detail != "" {
		m.forgetMatches()
		return acceptance{result: Result{Code: StoreFull, Detail: detail}}
	}
	m.storeTrack.Touch(&s.mark, s.id)
	s.counter += n
	r := Result{First: first, Count: uint32(n), Interested: pairs > 0}
	if pairs == 0 {
		return acceptance{result: r, sum: b.Sum()}
	}
	for _, d := range s.unmatched {
		m.gain(d, s.last(), func() uint64 { return d.pending.AddRange(first, n) })
	}
	for _, d := range m.scratch.hits {
		ids := d.scratch
		m.gain(d, ids[len(ids)-1], func() uint64 { return d.pending.AddIDs(ids) })
		d.scratch = ids[:0]
	}
	m.scratch.hits = m.scratch.hits[:0]
	s.index.add(batch{first: first, live: pairs, entry: entry, stamp: m.time,
		count: uint32(n), offset: offset, bytes: uint32(len(data))})
	s.messages += stored
	s.bytes += stored * size
	m.entries.add(entry)
	return acceptance{result: r, sum: b.Sum()}
}

// match asks the matchers of s who wants which messages of b, whose ids begin
// at first. It puts the durables into scratch.hits, each with its ids, and
// returns how many pairs there are.
func (m *Machine) match(s *storeState, b message.Batch, first message.ID) (pairs uint64) {
	if s.matched == 0 {
		return 0
	}
	m.scratch.search.Start(&s.matchers, b)
	for i := range b.Count() {
		m.scratch.keys = m.scratch.search.Match(i, m.scratch.keys[:0])
		pairs += uint64(len(m.scratch.keys))
		for _, slot := range m.scratch.keys {
			d := s.slots[slot]
			if len(d.scratch) == 0 {
				m.scratch.hits = append(m.scratch.hits, d)
			}
			d.scratch = append(d.scratch, first+message.ID(i))
		}
	}
	m.scratch.search.End()
	return pairs
}

// forgetMatches makes scratch ready for the next batch.
func (m *Machine) forgetMatches() {
	for _, d := range m.scratch.hits {
		d.scratch = d.scratch[:0]
	}
	m.scratch.hits = m.scratch.hits[:0]
}

// full says why s cannot hold so much more, "" if it can. Nothing more always
// fits.
func (s *storeState) full(messages, bytes uint64) string {
	switch {
	case messages == 0:
		return ""
	case s.spec.messageLimit > 0 && s.messages+messages > s.spec.messageLimit:
		return fmt.Sprintf("store %q holds %d messages; %d more pass message_limit %d",
			s.spec.name, s.messages, messages, s.spec.messageLimit)
	case s.spec.byteLimit > 0 && s.bytes+bytes > s.spec.byteLimit:
		return fmt.Sprintf("store %q holds %d bytes; %d more pass byte_limit %d",
			s.spec.name, s.bytes, bytes, s.spec.byteLimit)
	}
	return ""
}

// gain lets d gain what add adds, the highest of which is last.
func (m *Machine) gain(d *durableState, last message.ID, add func() uint64) {
	d.touch()
	if d.handing && d.pending.Len() <= caughtUp {
		d.watermark = max(d.watermark, last)
	}
	d.matched += add()
	m.events.touch(d)
}
