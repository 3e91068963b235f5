package statefile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/perdure/perdure/message"
)

// Most of what a file may have: who reads one keeps something of each.
const (
	maxStores   = 10_000
	maxDurables = 100_000
	maxSessions = 100_000
)

// Tally checks the order of records, adds them up and hashes them. Equal states
// have equal records, and so equal tallies.
type Tally struct {
	sum      hash.Hash
	summary  Summary
	durables []*DurableSummary // by position
	stores   []int             // of durables: position of the store
	total    int               // durables
	section  Section
	owner    uint32     // of the last record, where records have one
	last     message.ID // in it
	partial  bool       // the last record had fewer than MaxRuns
	used     map[uint64]struct{}
	buf      []byte
}

// NewTally returns the tally of nothing. lastSession is the id of the session
// that was opened last.
func NewTally(lastSession uint64) *Tally {
	t := &Tally{sum: sha256.New(), summary: Summary{LastSession: lastSession, Stores: []StoreSummary{}}, used: map[uint64]struct{}{}}
	t.sum.Write(putInts([]byte("perdure state 1\n"), lastSession))
	return t
}

// Put adds a record. An error says why it cannot be where it is.
func (t *Tally) Put(r Record) error {
	section := r.Section()
	if section < t.section {
		return fmt.Errorf("%v after %v", section, t.section)
	}
	if section > t.section {
		t.section, t.owner, t.last, t.partial = section, 0, 0, false
		t.settle()
	}
	if err := t.add(r); err != nil {
		return err
	}
	t.buf = r.appendTo(append(t.buf[:0], byte(section)))
	t.sum.Write(t.buf)
	return nil
}

// settle remembers the durables, whose summaries no longer move.
func (t *Tally) settle() {
	if len(t.durables) > 0 || t.section <= SectionDurables {
		return
	}
	for i := range t.summary.Stores {
		for j := range t.summary.Stores[i].Durables {
			t.durables = append(t.durables, &t.summary.Stores[i].Durables[j])
			t.stores = append(t.stores, i)
		}
	}
}

// Summary returns what was added up.
func (t *Tally) Summary() Summary {
	s := t.summary
	s.StateHash = hex.EncodeToString(t.sum.Sum(nil))
	return s
}

// Durable returns what was said of a durable before, and its store's position.
func (t *Tally) Durable(at uint32) (d *DurableSummary, store int) {
	return t.durables[at], t.stores[at]
}

func (t *Tally) add(r Record) error {
	switch r := r.(type) {
	case *Store:
		return t.addStore(r)
	case *Durable:
		return t.addDurable(r)
	case *Pending:
		if err := t.full(r.Durable, len(r.Runs)); err != nil {
			return err
		}
		for _, run := range r.Runs {
			if t.last > 0 && t.owner == r.Durable && run.First == t.last+1 {
				return fmt.Errorf("messages from %v on are a run with those before", run.First)
			}
			if err := t.advance(r.Durable, run.First, run.First+message.ID(run.N)-1); err != nil {
				return err
			}
			t.durables[r.Durable].Pending += run.N
		}
	case *Counts:
		if err := t.full(r.Durable, len(r.Ended)); err != nil {
			return err
		}
		for _, e := range r.Ended {
			if err := t.advance(r.Durable, e.ID, e.ID); err != nil {
				return err
			}
			t.durables[r.Durable].Counted++
		}
	case *Session:
		_, again := t.used[r.ID]
		if r.ID == 0 || r.ID > t.summary.LastSession || int(r.Store) >= len(t.summary.Stores) || again {
			return fmt.Errorf("session %d of store %d is there twice, not given yet, or of no store", r.ID, r.Store)
		}
		if len(t.used) == maxSessions {
			return fmt.Errorf("more than %d sessions", maxSessions)
		}
		t.used[r.ID] = struct{}{}
		t.summary.Sessions++
	case *Batch:
		return t.addBatch(r)
	}
	return nil
}

func (t *Tally) addStore(s *Store) error {
	stores := t.summary.Stores
	if err := message.ValidName(s.Name); err != nil {
		return err
	}
	if n := len(stores); n > 0 && stores[n-1].Name >= s.Name {
		return fmt.Errorf("store %q after %q", s.Name, stores[n-1].Name)
	}
	if len(stores) == maxStores {
		return fmt.Errorf("more than %d stores", maxStores)
	}
	t.summary.Stores = append(stores, StoreSummary{Name: s.Name, Epoch: s.Epoch, LastID: s.last(), Durables: []DurableSummary{}})
	return nil
}

func (t *Tally) addDurable(d *Durable) error {
	if err := message.ValidName(d.Name); err != nil {
		return err
	}
	if int(d.Store) >= len(t.summary.Stores) || d.Store < t.owner {
		return fmt.Errorf("durable %q of store %d, there are %d, and after one of store %d", d.Name, d.Store, len(t.summary.Stores), t.owner)
	}
	t.owner = d.Store
	s := &t.summary.Stores[d.Store]
	if n := len(s.Durables); n > 0 && s.Durables[n-1].Name >= d.Name {
		return fmt.Errorf("durable %q after %q", d.Name, s.Durables[n-1].Name)
	}
	if !d.Kind.Valid() {
		return fmt.Errorf("durable %q is of %v, which this version does not know", d.Name, d.Kind)
	}
	if t.total++; t.total > maxDurables {
		return fmt.Errorf("more than %d durables", maxDurables)
	}
	s.Durables = append(s.Durables, DurableSummary{Name: d.Name, Kind: d.Kind.String(), Dynamic: d.Dynamic, Matched: d.Matched, Acked: d.Acked})
	return nil
}

// full checks that a record with so many elements has as many as it may: equal
// states have equal records.
func (t *Tally) full(owner uint32, n int) error {
	if n == 0 || n > MaxRuns || t.partial && t.owner == owner {
		return fmt.Errorf("%d elements of durable %d, of at most %d, after some of durable %d", n, owner, MaxRuns, t.owner)
	}
	t.partial = n < MaxRuns
	return nil
}

// advance checks that [first, last] of durable at follows what came before.
func (t *Tally) advance(at uint32, first, last message.ID) error {
	if int(at) >= len(t.durables) {
		return fmt.Errorf("durable %d, there are %d", at, len(t.durables))
	}
	return t.follow(at, first, last, t.summary.Stores[t.stores[at]].LastID)
}

// follow checks that [first, last] of an owner follows what came before, and is
// not above most.
func (t *Tally) follow(owner uint32, first, last, most message.ID) error {
	if order := cmp.Compare(owner, t.owner); order < 0 || order == 0 && first <= t.last || first == 0 || last < first || last > most {
		return fmt.Errorf("ids %v to %v of number %d after %v of number %d; the last that was given is %v", first, last, owner, t.last, t.owner, most)
	}
	t.owner, t.last = owner, last
	return nil
}

func (t *Tally) addBatch(b *Batch) error {
	if int(b.Store) >= len(t.summary.Stores) || b.Count == 0 {
		return fmt.Errorf("batch of %d messages in store %d, there are %d", b.Count, b.Store, len(t.summary.Stores))
	}
	s := &t.summary.Stores[b.Store]
	if b.First.Counter()+uint64(b.Count)-1 > message.MaxCounter {
		return fmt.Errorf("batch of %d messages from %v on", b.Count, b.First)
	}
	if err := t.follow(b.Store, b.First, b.last(), s.LastID); err != nil {
		return err
	}
	s.Batches++
	s.Messages += uint64(b.Count)
	s.Bytes += uint64(b.Len)
	return nil
}
