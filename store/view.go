package store

import (
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// Views are what the leader's glue asks. They are small values that look into
// the machine: use one at once, on the goroutine of the machine, and ask again
// after the next Apply.

// Attachment is who holds a standard durable. Number is 0 if nobody does.
type Attachment struct {
	Number  uint64 // of the attachment, rising
	Process uint64
	Nonce   uint64
}

// Template is what a definition offers for durables that subscribers create.
type Template struct {
	Name     string
	Kind     durable.Kind
	Prefetch uint32
}

// Store is a view of a store.
type Store struct{ s *storeState }

// Store returns the store with an id.
func (m *Machine) Store(id uint64) (Store, bool) {
	s := m.store(id)
	return Store{s}, s != nil
}

// StoreByName returns the store with a name.
func (m *Machine) StoreByName(name string) (Store, bool) {
	for _, s := range m.stores {
		if s.spec.name == name {
			return Store{s}, true
		}
	}
	return Store{}, false
}

// Stores yields every store, ascending by id, until yield returns false.
func (m *Machine) Stores(yield func(Store) bool) {
	for _, s := range m.stores {
		if !yield(Store{s}) {
			return
		}
	}
}

// ID returns the store's id.
func (v Store) ID() uint64 { return v.s.id }

// Name returns the store's name.
func (v Store) Name() string { return v.s.spec.name }

// Epoch returns the epoch of the ids that the store gives.
func (v Store) Epoch() uint16 { return v.s.epoch }

// Noconfirm reports whether publishers do not wait for outcomes.
func (v Store) Noconfirm() bool { return v.s.spec.noconfirm }

// MaxMessageSize returns the limit on one message in bytes. The edge keeps it;
// the machine does not look.
func (v Store) MaxMessageSize() uint64 {
	if v.s.spec.maxMessage == 0 {
		return message.MaxMessageSize
	}
	return v.s.spec.maxMessage
}

// LastID returns the last id given, 0 if none.
func (v Store) LastID() message.ID { return v.s.last() }

// Untouched reports whether nothing was ever published to the store, nor has anybody
// created a durable there: a saved state can be loaded into it.
func (v Store) Untouched() bool { return v.s.untouched() }

// Misfit says why the store's definition does not allow a durable that was saved; ""
// if it does.
func (v Store) Misfit(d *statefile.Durable) string {
	return v.s.misfit(d.Name, d.Dynamic, d.Kind, d.Matcher)
}

// Templates returns the store's templates. They are not to be changed.
func (v Store) Templates() []Template { return v.s.spec.templates }

// Durable is a view of a durable.
type Durable struct{ d *durableState }

// Durable returns the durable with an id.
func (m *Machine) Durable(id uint64) (Durable, bool) {
	d := m.byID[id]
	return Durable{d}, d != nil
}

// DurableByName returns the durable of a store with a name.
func (m *Machine) DurableByName(store uint64, name string) (Durable, bool) {
	s := m.store(store)
	if s == nil {
		return Durable{}, false
	}
	d := s.names[name]
	return Durable{d}, d != nil
}

// Durables yields the durables of a store, all stores if it is 0, ascending by
// id, until yield returns false.
func (m *Machine) Durables(store uint64, yield func(Durable) bool) {
	for _, d := range m.durables {
		if (store == 0 || d.store.id == store) && !yield(Durable{d}) {
			return
		}
	}
}

// ID returns the durable's id; that of a dynamic one has its highest bit set.
func (v Durable) ID() uint64 { return v.d.id }

// Store returns the id of the durable's store.
func (v Durable) Store() uint64 { return v.d.store.id }

// Name returns the durable's name, unique in its store.
func (v Durable) Name() string { return v.d.name }

// Kind returns the durable's kind.
func (v Durable) Kind() durable.Kind { return v.d.options.Kind }

// Matcher returns the canonical text of the matcher, "" for every message.
func (v Durable) Matcher() string { return v.d.options.Matcher }

// Prefetch returns how many unacknowledged messages one subscriber may hold.
func (v Durable) Prefetch() uint32 { return v.d.options.Prefetch }

// Dynamic reports whether a subscriber created the durable.
func (v Durable) Dynamic() bool { return v.d.dynamic }

// Template returns the name of the template a dynamic durable came from.
func (v Durable) Template() string { return v.d.template }

// Pending returns the pending messages. Only ask it: Len, Floor, Contains,
// NextRun and Runs.
func (v Durable) Pending() *durable.Pending { return &v.d.pending }

// Watermark returns the id above which no leader has delivered anything.
func (v Durable) Watermark() message.ID { return v.d.watermark }

// Limit returns the id above which the present leader delivers nothing: the
// watermark, or 0 while it has not said that it delivers. A durable that nobody
// reads so counts no deliveries, however often the leader changes.
func (v Durable) Limit() message.ID {
	if !v.d.handing {
		return 0
	}
	return v.d.watermark
}

// Counts returns how many deliveries of a message have ended without an
// acknowledgement, and how many more may have happened under earlier leaders.
func (v Durable) Counts(id message.ID) (ended, possible uint32) {
	return v.d.counts.Get(id), v.d.marks.Count(id)
}

// Counted reports whether any pending message may have a count above 0.
func (v Durable) Counted() bool { return !v.d.counts.Empty() || !v.d.marks.Empty() }

// Attachment returns who holds a standard durable.
func (v Durable) Attachment() Attachment { return v.d.attach }

// Session is what a store remembers of a publisher.
type Session struct {
	Store   uint64
	Last    uint64 // last sequence accepted
	Attempt uint32 // current
	Closed  bool   // a batch of the current attempt was rejected: go on under the next
}

// Session returns a publisher session.
func (m *Machine) Session(id uint64) (Session, bool) {
	x := m.sessions.byID[id]
	if x == nil {
		return Session{}, false
	}
	return Session{Store: x.store, Last: x.last, Attempt: x.attempt, Closed: x.closed}, true
}

// Sessions returns how many publisher sessions there are.
func (m *Machine) Sessions() int { return len(m.sessions.byID) }

// Batch says where a stored batch is.
type Batch struct {
	First  message.ID
	Count  uint32
	Index  uint64 // of the log entry
	Offset uint32 // of the batch's bytes in the entry's data
	Bytes  uint32
	Stamp  int64 // T of publishing, nanoseconds since 1970
}

// Batch returns the batch that holds a message. It is there as long as one of
// its messages is pending in some durable.
func (m *Machine) Batch(store uint64, id message.ID) (Batch, bool) {
	s := m.store(store)
	if s == nil {
		return Batch{}, false
	}
	b, ok := s.index.get(id)
	if !ok {
		return Batch{}, false
	}
	return Batch{First: b.first, Count: b.count, Index: b.entry, Offset: b.offset, Bytes: b.bytes, Stamp: b.stamp}, true
}

// StoreStats is what status shows of a store.
type StoreStats struct {
	ID       uint64
	Name     string
	Messages uint64     // accounted: see the package comment
	Bytes    uint64     // accounted
	FirstID  message.ID // lowest pending in any durable, 0 if none
	LastID   message.ID // last given, 0 if none
	Batches  int        // in the index
	Durables []DurableStats
}

// DurableStats is what status shows of a durable.
type DurableStats struct {
	ID        uint64
	Name      string
	Kind      durable.Kind
	Matcher   string
	Dynamic   bool
	Pending   uint64
	Matched   uint64 // messages it wanted, ever
	Acked     uint64 // messages that were settled, ever
	FirstID   message.ID
	Watermark message.ID
}

// Stats describes every store, ascending by id.
func (m *Machine) Stats() []StoreStats {
	out := make([]StoreStats, 0, len(m.stores))
	for _, s := range m.stores {
		st := StoreStats{ID: s.id, Name: s.spec.name, Messages: s.messages, Bytes: s.bytes, LastID: s.last()}
		for _, p := range s.index.pages {
			st.Batches += p.len()
		}
		m.each(s, func(d *durableState) {
			ds := DurableStats{
				ID: d.id, Name: d.name, Kind: d.options.Kind, Matcher: d.options.Matcher, Dynamic: d.dynamic,
				Pending: d.pending.Len(), Matched: d.matched, Acked: d.acked, FirstID: d.pending.Floor(), Watermark: d.watermark,
			}
			if ds.FirstID != 0 && (st.FirstID == 0 || ds.FirstID < st.FirstID) {
				st.FirstID = ds.FirstID
			}
			st.Durables = append(st.Durables, ds)
		})
		out = append(out, st)
	}
	return out
}
