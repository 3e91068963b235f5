package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// wild is a cluster in which anything happens: several stores, durables of every
// kind, with and without matchers, static and dynamic, sessions, attachments,
// deliveries in vain, changes of leader, suspensions. What its commands are
// answered is not compared with anything here.
type wild struct {
	t       testing.TB
	rnd     *rand.Rand
	m       *Machine
	stores  []*statepb.Store
	log     map[uint64][]byte
	index   uint64
	term    uint64
	now     int64
	batches map[string][]byte // by store, session and sequence
}

func newWild(t testing.TB, seed uint64) *wild {
	w := &wild{t: t, rnd: rand.New(rand.NewPCG(seed, 12)), m: New(), log: map[uint64][]byte{}, term: 1, now: 1e15, batches: map[string][]byte{}}
	matchers := []string{"", `{"k":"a"}`, `{"k":"b"}`}
	for i := range uint64(1 + w.rnd.IntN(3)) {
		s := &statepb.Store{Id: 10 - i, Name: fmt.Sprintf("store-%d", w.rnd.IntN(100)*10+int(i))}
		for k := range uint64(w.rnd.IntN(4)) {
			s.Durables = append(s.Durables, &statepb.Durable{Id: 100*s.Id + k, Name: fmt.Sprintf("static-%d", 9-k),
				Kind: 1 + w.rnd.Uint32N(2), Matcher: matchers[w.rnd.IntN(3)], Prefetch: w.rnd.Uint32N(3)})
		}
		w.stores = append(w.stores, s)
	}
	w.apply(AppendDeploy(nil, &statepb.Deploy{Revision: 1, Stores: w.stores}))
	return w
}

// apply applies one command and returns its result.
func (w *wild) apply(c []byte) Result {
	w.index++
	w.now += w.rnd.Int64N(1e9)
	if w.rnd.IntN(200) == 0 {
		w.now += sessionIdle / 3
	}
	if w.rnd.IntN(25) == 0 {
		w.term++
	}
	w.log[w.index] = append(make([]byte, w.rnd.IntN(9)), c...)
	out, err := w.m.Apply(w.index, w.term, w.now, [][]byte{c}, []uint32{uint32(len(w.log[w.index]) - len(c))}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return out[0]
}

// step does one thing or another.
func (w *wild) step() {
	s := w.m.stores[w.rnd.IntN(len(w.m.stores))]
	switch w.rnd.IntN(12) {
	case 0, 1, 2, 3:
		w.publish(s)
		return
	case 4:
		w.apply(AppendOpenSession(nil, s.id, s.epoch, w.rnd.Uint64N(50)))
		return
	case 5:
		w.apply(AppendCreateDurable(nil, &statepb.CreateDurable{Store: s.id, Name: fmt.Sprintf("dynamic-%d", w.rnd.IntN(4)),
			Kind: 1 + w.rnd.Uint32N(2), Template: []string{"", "some"}[w.rnd.IntN(2)], Matcher: []string{"", `{"k":"c"}`}[w.rnd.IntN(2)]}))
		return
	case 6:
		command := AppendResume(nil)
		if w.rnd.IntN(3) == 0 {
			command = AppendSuspend(nil, 1e9)
		}
		w.apply(command)
		return
	}
	if len(w.m.durables) == 0 {
		return
	}
	d := w.m.durables[w.rnd.IntN(len(w.m.durables))]
	at := message.MakeID(s.epoch, 1+w.rnd.Uint64N(s.counter+1))
	r := []Range{{at, at + message.ID(w.rnd.IntN(12))}}
	switch w.rnd.IntN(6) {
	case 0, 1, 2:
		w.apply(AppendSettle(nil, d.id, r))
	case 3:
		w.apply(AppendRelease(nil, d.id, r, true))
	case 4:
		w.apply(AppendWatermark(nil, d.id, at))
	case 5:
		w.apply(AppendAttach(nil, d.id, 1+w.rnd.Uint64N(3), w.rnd.Uint64N(3)))
	}
}

// publish publishes a few messages, most in a session, some again.
func (w *wild) publish(s *storeState) {
	var x *session
	for o := w.m.sessions.first; o != nil; o = o.next {
		if o.store == s.id && (x == nil || w.rnd.IntN(2) == 0) {
			x = o
		}
	}
	data := newBatch(w.t, w.rnd.IntN(9), []string{"a", "b", "c", ""}[w.rnd.IntN(4):]...)
	if x == nil {
		w.apply(AppendPublish(nil, s.id, 0, 0, 0, data))
		return
	}
	sequence := x.last + 1
	if r := w.apply(AppendPublish(nil, s.id, x.id, x.attempt+w.rnd.Uint32N(2), sequence, data)); r.Code == OK {
		w.batches[fmt.Sprint(s.spec.name, x.id, "/", sequence)] = data
	}
}

// save returns the state as a file.
func (w *wild) save() ([]byte, *statefile.Manifest) {
	w.t.Helper()
	var out bytes.Buffer
	m, _, err := w.m.Save(&out, statefile.Manifest{}, func(i uint64) ([]byte, error) { return w.log[i], nil })
	if err != nil {
		w.t.Fatal(err)
	}
	if _, _, err := statefile.Verify(bytes.NewReader(out.Bytes()), nil); err != nil {
		w.t.Fatalf("a state that was is not sound: %v", err)
	}
	return out.Bytes(), m
}

// TestRoundTrip: any state, saved, verified and loaded into a cluster whose realm
// calls everything by other ids, whose members restart and join meanwhile, is the
// same state on every member, with the same hash, and publishers go on in it.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(40) {
		w := newWild(t, seed)
		for range w.rnd.IntN(250) {
			w.step()
		}
		file, manifest := w.save()
		_, list := parts(t, file, 1+w.rnd.IntN(20))
		defined, ids := redefined(w)
		l := newLoader(t, seed, defined...)
		l.load(begin(1, manifest, ids...), list)
		out, again := l.save()
		if again.StateHash != manifest.StateHash || !slices.Equal(content(t, out), content(t, file)) {
			t.Fatalf("seed %d: another state was loaded:\n%v\nwant\n%v", seed, content(t, out), content(t, file))
		}
		l.want(OK, AppendResume(nil))
		l.retry(w, ids)
	}
}

