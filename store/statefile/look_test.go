package statefile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/perdure/perdure/message"
)

// TestDiffFindsWhatChanged: a state has no difference to itself, and a change of
// any record is one.
func TestDiffFindsWhatChanged(t *testing.T) {
	diff := func(a, b []byte, limit int) (found []Difference, more bool) {
		more, err := Diff(bytes.NewReader(a), bytes.NewReader(b), limit, func(d Difference) error {
			found = append(found, d)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found, more
	}
	for seed := range uint64(40) {
		records := newState(t, rand.New(rand.NewPCG(seed, 1)))
		file := save(t, records)
		if found, more := diff(file, file, 10); len(found) > 0 || more {
			t.Fatalf("seed %d: a state differs from itself: %v", seed, found)
		}
		for i, r := range records {
			changed := slices.Clone(records)
			switch r := clone(r).(type) {
			case *Store:
				continue // what is in it depends on it
			case *Durable:
				r.Acked++
				changed[i] = r
			default:
				changed = slices.Delete(changed, i, i+1)
			}
			other := save(t, changed)
			for _, pair := range [][2][]byte{{file, other}, {other, file}} {
				found, more := diff(pair[0], pair[1], 10)
				if len(found) != 1 || more || found[0].A == found[0].B || found[0].What == "" {
					t.Fatalf("seed %d, %v %d: differences %v", seed, r.Section(), i, found)
				}
			}
		}
	}
	a := save(t, []Record{&Store{Name: "a"}, &Store{Name: "b"}, &Store{Name: "d"}})
	b := save(t, []Record{&Store{Name: "b"}, &Store{Name: "c"}})
	if found, more := diff(a, b, 2); len(found) != 2 || !more {
		t.Errorf("%v, %v", found, more)
	}
	if found, more := diff(a, b, 3); len(found) != 3 || more {
		t.Errorf("%v, %v", found, more)
	}
}

// TestExportYieldsWhatIsWanted compares it with a look at every message.
func TestExportYieldsWhatIsWanted(t *testing.T) {
	matcher, err := message.ParseMatcher(`{"k":"a"}`)
	if err != nil {
		t.Fatal(err)
	}
	some := 0
	for seed := range uint64(40) {
		records := newState(t, rand.New(rand.NewPCG(seed, 1)))
		file := save(t, records)
		for _, sel := range []Selection{{}, {Store: "store-0"}, {Durable: "durable-0"}, {Matcher: matcher}, {Store: "store-0", Durable: "durable-1", Matcher: matcher}} {
			var got []string
			err := Export(bytes.NewReader(file), sel, func(m *Message) error {
				v, _ := m.Get("k")
				got = append(got, fmt.Sprint(m.Store, m.ID, m.Durables, v, len(m.Body)))
				return nil
			})
			want, known := wanted(t, records, sel)
			if known != (err == nil) || !slices.Equal(got, want) {
				t.Fatalf("seed %d, %+v: %v\n%v\nwant\n%v", seed, sel, err, got, want)
			}
			some += len(got)
		}
		stop := errors.New("enough")
		if err := Export(bytes.NewReader(file), Selection{}, func(*Message) error { return stop }); err != nil && !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	if some < 100 {
		t.Errorf("only %d messages were exported", some)
	}
}

// wanted says what Export must yield, and whether there is what sel names.
func wanted(t *testing.T, records []Record, sel Selection) (out []string, known bool) {
	var stores []*Store
	var durables []*Durable
	pending := map[string]bool{}
	known = sel.Durable == ""
	for _, r := range records {
		switch r := r.(type) {
		case *Store:
			stores = append(stores, r)
		case *Durable:
			durables = append(durables, r)
			known = known || r.Name == sel.Durable && (sel.Store == "" || sel.Store == stores[r.Store].Name)
		case *Pending:
			for _, run := range r.Runs {
				for k := range run.N {
					pending[fmt.Sprint(r.Durable, run.First+message.ID(k))] = true
				}
			}
		case *Batch:
			b, err := message.ParseBatch(r.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Count() {
				id, names := r.First+message.ID(i), []string{}
				for at, d := range durables {
					if d.Store == r.Store && pending[fmt.Sprint(at, id)] && (sel.Durable == "" || sel.Durable == d.Name) {
						names = append(names, d.Name)
					}
				}
				m, _ := b.Message(i)
				v, _ := m.Get("k")
				k, _ := v.AsString()
				if len(names) > 0 && (sel.Store == "" || sel.Store == stores[r.Store].Name) && (sel.Matcher == nil || k == "a") {
					out = append(out, fmt.Sprint(stores[r.Store].Name, id, names, v, len(m.Body)))
				}
			}
		}
	}
	return out, known
}
