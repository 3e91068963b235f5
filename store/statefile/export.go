package statefile

import (
	"fmt"
	"io"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// Selection says which messages of a state are wanted. Its zero value is all
// that some durable wants.
type Selection struct {
	Store   string           // only of this store; "" is every one
	Durable string           // only what is pending in durables of this name
	Matcher *message.Matcher // only what matches; nil is everything
}

// Message is a message of a state.
type Message struct {
	Store    string
	ID       message.ID
	Stamp    int64    // cluster time of publishing, nanoseconds since 1970
	Durables []string // that want it, by name; of the selection
	Ended    uint32   // most deliveries that ended in one of these
	message.Message
}

// Export yields the selected messages of a file that [Verify] has read, in the
// order of stores and ids. What it yields is used again.
func Export(in io.Reader, sel Selection, yield func(*Message) error) error {
	r, err := NewReader(in)
	if err != nil {
		return err
	}
	x := exporter{sel: sel, yield: yield}
	if err := sel.find(r.Manifest()); err != nil {
		return err
	}
	return r.Each(x.put)
}

// find reports whether there is what the selection names.
func (sel *Selection) find(m *Manifest) error {
	store := sel.Store == ""
	named := sel.Durable == ""
	for i := range m.Stores {
		if sel.Store != "" && m.Stores[i].Name != sel.Store {
			continue
		}
		store = true
		for _, d := range m.Stores[i].Durables {
			named = named || d.Name == sel.Durable
		}
	}
	switch {
	case !store:
		return fmt.Errorf("statefile: the file has no store %q", sel.Store)
	case !named:
		return fmt.Errorf("statefile: the file has no durable %q there", sel.Durable)
	}
	return nil
}

// exporter collects who wants what, and then meets the batches.
type exporter struct {
	sel      Selection
	yield    func(*Message) error
	stores   []string
	durables []wanting
	of       [][]*wanting // the durables that are asked, by store
	out      Message
}

// wanting is what a durable wants.
type wanting struct {
	name    string
	store   uint32
	pending durable.Pending
	counts  durable.Counts
}

func (x *exporter) put(r Record) error {
	switch r := r.(type) {
	case *Store:
		x.stores = append(x.stores, r.Name)
	case *Durable:
		x.durables = append(x.durables, wanting{name: r.Name, store: r.Store})
	case *Pending:
		d := &x.durables[r.Durable]
		for _, run := range r.Runs {
			d.pending.AddRange(run.First, run.N)
		}
	case *Counts:
		d := &x.durables[r.Durable]
		for _, e := range r.Ended {
			d.counts.Append(e.ID, e.Times)
		}
	case *Batch:
		return x.batch(r)
	}
	return nil
}

func (x *exporter) batch(r *Batch) error {
	if x.sel.Store != "" && x.stores[r.Store] != x.sel.Store {
		return nil
	}
	b, err := message.ParseBatch(r.Bytes)
	if err != nil {
		return err
	}
	if x.of == nil {
		x.of = make([][]*wanting, len(x.stores))
		for i := range x.durables {
			if d := &x.durables[i]; x.sel.Durable == "" || d.name == x.sel.Durable {
				x.of[d.store] = append(x.of[d.store], d)
			}
		}
	}
	out := &x.out
	for i := range b.Count() {
		out.Store, out.ID, out.Stamp = x.stores[r.Store], r.First+message.ID(i), r.Stamp
		out.Durables, out.Ended = out.Durables[:0], 0
		for _, d := range x.of[r.Store] {
			if d.pending.Contains(out.ID) {
				out.Durables = append(out.Durables, d.name)
				out.Ended = max(out.Ended, d.counts.Get(out.ID))
			}
		}
		if len(out.Durables) == 0 || !x.sel.Matcher.All() && !x.sel.Matcher.Match(b, i) {
			continue
		}
		if err := b.Decode(i, &out.Message); err != nil {
			return fmt.Errorf("message %v: %w", out.ID, err)
		}
		if err := x.yield(out); err != nil {
			return err
		}
	}
	return nil
}
