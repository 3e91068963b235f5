package store

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// Bodies returns the data of a log entry, as the cluster's log keeps it. It may
// change when Bodies is called again.
type Bodies func(entry uint64) ([]byte, error)

// Summary returns what a saved state of these stores, all if none is named, says
// of them. Its hash is the state hash: unlike [Machine.Hash] it knows nothing of
// log positions and of ids that the realm gives. Summary reads the whole state,
// but no messages.
func (m *Machine) Summary(stores ...string) (statefile.Summary, error) {
	t := statefile.NewTally(m.session)
	err := m.walk(stores, m.breathing(0, func(r statefile.Record, _ *batch) error { return t.Put(settled(r)) }))
	return t.Summary(), err
}

// Breathe has Summary and Save call f every few records, so that they can be slowed
// down, or ended by an error. It is told how many messages are written, of how many;
// of none as long as that is not known.
func (m *Machine) Breathe(f func(written, total uint64) error) { m.breathe = f }

// breathEvery is how many records there are between two breaths: a fraction of a
// millisecond.
const breathEvery = 256

// Save writes the state of these stores, all if none is named. Of about it takes
// cluster, epoch and definition; it returns the manifest that it wrote. The
// machine must not change meanwhile.
func (m *Machine) Save(out io.Writer, about statefile.Manifest, bodies Bodies, stores ...string) (*statefile.Manifest, statefile.Totals, error) {
	var totals statefile.Totals
	var err error
	about.Revision, about.Term, about.Applied, about.Time = m.revision, m.term, m.applied, m.time
	if about.Summary, err = m.Summary(stores...); err != nil {
		return nil, totals, err
	}
	w, err := statefile.NewWriter(out, &about)
	if err != nil {
		return nil, totals, err
	}
	var entry uint64 // whose data is
	var data []byte
	_, messages, _, _ := about.Totals()
	err = m.walk(stores, m.breathing(messages, func(r statefile.Record, at *batch) error {
		if b, ok := r.(*statefile.Batch); ok {
			if at.entry != entry {
				if data, err = bodies(at.entry); err != nil {
					return fmt.Errorf("store: saving batch %v of entry %d: %w", at.first, at.entry, err)
				}
				entry = at.entry
			}
			from, to := uint64(at.offset), uint64(at.offset)+uint64(at.bytes)
			if to > uint64(len(data)) {
				return fmt.Errorf("%w: batch %v is at %d to %d of entry %d, which has %d bytes", ErrState, at.first, from, to, entry, len(data))
			}
			b.Bytes = data[from:to]
		}
		return w.Put(settled(r))
	}))
	if err != nil {
		return nil, totals, err
	}
	totals, err = w.Close()
	return &about, totals, err
}

// settled is a record as a saved state has it. The attempts of a session are those of
// streams into this cluster: a publisher that finds its session where the state was
// loaded begins a new stream, and nothing of an older one comes there. Publishers go
// on with attempts while the cluster is suspended, and the files of all its services
// are to agree.
func settled(r statefile.Record) statefile.Record {
	if x, ok := r.(*statefile.Session); ok {
		x.Attempt, x.Closed = 1, false
	}
	return r
}

// walk yields the records of the state of these stores in the order of a saved
// state, and with a batch where it is. What it yields is used again.
func (m *Machine) walk(names []string, yield func(r statefile.Record, at *batch) error) error {
	stores, durables, err := m.chosen(names)
	at := make(map[uint64]uint32, len(stores)) // position, by id
	for i, s := range stores {
		at[s.id] = uint32(i)
	}
	for i := 0; i < len(stores) && err == nil; i++ {
		s := stores[i]
		err = yield(&statefile.Store{Name: s.spec.name, Epoch: s.epoch, Counter: s.counter}, nil)
	}
	for i := 0; i < len(durables) && err == nil; i++ {
		d := durables[i]
		err = yield(d.saved(at[d.store.id], m.suspended), nil)
	}
	for i := 0; i < len(durables) && err == nil; i++ {
		err = durables[i].walkPending(uint32(i), yield)
	}
	for i := 0; i < len(durables) && err == nil; i++ {
		err = durables[i].walkCounts(uint32(i), yield)
	}
	for x := m.sessions.first; x != nil && err == nil; x = x.next {
		if i, ok := at[x.store]; ok {
			err = yield(x.saved(i, m.running), nil)
		}
	}
	for i := 0; i < len(stores) && err == nil; i++ {
		var r statefile.Batch
		stores[i].index.each(func(b *batch) {
			if err == nil {
				r = statefile.Batch{Store: uint32(i), First: b.first, Count: b.count, Stamp: b.stamp, Len: b.bytes}
				err = yield(&r, b)
			}
		})
	}
	return err
}

