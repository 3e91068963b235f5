package statefile

import (
	"fmt"
	"math"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
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
}

type soundStore struct {
	durables []*soundDurable
	pending  uint64 // pairs of a durable and a message
	live     uint64 // those that are in a batch
	stamp    int64  // of the batch before
}

type soundDurable struct {
	store   *soundStore
	name    string
	owed    uint64 // how many messages must be pending
	pending durable.Pending
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
		d := &soundDurable{store: st, name: r.Name, owed: r.Matched - r.Acked}
		st.durables, s.durables = append(st.durables, d), append(s.durables, d)
	case *Pending:
		d := s.durables[r.Durable]
		for _, run := range r.Runs {
			d.store.pending += d.pending.AddRange(run.First, run.N)
		}
	case *Counts:
		for _, e := range r.Ended {
			if d := s.durables[r.Durable]; !d.pending.Contains(e.ID) {
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
	live := st.live
	for _, d := range st.durables {
		d.pending.Runs(b.First, b.last(), func(_ message.ID, n uint64) bool {
			st.live += n
			return true
		})
	}
	if st.live == live {
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
		if d.pending.Len() != d.owed {
			return fmt.Errorf("%d messages are pending in durable %q, of what it wanted and did not acknowledge there are %d", d.pending.Len(), d.name, d.owed)
		}
	}
	for i := range s.stores {
		if st := &s.stores[i]; st.live != st.pending {
			return fmt.Errorf("%d messages are pending in store %q, %d of them are in a batch", st.pending, m.Stores[i].Name, st.live)
		}
	}
	return nil
}
