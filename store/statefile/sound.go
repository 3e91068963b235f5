package statefile

import (
	"fmt"
	"math"

	"github.com/perdure/perdure/durable"
)

// MaxIdle is for how long, in nanoseconds, a session in a saved state may not have
// been used: after that it is forgotten.
const MaxIdle = int64(3600 * 1e9)

// MaxCounter bounds what counts up for ever: ids of sessions, numbers of
// attachments, messages that a durable wanted. So nothing that goes on counting
// comes to its end.
const MaxCounter = math.MaxInt64

// soundness is what of a state must agree with what comes later. Tally has checked
// that everything is where it belongs.
type soundness struct {
	time     int64
	stores   []soundStore
	durables []*soundDurable
	idle     int64 // of the session before

	size    *int64 // bytes of the file read so far
	limit   limit
	writer  runWriter // of pending sets
	counts  runCursor // of the durable of the last count
	readers []reading // of the durables of store
	store   uint32    // of the last batch
}

type soundStore struct {
	durables []*soundDurable
	stamp    int64 // of the batch before
}

type soundDurable struct {
	name    string
	owed    uint64 // how many messages must be pending
	size    uint64 // how many are
	live    uint64 // how many of them are in a batch
	pending runs
}

// reading is how far the pending set of a durable was compared with batches.
type reading struct {
	runCursor
	durable *soundDurable
}

// put checks a record.
func (s *soundness) put(r Record) error {
	switch r := r.(type) {
	case *Store:
		s.stores = append(s.stores, soundStore{})
	case *Durable:
		if err := r.Sound(); err != nil {
			return err
		}
		st := &s.stores[r.Store]
		d := &soundDurable{name: r.Name, owed: r.Matched - r.Acked}
		st.durables, s.durables = append(st.durables, d), append(s.durables, d)
	case *Pending:
		d := s.durables[r.Durable]
		s.writer.begin(&d.pending)
		for _, run := range r.Runs {
			s.writer.add(run)
			d.size += run.N
		}
		return s.limit.allow("checked", s.writer.kept, *s.size)
	case *Counts:
		d := s.durables[r.Durable]
		if s.counts.of != &d.pending {
			s.writer.end()
			s.counts = runCursor{of: &d.pending}
		}
		for _, e := range r.Ended {
			if !s.counts.seek(uint64(e.ID)) || s.counts.first > uint64(e.ID) {
				return fmt.Errorf("message %v has a count in durable %q, where it is not pending", e.ID, d.name)
			}
		}
	case *Session:
		if r.Idle > s.idle {
			return fmt.Errorf("session %d was not used for %d ns, at most %d are left by those before", r.ID, r.Idle, s.idle)
		}
		s.idle = r.Idle
	case *Batch:
		if err := r.check(); err != nil {
			return err
		}
		return s.batch(r)
	}
	return nil
}

// Sound reports whether a durable can be as the record says.
func (d *Durable) Sound() error {
	o := durable.Options{Kind: d.Kind, Matcher: d.Matcher, Prefetch: d.Prefetch}
	canonical, _, err := o.Canonical()
	if err == nil && canonical != o {
		err = fmt.Errorf("options %+v are not as they would be saved", o)
	}
	if err == nil {
		var marks durable.Marks
		var rest []byte
		if rest, err = marks.Load(d.Marks); err == nil && len(rest) > 0 {
			err = fmt.Errorf("%d bytes follow its marks", len(rest))
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("durable %q: %w", d.Name, err)
	case d.Attachment[0] > d.Attachments || d.Attachments > MaxCounter:
		return fmt.Errorf("durable %q: attachment %d of %d", d.Name, d.Attachment[0], d.Attachments)
	case d.Acked > d.Matched || d.Matched > MaxCounter:
		return fmt.Errorf("durable %q: %d messages were acknowledged of %d that it wanted", d.Name, d.Acked, d.Matched)
	}
	return nil
}

func (s *soundness) batch(b *Batch) error {
	st := &s.stores[b.Store]
	if b.Stamp < st.stamp || b.Stamp > s.time {
		return fmt.Errorf("batch %v of time %d, after one of %d, in a state of %d", b.First, b.Stamp, st.stamp, s.time)
	}
	st.stamp = b.Stamp
	if s.readers == nil || s.store != b.Store {
		s.writer.end()
		s.store, s.readers = b.Store, make([]reading, 0, len(st.durables))
		for _, d := range st.durables {
			if d.size > 0 {
				s.readers = append(s.readers, reading{runCursor{of: &d.pending}, d})
			}
		}
	}
	wanted := false
	first, last := uint64(b.First), uint64(b.last())
	for i := range s.readers {
		c := &s.readers[i]
		for id := first; id <= last && c.seek(id) && c.first <= last; id = c.last + 1 {
			c.durable.live += min(c.last, last) - max(c.first, id) + 1
			wanted = true
		}
	}
	if !wanted {
		return fmt.Errorf("batch %v, of which nobody wants anything", b.First)
	}
	return nil
}

// end checks what is known only when everything was read.
func (s *soundness) end(m *Manifest) error {
	if m.Time < 0 || m.LastSession > MaxCounter {
		return fmt.Errorf("cluster time %d and last session %d cannot be", m.Time, m.LastSession)
	}
	for _, d := range s.durables {
		if d.size != d.owed {
			return fmt.Errorf("%d messages are pending in durable %q, of what it wanted and did not acknowledge there are %d", d.size, d.name, d.owed)
		}
		if d.size != d.live {
			return fmt.Errorf("%d messages are pending in durable %q, %d of them are in a batch", d.size, d.name, d.live)
		}
	}
	return nil
}