// redefined returns the stores of w under other ids, and these in the order of the
// stores' names.
func redefined(w *wild) (defined []*statepb.Store, ids []uint64) {
	sorted := slices.SortedFunc(slices.Values(w.stores), func(a, b *statepb.Store) int { return cmp.Compare(a.Name, b.Name) })
	for i, s := range sorted {
		n := &statepb.Store{Id: uint64(50 + (i*7)%3), Name: s.Name}
		for k, d := range s.Durables {
			n.Durables = append(n.Durables, &statepb.Durable{Id: 1000*n.Id - uint64(k), Name: d.Name, Kind: d.Kind, Matcher: d.Matcher, Prefetch: d.Prefetch})
		}
		defined, ids = append(defined, n), append(ids, n.Id)
	}
	return defined, ids
}

// retry publishes again what every session published last, and once more.
func (l *loader) retry(w *wild, ids []uint64) {
	l.t.Helper()
	for x := w.m.sessions.first; x != nil; x = x.next {
		s := w.m.store(x.store)
		to := ids[slices.IndexFunc(w.sorted(), func(o *storeState) bool { return o == s })]
		if x.last > 0 {
			o := x.outcome(x.last)
			r := l.want(OK, AppendPublish(nil, to, x.id, x.attempt, x.last, w.batches[fmt.Sprint(s.spec.name, x.id, "/", x.last)]))
			if !r.Duplicate || r.First != o.first || r.Count != o.count || r.Interested != o.interested {
				l.t.Fatalf("session %d: published again is %+v, was %+v", x.id, r, o)
			}
		}
		next := l.m.store(to).last() + 1
		if r := l.want(OK, AppendPublish(nil, to, x.id, x.attempt+1, x.last+1, plainBatch(l.t, 1, 2))); r.Duplicate || r.First != next {
			l.t.Fatalf("session %d: the next is %+v, want %v", x.id, r, next)
		}
	}
}

func (w *wild) sorted() []*storeState {
	return slices.SortedFunc(slices.Values(w.m.stores), func(a, b *storeState) int { return cmp.Compare(a.spec.name, b.spec.name) })
}

