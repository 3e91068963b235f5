package statefile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// newState returns random records in their order: what a cluster might save.
func newState(t testing.TB, rnd *rand.Rand) []Record {
	t.Helper()
	var stores, durables, pending, counts, sessions, batches []Record
	for i := range uint32(1 + rnd.IntN(3)) {
		s := &Store{Name: fmt.Sprintf("store-%d", i), Epoch: uint16(rnd.IntN(3))}
		stores = append(stores, s)
		next, stamp := message.MakeID(s.Epoch, 1), int64(1e18)
		var own []*Batch
		wanting := rnd.IntN(3)
		for n := rnd.IntN(6); n > 0; n-- {
			next += message.ID(rnd.IntN(5))
			b := newBatch(t, rnd, 200)
			stamp += rnd.Int64N(1e9)
			b.Store, b.First, b.Stamp = i, next, stamp
			next = b.last() + 1
			if own = append(own, b); wanting > 0 {
				batches = append(batches, b)
			}
		}
		s.Counter = next.Counter() - 1
		for k := range wanting {
			at := uint32(len(durables))
			d := &Durable{
				Store: i, Name: fmt.Sprintf("durable-%d", k), Kind: durable.Kind(1 + rnd.IntN(2)), Prefetch: 1 + rnd.Uint32N(999),
				Dynamic: rnd.IntN(2) == 0, Watermark: next, Acked: rnd.Uint64N(99),
				Attachments: 3, Attachment: [3]uint64{3, rnd.Uint64(), 1}, Marks: []byte{0},
			}
			if d.Dynamic {
				d.Matcher, d.Template = `{"k":"a"}`, "t"
			}
			durables = append(durables, d)
			p, c := &Pending{Durable: at}, &Counts{Durable: at}
			for _, b := range own { // the first durable wants something of all, the other of some
				if k > 0 && rnd.IntN(3) == 0 {
					continue
				}
				id, n := b.First+message.ID(rnd.Uint32N(b.Count)), uint64(1)
				if end := b.last(); id < end {
					n += rnd.Uint64N(uint64(end-id) + 1)
				}
				if r := len(p.Runs) - 1; r >= 0 && p.Runs[r].First+message.ID(p.Runs[r].N) == id {
					p.Runs[r].N += n
				} else {
					p.Runs = append(p.Runs, Run{id, n})
				}
				d.Matched += n
				if rnd.IntN(4) == 0 {
					c.Ended = append(c.Ended, Ended{id, 1 + rnd.Uint32N(5)})
				}
			}
			d.Matched += d.Acked
			if len(p.Runs) > 0 {
				pending = append(pending, p)
			}
			if len(c.Ended) > 0 {
				counts = append(counts, c)
			}
		}
	}
	for id := range uint64(rnd.IntN(4)) {
		x := &Session{ID: 1 + id, Store: 0, Last: rnd.Uint64N(100), Attempt: 1, Closed: rnd.IntN(2) == 0, Idle: int64(4-id)*5e11 + rnd.Int64N(4e11)}
		for range min(x.Last, maxOutcomes) {
			x.Outcomes = append(x.Outcomes, Outcome{message.ID(rnd.Uint64N(1e6)), rnd.Uint32N(9), rnd.IntN(2) == 0, rnd.Uint64()})
		}
		sessions = append(sessions, x)
	}
	var all []Record
	for _, part := range [][]Record{stores, durables, pending, counts, sessions, batches} {
		all = append(all, part...)
	}
	return all
}

func newBatch(t testing.TB, rnd *rand.Rand, most int) *Batch {
	t.Helper()
	var b message.Builder
	n := 1 + rnd.IntN(9)
	for range n {
		m := &message.Message{Body: bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(most))}
		m.SetString("k", string(rune('a'+rnd.IntN(3))))
		m.SetInt("n", rnd.Int64())
		if err := b.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	data := b.AppendTo(nil, message.Options{})
	return &Batch{Count: uint32(n), Stamp: 1e18 + rnd.Int64N(1e9), Len: uint32(len(data)), Bytes: data}
}

