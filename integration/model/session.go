package model

// remembered is how many of its last batches a session can repeat.
const remembered = 64

// session is a publisher's session.
type session struct {
	store    uint64
	last     uint64
	attempt  uint32
	closed   bool
	active   int64
	outcomes map[uint64]outcome // by sequence
}

type outcome struct {
	first, sum uint64
	count      uint32
	interested bool
}

// Publish is a batch under its numbers.
type Publish struct {
	Store, Session, Sequence uint64
	Attempt                  uint32
	Batch                    *Batch
}

// Batch is what a publisher made and sent, perhaps damaged on the way.
type Batch struct {
	Sum      uint64
	Bytes    uint64
	Corrupt  bool
	Messages []Content
}

// OpenSession opens a session.
func (m *Machine) OpenSession(store uint64, r Result) error {
	if m.Stores[store] == nil {
		return want("open session", r, Result{Code: "no such store"})
	}
	m.opened++
	m.sessions[m.opened] = &session{store: store, attempt: 1, active: m.running, outcomes: map[uint64]outcome{}}
	return want("open session", r, Result{Code: "ok", Session: m.opened, Attempt: 1})
}

// CloseSession forgets a session.
func (m *Machine) CloseSession(id uint64, r Result) error {
	delete(m.sessions, id)
	return want("close session", r, Result{Code: "ok", Session: id})
}

// Keep says that a session is in use.
func (m *Machine) Keep(id uint64) {
	if x := m.sessions[id]; x != nil {
		x.active = m.running
	}
}

// SessionExpired reports whether the session is not known any more.
func (m *Machine) SessionExpired(id uint64) bool { return m.sessions[id] == nil }

// Accepted is a batch that was stored: its messages have the ids from First on.
type Accepted struct {
	Batch *Batch
	Store uint64
	First uint64
}

// Publish applies a batch. It returns what was newly stored, if it was.
func (m *Machine) Publish(p Publish, r Result) (a *Accepted, err error) {
	s := m.Stores[p.Store]
	if s == nil {
		return nil, want("publish", r, Result{Code: "no such store", Session: p.Session})
	}
	if p.Session == 0 { // nobody remembers: everything is new
		r0 := m.accept(s, p)
		if r0.Code == "ok" {
			a = &Accepted{Batch: p.Batch, Store: p.Store, First: r0.First}
		}
		return a, want("publish", r, r0)
	}
	x := m.sessions[p.Session]
	if x == nil || x.store != p.Store {
		return nil, want("publish", r, Result{Code: "session unknown", Session: p.Session})
	}
	x.active = m.running
	exp, stored := m.publishIn(s, x, p)
	exp.Session, exp.Last, exp.Attempt = p.Session, x.last, x.attempt
	if stored {
		a = &Accepted{Batch: p.Batch, Store: p.Store, First: exp.First}
	}
	return a, want("publish", r, exp)
}

func (m *Machine) publishIn(s *Store, x *session, p Publish) (r Result, stored bool) {
	if p.Sequence <= x.last {
		o, ok := x.outcomes[p.Sequence]
		switch {
		case !ok || x.last-p.Sequence >= remembered:
			return Result{Code: "receipt forgotten", Duplicate: true}, false
		case p.Batch.Corrupt:
			return Result{Code: "corrupt"}, false
		case o.sum != p.Batch.Sum || int(o.count) != len(p.Batch.Messages):
			return Result{Code: "sequence reused"}, false
		}
		return Result{Code: "ok", First: o.first, Count: o.count, Interested: o.interested, Duplicate: true}, false
	}
	switch {
	case p.Attempt < x.attempt || p.Attempt == x.attempt && x.closed:
		return Result{Code: "aborted"}, false
	case p.Sequence != x.last+1:
		return Result{Code: "sequence gap"}, false
	}
	x.attempt, x.closed = p.Attempt, false
	r = m.accept(s, p)
	if r.Code != "ok" {
		x.closed = true
		return r, false
	}
	x.last = p.Sequence
	x.outcomes[p.Sequence] = outcome{r.First, p.Batch.Sum, r.Count, r.Interested}
	delete(x.outcomes, p.Sequence-2*remembered)
	return r, true
}

// accept stores a batch for the durables that want it, or refuses it.
func (m *Machine) accept(s *Store, p Publish) Result {
	if p.Batch.Corrupt {
		return Result{Code: "corrupt"}
	}
	if m.Suspended {
		return Result{Code: "suspended"}
	}
	n, pairs := uint64(len(p.Batch.Messages)), uint64(0)
	for _, d := range m.Durables {
		for _, c := range p.Batch.Messages {
			if d.Store == p.Store && d.Interest.wants(c) {
				pairs++
			}
		}
	}
	if stored := min(n, pairs); stored > 0 && s.full(stored, stored*share(p.Batch.Bytes, n)) {
		return Result{Code: "store full"}
	}
	first := s.Last + 1
	s.Last += n
	for _, d := range m.Durables {
		if d.Store == p.Store {
			d.gain(p.Batch.Messages, first)
		}
	}
	if pairs > 0 {
		s.batches = append(s.batches, batch{first: first, count: n, bytes: p.Batch.Bytes, live: pairs})
	}
	return Result{Code: "ok", First: first, Count: uint32(n), Interested: pairs > 0}
}

// gain adds what the durable wants of a batch.
func (d *Durable) gain(messages []Content, first uint64) {
	near, last := d.handing && len(d.Pending) <= caughtUp, uint64(0)
	for i, c := range messages {
		if d.Interest.wants(c) {
			last = first + uint64(i)
			d.Pending[last] = struct{}{}
		}
	}
	if near {
		d.Watermark = max(d.Watermark, last)
	}
}
