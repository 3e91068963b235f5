package statefile

import (
	"fmt"
	"io"
	"slices"
)

// Pick writes a file with some of the stores of another, which [Verify] has read.
// It is a state of its own, with a state hash of its own. open begins to read the
// other file; Pick calls it twice.
func Pick(open func() (io.Reader, error), out io.Writer, stores ...string) (*Manifest, Totals, error) {
	var tally *Tally
	about, err := pick(open, stores, func(m *Manifest) (func(Record) error, error) {
		tally = NewTally(m.LastSession)
		return tally.Put, nil
	})
	if err != nil {
		return nil, Totals{}, err
	}
	about.Summary = tally.Summary()
	var w *Writer
	_, err = pick(open, stores, func(*Manifest) (func(Record) error, error) {
		w, err = NewWriter(out, about)
		return w.Put, err
	})
	if err != nil {
		return nil, Totals{}, err
	}
	totals, err := w.Close()
	return about, totals, err
}

// pick reads a file and puts the records of stores, renumbered, into what begin
// returns.
func pick(open func() (io.Reader, error), stores []string, begin func(*Manifest) (func(Record) error, error)) (*Manifest, error) {
	in, err := open()
	if err != nil {
		return nil, err
	}
	r, err := NewReader(in)
	if err != nil {
		return nil, err
	}
	for _, name := range stores {
		if !slices.ContainsFunc(r.manifest.Stores, func(s StoreSummary) bool { return s.Name == name }) {
			return nil, fmt.Errorf("statefile: the file has no store %q", name)
		}
	}
	put, err := begin(r.manifest)
	if err != nil {
		return nil, err
	}
	storesAt, durablesAt := numbering{}, numbering{}
	return r.manifest, r.Each(func(x Record) error {
		chosen := true
		switch x := x.(type) {
		case *Store:
			chosen = storesAt.add(slices.Contains(stores, x.Name))
		case *Durable:
			x.Store, chosen = storesAt.of(x.Store)
			durablesAt.add(chosen)
		case *Pending:
			x.Durable, chosen = durablesAt.of(x.Durable)
		case *Counts:
			x.Durable, chosen = durablesAt.of(x.Durable)
		case *Session:
			x.Store, chosen = storesAt.of(x.Store)
		case *Batch:
			x.Store, chosen = storesAt.of(x.Store)
		}
		if !chosen {
			return nil
		}
		return put(x)
	})
}

// numbering maps positions in a file to positions among what is chosen of it.
type numbering struct {
	at   []int64 // -1: not chosen
	next int64
}

func (n *numbering) add(chosen bool) bool {
	if !chosen {
		n.at = append(n.at, -1)
		return false
	}
	n.at = append(n.at, n.next)
	n.next++
	return true
}

func (n *numbering) of(at uint32) (uint32, bool) {
	if int64(at) >= int64(len(n.at)) || n.at[at] < 0 {
		return 0, false
	}
	return uint32(n.at[at]), true
}