// TestVerifiedIsLoaded: whatever records a file has, it is verified exactly if it is
// loaded, and what is loaded has the hash that the file says.
func TestVerifiedIsLoaded(t *testing.T) {
	var sound, unsound int
	for seed := range uint64(400) {
		w := newWild(t, seed%20)
		for range 40 {
			w.step()
		}
		original, _ := w.save()
		file := mutated(t, rand.New(rand.NewPCG(seed, 5)), original)
		if file == nil {
			continue // no tally would have it
		}
		_, _, err := statefile.Verify(bytes.NewReader(file), nil)
		manifest, list := parts(t, file, 3)
		defined, ids := definedBy(t, file)
		l := newLoader(t, seed, defined...)
		if err == nil {
			sound++
			l.load(begin(1, manifest, ids...), list)
			if _, again := l.save(); again.StateHash != manifest.StateHash {
				t.Fatalf("seed %d: hash %s was loaded, of a file with %s", seed, again.StateHash, manifest.StateHash)
			}
			continue
		}
		unsound++
		if !errors.Is(err, statefile.Altered) {
			t.Fatal(err)
		}
		l.refused(begin(1, manifest, ids...), list, LoadRefused)
	}
	if sound < 20 || unsound < 20 {
		t.Errorf("%d sound files and %d others: the test tests little", sound, unsound)
	}
}

// definedBy returns the definition that a file asks for.
func definedBy(t testing.TB, file []byte) (defined []*statepb.Store, ids []uint64) {
	t.Helper()
	err := each(file, func(r statefile.Record) error {
		switch r := r.(type) {
		case *statefile.Store:
			ids = append(ids, uint64(1+len(ids)))
			defined = append(defined, &statepb.Store{Id: ids[len(ids)-1], Name: r.Name})
		case *statefile.Durable:
			s := defined[r.Store]
			if d := (&statepb.Durable{Id: 100*s.Id + uint64(len(s.Durables)) + 1, Name: r.Name, Kind: uint32(r.Kind), Matcher: r.Matcher, Prefetch: r.Prefetch}); r.Sound() == nil && !r.Dynamic {
				s.Durables = append(s.Durables, d)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return defined, ids
}

// each yields the records of a file.
func each(file []byte, visit func(statefile.Record) error) error {
	r, err := statefile.NewReader(bytes.NewReader(file))
	if err != nil {
		return err
	}
	return r.Each(visit)
}

// mutated returns a file with a change of one record, which no checksum shows; nil
// if no tally would have it.
func mutated(t testing.TB, rnd *rand.Rand, file []byte) []byte {
	t.Helper()
	total := 0
	if err := each(file, func(statefile.Record) error { total++; return nil }); err != nil {
		t.Fatal(err)
	}
	r, err := statefile.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	m := *r.Manifest()
	victim, choice := rnd.IntN(total), rnd.IntN(4)
	visit := func(put func(statefile.Record) error) error {
		at := 0
		return each(file, func(r statefile.Record) error {
			at++
			switch {
			case at-1 != victim:
			case choice == 0:
				return nil // is gone
			default:
				change(rand.New(rand.NewPCG(uint64(victim), uint64(choice))), r)
			}
			return put(r)
		})
	}
	tally := statefile.NewTally(m.LastSession)
	if visit(tally.Put) != nil {
		return nil
	}
	m.Summary = tally.Summary()
	var out bytes.Buffer
	w, err := statefile.NewWriter(&out, &m)
	if err != nil {
		t.Fatal(err)
	}
	if err := visit(w.Put); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// change changes one thing in a record.
func change(rnd *rand.Rand, r statefile.Record) {
	n := 1 + rnd.Uint64N(3)
	switch r := r.(type) {
	case *statefile.Store:
		r.Counter += n
	case *statefile.Durable:
		switch rnd.IntN(8) {
		case 0:
			r.Matched += n
		case 1:
			r.Matched, r.Acked = r.Matched+n, r.Acked+n
		case 2:
			r.Matched += 1 << 63
		case 3:
			r.Matcher = `{ "k" : "z" }`
		case 4:
			r.Prefetch = 0
		case 5:
			r.Marks = append(slices.Clone(r.Marks), 1)
		case 6:
			r.Attachment[0] = r.Attachments + n
		case 7:
			r.Watermark += message.ID(n)
		}
	case *statefile.Pending:
		r.Runs[rnd.IntN(len(r.Runs))].N += n
	case *statefile.Counts:
		r.Ended[rnd.IntN(len(r.Ended))].ID += message.ID(n)
	case *statefile.Session:
		r.Idle += []int64{1, 1e9, 1e12, 1e16}[rnd.IntN(4)]
	case *statefile.Batch:
		if rnd.IntN(2) == 0 {
			r.Stamp += []int64{-1e12, 1, 1e9, 1e15}[rnd.IntN(4)]
		} else {
			r.First += message.ID(n)
		}
	}
}