// save writes records to a file.
func save(t testing.TB, records []Record) []byte {
	t.Helper()
	tally := NewTally(10)
	for _, r := range records {
		if err := tally.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	m := &Manifest{Cluster: "main", Revision: 7, Definition: "stores: []", Term: 3, Applied: 99, Time: 1_700_000_000_000_000_000, Summary: tally.Summary()}
	var out bytes.Buffer
	w, err := NewWriter(&out, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	totals, err := w.Close()
	if err != nil || totals.Size != int64(out.Len()) {
		t.Fatalf("%+v, %v; the file has %d bytes", totals, err, out.Len())
	}
	return out.Bytes()
}

// clone returns a copy of a record that is used again.
func clone(r Record) Record {
	b, ok := r.(*Batch)
	head := r.appendTo(nil)
	if ok {
		head = append(head, b.Bytes...)
	}
	c := reflect.New(reflect.TypeOf(r).Elem()).Interface().(Record)
	c.parse(&cursor{b: head})
	return c
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for seed := range uint64(50) {
		records := newState(t, rand.New(rand.NewPCG(seed, 1)))
		file := save(t, records)
		at := 0
		m, totals, err := Verify(bytes.NewReader(file), func(r Record) error {
			if want := clone(records[at]); !reflect.DeepEqual(clone(r), want) {
				t.Fatalf("seed %d, record %d: %+v, want %+v", seed, at, r, want)
			}
			at++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if at != len(records) || m.Cluster != "main" || totals.Size != int64(len(file)) || totals.Records != uint64(at+1) {
			t.Fatalf("seed %d: %d of %d records, %+v of %d bytes", seed, at, len(records), totals, len(file))
		}
		if again := save(t, records); !bytes.Equal(again, file) {
			t.Fatalf("seed %d: the same state makes another file", seed)
		}
	}
}

func TestLargeStateIsManyBlocks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	d := &Durable{Name: "d", Kind: 1, Prefetch: 1, Marks: []byte{0}}
	all := &Pending{Runs: []Run{{First: 1}}}
	records := []Record{&Store{Name: "s", Counter: message.MaxCounter}, d, all}
	for range 1000 {
		b := newBatch(t, rnd, 2000)
		b.First, b.Stamp = message.ID(1+d.Matched), 1e18
		d.Matched += uint64(b.Count)
		records = append(records, b)
	}
	all.Runs[0].N = d.Matched
	file := save(t, records)
	_, totals, err := Verify(bytes.NewReader(file), nil)
	if err != nil || totals.Blocks < 10 || totals.Content/totals.Blocks > 2*blockTarget {
		t.Fatalf("%+v, %v", totals, err)
	}
}

func TestTallyRefusesDisorder(t *testing.T) {
	store := &Store{Name: "s", Counter: 100}
	named := &Durable{Name: "d", Kind: 1, Marks: []byte{0}}
	for name, records := range map[string][]Record{
		"stores in the wrong order":  {store, &Store{Name: "a"}},
		"bad name":                   {&Store{Name: "_"}},
		"durable of no store":        {named},
		"durable of an unknown kind": {store, &Durable{Name: "d", Kind: 9}},
		"durable twice":              {store, named, named},
		"pending of no durable":      {store, &Pending{Runs: []Run{{1, 1}}}},
		"pending above the last id":  {store, named, &Pending{Runs: []Run{{100, 2}}}},
		"pending in the wrong order": {store, named, &Pending{Runs: []Run{{5, 2}}}, &Pending{Runs: []Run{{6, 2}}}},
		"owners in the wrong order": {store, named, &Durable{Name: "e", Kind: 1, Marks: []byte{0}}, &Pending{Durable: 1, Runs: []Run{{1, 1}}},
			&Pending{Runs: []Run{{5, 1}}}},
		"nothing pending":              {store, named, &Pending{}},
		"runs that are one":            {&Store{Name: "s", Counter: 9999}, named, fullRuns(), &Pending{Runs: []Run{{2 * MaxRuns, 1}}}},
		"runs in two records":          {&Store{Name: "s", Counter: 9999}, named, &Pending{Runs: []Run{{1, 1}}}, &Pending{Runs: []Run{{5, 1}}}},
		"counts in two records":        {store, named, &Counts{Ended: []Ended{{1, 1}}}, &Counts{Ended: []Ended{{5, 1}}}},
		"counts in the wrong order":    {store, named, &Counts{Ended: []Ended{{5, 1}, {5, 1}}}},
		"counts that fall":             {&Store{Name: "s", Counter: 99_999}, named, fullCounts(), &Counts{Ended: []Ended{{5, 1}}}},
		"session of no store":          {&Session{ID: 1}},
		"session that was never given": {store, &Session{ID: 11}},
		"session twice":                {store, &Session{ID: 1}, &Session{ID: 1}},
		"batches overlap":              {store, &Batch{First: 1, Count: 5}, &Batch{First: 5, Count: 1}},
		"batch above the last id":      {store, &Batch{First: 100, Count: 2}},
		"batch of no messages":         {store, &Batch{First: 1}},
		"batch of no store":            {store, &Batch{Store: 1, First: 1, Count: 1}},
		"sections in the wrong order":  {store, named, store},
	} {
		tally, err := NewTally(10), error(nil)
		for i, r := range records {
			if err = tally.Put(r); err != nil && i < len(records)-1 {
				t.Errorf("%s: record %d: %v", name, i, err)
			}
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// fullRuns are as many runs as a record may have: messages 1, 3 and so on.
func fullRuns() *Pending {
	p := &Pending{}
	for i := range message.ID(MaxRuns) {
		p.Runs = append(p.Runs, Run{2*i + 1, 1})
	}
	return p
}

// fullCounts are as many counts as a record may have, of messages 10, 20 and so on.
func fullCounts() *Counts {
	c := &Counts{}
	for i := range message.ID(MaxRuns) {
		c.Ended = append(c.Ended, Ended{10*i + 10, 1})
	}
	return c
}