// breathing is yield with breaths in between. total is how many messages there are,
// 0 if yield does not write them.
func (m *Machine) breathing(total uint64, yield func(statefile.Record, *batch) error) func(statefile.Record, *batch) error {
	if m.breathe == nil {
		return yield
	}
	var records int
	var written uint64
	return func(r statefile.Record, at *batch) error {
		if records++; records%breathEvery == 0 {
			if err := m.breathe(written, total); err != nil {
				return err
			}
		}
		if b, ok := r.(*statefile.Batch); ok && total > 0 {
			written += uint64(b.Count)
		}
		return yield(r, at)
	}
}

// chosen returns the stores of these names, all if there are none, and their
// durables, both in the order of a saved state.
func (m *Machine) chosen(names []string) (stores []*storeState, durables []*durableState, err error) {
	for _, name := range names {
		if _, ok := m.StoreByName(name); !ok {
			return nil, nil, fmt.Errorf("store: there is no store %q to save", name)
		}
	}
	for _, s := range m.stores {
		if len(names) == 0 || slices.Contains(names, s.spec.name) {
			stores = append(stores, s)
		}
	}
	slices.SortFunc(stores, func(a, b *storeState) int { return cmp.Compare(a.spec.name, b.spec.name) })
	for _, d := range m.durables {
		if len(names) == 0 || slices.Contains(names, d.store.spec.name) {
			durables = append(durables, d)
		}
	}
	slices.SortFunc(durables, func(a, b *durableState) int {
		return cmp.Or(cmp.Compare(a.store.spec.name, b.store.spec.name), cmp.Compare(a.name, b.name))
	})
	return stores, durables, nil
}

// saved returns the record of d. While the cluster is suspended nothing is out: what
// was delivered is settled or was taken back, uncounted.
func (d *durableState) saved(store uint32, suspended bool) *statefile.Durable {
	marks := d.marks.Clone()
	if at, ok := d.handed(); ok && !suspended {
		marks.Add(at)
	}
	return &statefile.Durable{
		Store: store, Name: d.name, Kind: d.options.Kind, Matcher: d.options.Matcher, Prefetch: d.options.Prefetch,
		Dynamic: d.dynamic, Template: d.template, Watermark: d.watermark, Matched: d.matched, Acked: d.acked,
		Attachments: d.number, Attachment: [3]uint64{d.attach.Number, d.attach.Process, d.attach.Nonce},
		Marks: marks.AppendTo(nil),
	}
}

func (d *durableState) walkPending(at uint32, yield func(statefile.Record, *batch) error) (err error) {
	r := statefile.Pending{Durable: at}
	d.pending.Runs(0, ^message.ID(0), func(first message.ID, n uint64) bool {
		if r.Runs = append(r.Runs, statefile.Run{First: first, N: n}); len(r.Runs) == statefile.MaxRuns {
			err = yield(&r, nil)
			r.Runs = r.Runs[:0]
		}
		return err == nil
	})
	if len(r.Runs) > 0 && err == nil {
		err = yield(&r, nil)
	}
	return err
}

func (d *durableState) walkCounts(at uint32, yield func(statefile.Record, *batch) error) (err error) {
	r := statefile.Counts{Durable: at}
	d.counts.Each(func(id message.ID, ended uint32) {
		if err != nil {
			return
		}
		if r.Ended = append(r.Ended, statefile.Ended{ID: id, Times: ended}); len(r.Ended) == statefile.MaxRuns {
			err = yield(&r, nil)
			r.Ended = r.Ended[:0]
		}
	})
	if len(r.Ended) > 0 && err == nil {
		err = yield(&r, nil)
	}
	return err
}

func (x *session) saved(store uint32, now int64) *statefile.Session {
	r := &statefile.Session{ID: x.id, Store: store, Last: x.last, Attempt: x.attempt, Closed: x.closed, Idle: now - x.active}
	for n := len(x.outcomes); n > 0; n-- {
		o := &x.outcomes[(x.last-uint64(n))%maxOutcomes]
		r.Outcomes = append(r.Outcomes, statefile.Outcome{First: o.first, Count: o.count, Interested: o.interested, Sum: o.sum})
	}
	return r
}
