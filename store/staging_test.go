package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// loader loads a file into a machine, part by part, with all that may happen on
// the way. A twin of the machine is never disturbed.
type loader struct {
	t       testing.TB
	rnd     *rand.Rand
	m, twin *Machine
	disk    disk
	log     map[uint64][]byte
	index   uint64
	now     int64
}

// newLoader returns a suspended machine with stores as s defines them, under
// another id.
func newLoader(t testing.TB, seed uint64, stores ...*statepb.Store) *loader {
	l := &loader{t: t, rnd: rand.New(rand.NewPCG(seed, 8)), m: New(), twin: New(), disk: disk{}, log: map[uint64][]byte{}, now: 1e14}
	l.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 3, Stores: stores}))
	l.want(OK, AppendSuspend(nil, 0))
	return l
}

// want applies one command among other things and expects a code.
func (l *loader) want(code Code, command []byte) Result {
	l.t.Helper()
	l.index += 1 + uint64(l.rnd.IntN(3))
	l.now += 1e6
	data := append(make([]byte, l.rnd.IntN(50)), command...)
	l.log[l.index] = data
	var results [2]Result
	for i, m := range []*Machine{l.m, l.twin} {
		out, err := m.Apply(l.index, 1+l.index/40, l.now, [][]byte{command}, []uint32{uint32(len(data) - len(command))}, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := m.check(); err != nil {
			l.t.Fatalf("after %s: %v", Command(command), err)
		}
		results[i] = out[0]
	}
	if results[0] != results[1] || results[0].Code != code {
		l.t.Fatalf("%s: %+v, twin %+v, want %v", Command(command), results[0], results[1], code)
	}
	if l.rnd.IntN(4) == 0 {
		l.restart()
	}
	return results[0]
}

// save returns the machine as a file.
func (l *loader) save(stores ...string) ([]byte, *statefile.Manifest) {
	l.t.Helper()
	var out bytes.Buffer
	m, _, err := l.m.Save(&out, statefile.Manifest{}, func(i uint64) ([]byte, error) { return l.log[i], nil }, stores...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out.Bytes(), m
}

// restart loads the machine from its pages.
func (l *loader) restart() {
	l.t.Helper()
	l.disk.save(l.t, l.m)
	l.m.Dead(func(uint64) {})
	l.m = l.disk.load(l.t, l.index)
	if h := l.m.Hash(); h != l.twin.Hash() || h != l.disk.hash() {
		l.t.Fatalf("entry %d: hashes differ after loading", l.index)
	}
	var a, b []uint64
	l.m.Live(0, ^uint64(0), func(i uint64) { a = append(a, i) })
	l.twin.Live(0, ^uint64(0), func(i uint64) { b = append(b, i) })
	if !slices.Equal(a, b) {
		l.t.Fatalf("entries %v live after loading, want %v", a, b)
	}
}

// parts cuts a file into blocks of up to most records.
func parts(t testing.TB, file []byte, most int) (m *statefile.Manifest, out []statefile.Block) {
	t.Helper()
	r, err := statefile.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var records statefile.Records
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Manifest(), out
		}
		if err != nil {
			t.Fatal(err)
		}
		records.Start(b.Section, b.Count, b.Content)
		piece := statefile.Block{Section: b.Section}
		for from := 0; from < len(b.Content); {
			if _, err := records.Next(); err != nil {
				t.Fatal(err)
			}
			piece.Count++
			if at := records.Offset(); int(piece.Count) == most || at == len(b.Content) {
				piece.Content = slices.Clone(b.Content[from:at])
				out = append(out, piece)
				piece, from = statefile.Block{Section: b.Section}, at
			}
		}
	}
}

// begin returns the command that begins a load.
func begin(load uint64, m *statefile.Manifest, stores ...uint64) *statepb.LoadBegin {
	c := &statepb.LoadBegin{Load: load, StateHash: m.StateHash, LastSession: m.LastSession, Time: m.Time}
	for i, s := range m.Stores {
		c.Stores = append(c.Stores, &statepb.LoadTarget{Name: s.Name, Store: stores[i]})
	}
	return c
}

// load loads a file, with parts that come twice or too early, and others' loads.
func (l *loader) load(c *statepb.LoadBegin, list []statefile.Block) {
	l.t.Helper()
	l.want(OK, AppendLoadBegin(nil, c))
	for next := uint64(0); next < uint64(len(list)); {
		switch l.rnd.IntN(8) {
		case 0:
			if r := l.want(OK, AppendLoadBegin(nil, c)); r.Last != next || !r.Duplicate {
				l.t.Fatalf("begun again: %+v, want part %d", r, next)
			}
		case 1:
			l.want(SequenceGap, AppendLoadPart(nil, c.Load, next+1, &list[next]))
		case 2:
			l.want(NoSuchLoad, AppendLoadPart(nil, c.Load+1, next, &list[next]))
			l.want(Loading, AppendResume(nil))
		case 3:
			l.want(SequenceGap, AppendLoadCommit(nil, c.Load, uint64(len(list))))
		case 4:
			if next > 0 {
				l.want(OK, AppendLoadPart(nil, c.Load, next-1, &list[next-1]))
			}
		default:
			l.want(OK, AppendLoadPart(nil, c.Load, next, &list[next]))
			next++
		}
		if load, next2 := l.m.Load(); load != c.Load || next2 != next {
			l.t.Fatalf("load %d is at part %d, want %d at %d", load, next2, c.Load, next)
		}
	}
	l.want(OK, AppendLoadCommit(nil, c.Load, uint64(len(list))))
	if r := l.want(OK, AppendLoadCommit(nil, c.Load, uint64(len(list)))); !r.Duplicate {
		l.t.Fatal("a commit that comes twice is done twice")
	}
	if load, _ := l.m.Load(); load != 0 || !l.twin.Replaced() || l.twin.Replaced() {
		l.t.Fatal("the load is not over, or nobody is told")
	}
	l.restart()
}

// content describes the records of a file.
func content(t testing.TB, file []byte) (out []string) {
	t.Helper()
	if _, _, err := statefile.Verify(bytes.NewReader(file), func(r statefile.Record) error {
		out = append(out, fmt.Sprintf("%v %+v", r.Section(), r))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLoadedIsWhatWasSaved: a random state, saved and loaded into a machine that
// calls everything by other ids, is the same state: the same file, the same hash,
// and publishers go on as if nothing had been.
func TestLoadedIsWhatWasSaved(t *testing.T) {
	for seed := range uint64(25) {
		p := newPlayer(t, seed)
		for range 30 + p.rnd.IntN(170) {
			p.step()
		}
		file, manifest := p.save(p.a)
		_, list := parts(t, file, 1+p.rnd.IntN(9))
		l := newLoader(t, seed, &statepb.Store{Id: 7, Name: "flights", Durables: []*statepb.Durable{
			{Id: 71, Name: "only-a", Kind: 2, Matcher: `{"k":"a"}`}, {Id: 72, Name: "all", Kind: 1}}})
		if p.rnd.IntN(2) == 0 {
			l.want(OK, AppendLoadBegin(nil, begin(98, manifest, 7)))
			for i := range list[:p.rnd.IntN(len(list))] {
				l.want(OK, AppendLoadPart(nil, 98, uint64(i), &list[i]))
			}
			l.want(Loading, AppendLoadBegin(nil, begin(99, manifest, 7)))
			l.want(OK, AppendLoadAbort(nil, 98))
			l.want(NoSuchLoad, AppendLoadAbort(nil, 98))
		}
		l.load(begin(99, manifest, 7), list)

		out, again := l.save()
		if again.StateHash != manifest.StateHash || !slices.Equal(content(t, out), content(t, file)) {
			t.Fatalf("seed %d: another state was loaded:\n%v\nwant\n%v", seed, content(t, out), content(t, file))
		}
		l.want(OK, AppendResume(nil))
		l.goOn(p)
	}
}

// goOn publishes what publishers would after the load: what they sent last, and
// what comes next.
func (l *loader) goOn(p *player) {
	l.t.Helper()
	next := p.o.next
	for _, id := range []uint64{1, 2} {
		x := p.o.sessions[id]
		if x.last > 0 {
			want := x.said[x.last]
			r := l.want(OK, AppendPublish(nil, 7, id, x.attempt, x.last, []byte(x.bytes[x.last])))
			if !r.Duplicate || r.First != want.First || r.Count != want.Count || r.Interested != want.Interested {
				l.t.Fatalf("session %d: what was published before is %+v, was %+v", id, r, want)
			}
		}
		if p.o.limit == 0 {
			r := l.want(OK, AppendPublish(nil, 7, id, x.attempt+1, x.last+1, plainBatch(l.t, 1, 3)))
			if r.Duplicate || r.First != next {
				l.t.Fatalf("session %d: the next is %+v, want %v", id, r, next)
			}
			next += 3
		}
	}
	if r := l.want(OK, AppendOpenSession(nil, 7, 0, 0)); r.Session != p.a.session+1 {
		l.t.Fatalf("session %d is next, after %d", r.Session, p.a.session)
	}
}

// TestLoadByDefinition: what a load becomes is what the cluster's definition
// says; what is only in one of both is refused or stays empty.
func TestLoadByDefinition(t *testing.T) {
	file, stores := saved(t)
	manifest, list := parts(t, file, 3)
	flights := func(durables ...*statepb.Durable) []*statepb.Store {
		return []*statepb.Store{stores[0], {Id: 2, Name: "flights", Durables: durables}}
	}
	audit, a := standard(11, "audit"), &statepb.Durable{Id: 12, Name: "a", Kind: 2, Matcher: `{"k":"a"}`}
	for name, defined := range map[string][]*statepb.Store{
		"a durable is missing":                  flights(audit),
		"a durable is of another kind":          flights(&statepb.Durable{Id: 11, Name: "audit", Kind: 2}, a),
		"a durable has another matcher":         flights(audit, &statepb.Durable{Id: 12, Name: "a", Kind: 2}),
		"a static one of another kind is there": flights(audit, a, standard(13, "d")),
	} {
		t.Run(name, func(t *testing.T) {
			newLoader(t, 3, defined...).refused(begin(1, manifest, 1, 2), list, LoadRefused)
		})
	}
	l := newLoader(t, 3, flights(audit, a, &statepb.Durable{Id: 13, Name: "d", Kind: 2}, standard(14, "more"))...)
	l.load(begin(1, manifest, 1, 2), list)
	d, _ := l.m.DurableByName(2, "d")
	more, _ := l.m.DurableByName(2, "more")
	if d.ID() != 13 || d.Dynamic() || d.Pending().Len() != 12 || more.Pending().Len() != 0 {
		t.Errorf("d is %d with %v, more has %v", d.ID(), d.Pending(), more.Pending())
	}
}

// TestLoadReplaces: a store that has given ids gives new ones after the load, the
// sessions of those who were told of them end, and nothing else of the cluster
// changes.
func TestLoadReplaces(t *testing.T) {
	file, stores := saved(t)
	manifest, list := parts(t, file, 2)
	other := &statepb.Store{Id: 3, Name: "other", Durables: []*statepb.Durable{standard(30, "audit")}}
	l := newLoader(t, 4, append(stores, other)...)
	l.want(OK, AppendResume(nil))
	for id := range uint64(3) {
		l.want(OK, AppendPublish(nil, id+1, 0, 0, 0, plainBatch(t, 1, 20)))
	}
	l.want(OK, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 2, Name: "gone", Kind: 2}))
	session := l.want(OK, AppendOpenSession(nil, 2, 0, 0)).Session
	l.want(OK, AppendSuspend(nil, 0))
	l.want(NotEmpty, AppendLoadBegin(nil, begin(1, manifest, 1, 2)))
	before := fmt.Sprintf("%+v", l.m.Stats()[2])
	c := begin(1, manifest, 1, 2)
	c.Replace = true
	l.load(c, list)
	if after := fmt.Sprintf("%+v", l.m.Stats()[2]); after != before {
		t.Errorf("a store that was not loaded was\n%s, is\n%s", before, after)
	}
	if _, ok := l.m.DurableByName(2, "gone"); ok || l.m.Sessions() != 0 || l.m.session != manifest.LastSession {
		t.Errorf("%d sessions are left, or a durable of before", l.m.Sessions())
	}
	audit, _ := l.m.DurableByName(2, "audit")
	if audit.ID() != 11 || audit.Pending().Len() != 12 || audit.Pending().Last() != 12 {
		t.Errorf("durable %d has %v", audit.ID(), audit.Pending())
	}
	l.want(OK, AppendResume(nil))
	l.want(SessionUnknown, AppendPublish(nil, 2, session, 1, 1, plainBatch(t, 1, 1)))
	if r := l.want(OK, AppendPublish(nil, 2, 0, 0, 0, plainBatch(t, 1, 2))); r.First != message.MakeID(1, 1) {
		t.Errorf("the next id is %v", r.First)
	}
	l.want(OK, AppendOpenSession(nil, 2, 1, 0))

	// And once more, under the sessions of others.
	for range 9 {
		l.want(OK, AppendOpenSession(nil, 3, 0, 0))
	}
	l.want(OK, AppendSuspend(nil, 0))
	c.Load = 2
	if c.Stores = c.Stores[1:]; l.m.Sessions() != 10 {
		t.Fatalf("%d sessions", l.m.Sessions())
	}
	only := newLoader(t, 9, stores...)
	only.load(begin(1, manifest, 1, 2), list)
	flights, one := only.save("flights")
	_, list = parts(t, flights, 9)
	c.StateHash = one.StateHash
	l.want(OK, AppendLoadBegin(nil, c))
	for i := range list {
		l.want(OK, AppendLoadPart(nil, 2, uint64(i), &list[i]))
	}
	r := l.want(OK, AppendLoadCommit(nil, 2, uint64(len(list))))
	if s, _ := l.m.Store(2); s.Epoch() != 2 || l.m.Sessions() != 9 {
		t.Errorf("%+v: epoch %d, %d sessions", r, s.Epoch(), l.m.Sessions())
	}
}

// TestLoadKeepsIdleness: how long a session has not been used is what it was, in
// a cluster that has run for a shorter or a longer time.
func TestLoadKeepsIdleness(t *testing.T) {
	for _, ran := range []int64{0, 40 * sessionIdle} {
		a, stores := newLoader(t, 1), []*statepb.Store{{Id: 1, Name: "s"}}
		a.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: 4, Stores: stores}))
		a.want(OK, AppendResume(nil))
		a.want(OK, AppendOpenSession(nil, 1, 0, 0))
		a.now += sessionIdle / 2
		a.want(OK, AppendOpenSession(nil, 1, 0, 0))
		file, manifest := a.save()
		_, list := parts(t, file, 1)
		b := newLoader(t, 2, stores...)
		b.want(OK, AppendResume(nil))
		b.now += ran
		b.want(OK, AppendSuspend(nil, 0))
		b.load(begin(1, manifest, 1), list)
		b.want(OK, AppendResume(nil))
		b.now = max(b.now, manifest.Time) + sessionIdle/2 - 1e9
		if b.want(OK, AppendTick(nil, nil)); b.m.Sessions() != 2 {
			t.Errorf("after %d ns: %d sessions, want both", ran, b.m.Sessions())
		}
		b.now += 2e9
		if b.want(OK, AppendTick(nil, nil)); b.m.Sessions() != 1 {
			t.Errorf("after %d ns: %d sessions, want one", ran, b.m.Sessions())
		}
	}
}

// TestLoadForgetsItsPages: what was saved of an aborted load is deleted, pages too
// that came and went while it was loaded.
func TestLoadForgetsItsPages(t *testing.T) {
	var records []statefile.Record
	next := message.ID(70_000) // not in the first page of its region, where the list of few is
	for range 3 {
		r := &statefile.Pending{}
		for range statefile.MaxRuns {
			r.Runs = append(r.Runs, statefile.Run{First: next, N: 1})
			next += 2
		}
		records = append(records, r)
	}
	records = append([]statefile.Record{&statefile.Store{Name: "flights", Counter: 1e6},
		&statefile.Durable{Name: "audit", Kind: 1, Prefetch: 5, Matched: 3 * statefile.MaxRuns, Marks: []byte{0}}}, records...)
	manifest, list := parts(t, crafted(t, records...), 1)
	l := newLoader(t, 6, &statepb.Store{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}})
	apply := func(command []byte) {
		t.Helper()
		l.index++
		for _, m := range []*Machine{l.m, l.twin} {
			if out, err := m.Apply(l.index, m.term, l.now, [][]byte{command}, []uint32{0}, nil); err != nil || out[0].Code != OK {
				t.Fatal(out, err)
			}
		}
	}
	apply(AppendLoadBegin(nil, begin(1, manifest, 1)))
	for i := range list {
		if i == 3 {
			l.restart()
		}
		apply(AppendLoadPart(nil, 1, uint64(i), &list[i]))
	}
	apply(AppendLoadAbort(nil, 1))
	l.restart()
	for key := range l.disk {
		if key[0]&pageStaged != 0 || key[0] == pageLoad {
			t.Errorf("page %x is left", key)
		}
	}
}

// TestLoadLeavesOthersIdle: R rises where what is loaded has been idle for longer
// than the cluster runs; who was there does not grow older by that.
func TestLoadLeavesOthersIdle(t *testing.T) {
	stores := []*statepb.Store{{Id: 1, Name: "flights"}, {Id: 2, Name: "other"}}
	a := crafted(t, &statefile.Store{Name: "flights"}, &statefile.Session{ID: 5, Attempt: 1, Idle: sessionIdle})
	manifest, list := parts(t, a, 1)
	l := newLoader(t, 7, stores...)
	l.want(OK, AppendResume(nil))
	session := l.want(OK, AppendOpenSession(nil, 2, 0, 0)).Session
	l.want(OK, AppendSuspend(nil, 0))
	l.load(begin(1, manifest, 1), list)
	l.want(OK, AppendResume(nil))
	l.now = manifest.Time + sessionIdle/2
	if l.want(OK, AppendTick(nil, nil)); l.m.Sessions() != 1 {
		t.Errorf("%d sessions", l.m.Sessions())
	}
	if _, ok := l.m.Session(session); !ok {
		t.Error("the session that was there has expired")
	}
}

// TestLoadKeepsSessionsApart: nobody gets a session here that the load brings, and
// what is loaded takes no session of a publisher who is here.
func TestLoadKeepsSessionsApart(t *testing.T) {
	stores := []*statepb.Store{{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}}, {Id: 2, Name: "other"}}
	file := crafted(t, &statefile.Store{Name: "flights"}, &statefile.Session{ID: 1, Attempt: 1}, &statefile.Session{ID: 4, Attempt: 1})
	manifest, list := parts(t, file, 1)
	for name, store := range map[string]uint64{"of the store that is loaded": 1, "of another store": 2} {
		t.Run("open "+name, func(t *testing.T) {
			l := newLoader(t, 7, stores...)
			l.want(OK, AppendOpenSession(nil, store, 0, 0))
			want, sessions := LoadRefused, 1
			if store == 2 {
				want, sessions = OK, 2 // it stays where it is
			}
			l.want(OK, AppendLoadBegin(nil, begin(1, manifest, 1)))
			for i := range list {
				if want == OK || i < 1 {
					l.want(OK, AppendLoadPart(nil, 1, uint64(i), &list[i]))
				}
			}
			if want == OK {
				l.want(OK, AppendLoadCommit(nil, 1, uint64(len(list))))
			} else {
				l.want(want, AppendLoadPart(nil, 1, 1, &list[1]))
			}
			if x, ok := l.m.Session(1); !ok || x.Store != store || l.m.Sessions() != sessions {
				t.Errorf("the publisher's session is %+v of %d", x, l.m.Sessions())
			}
		})
		t.Run("opened meanwhile "+name, func(t *testing.T) {
			l := newLoader(t, 7, stores...)
			l.want(OK, AppendLoadBegin(nil, begin(1, manifest, 1)))
			if r := l.want(OK, AppendOpenSession(nil, store, 0, 0)); r.Session != manifest.LastSession+1 {
				t.Errorf("session %d is opened during a load that brings some up to %d", r.Session, manifest.LastSession)
			}
			l.want(OK, AppendLoadPart(nil, 1, 0, &list[0]))
			l.want(OK, AppendLoadPart(nil, 1, 1, &list[1]))
			l.want(OK, AppendLoadPart(nil, 1, 2, &list[2]))
			l.want(OK, AppendLoadCommit(nil, 1, 3))
		})
	}
	// One that comes by its clock finds no session of before.
	l := newLoader(t, 7, stores...)
	if r := l.want(OK, AppendOpenSession(nil, 1, 0, 1e15)); r.Session != 1e15+1 {
		t.Errorf("session %d", r.Session)
	}
	if r := l.want(OK, AppendOpenSession(nil, 2, 0, 1e14)); r.Session != 1e15+2 {
		t.Errorf("session %d", r.Session)
	}
	l.want(Invalid, AppendOpenSession(nil, 1, 0, 1<<63))
	c := begin(1, manifest, 1)
	c.LastSession = 1 << 63
	l.want(Invalid, AppendLoadBegin(nil, c))
	// Sessions of a store that is replaced are not loaded, so they may be anybody's.
	l = newLoader(t, 7, stores...)
	l.want(OK, AppendResume(nil))
	l.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 1)))
	l.want(OK, AppendOpenSession(nil, 2, 0, 0))
	l.want(OK, AppendSuspend(nil, 0))
	c = begin(1, manifest, 1)
	c.Replace = true
	l.load(c, list)
	if _, ok := l.m.Session(1); !ok || l.m.Sessions() != 1 {
		t.Error("the publisher's session is gone")
	}
}

// TestLoadEndsDeliveries: whoever dispatches is told when a load begins, and when it
// is committed.
func TestLoadEndsDeliveries(t *testing.T) {
	file, stores := saved(t)
	manifest, list := parts(t, file, 100)
	l := newLoader(t, 2, stores...)
	told := func() bool { return l.twin.Replaced() }
	if told() {
		t.Error("told without a load")
	}
	l.want(OK, AppendLoadBegin(nil, begin(1, manifest, 1, 2)))
	if !told() {
		t.Error("not told that a load begins")
	}
	l.want(OK, AppendLoadBegin(nil, begin(1, manifest, 1, 2)))
	for i := range list {
		l.want(OK, AppendLoadPart(nil, 1, uint64(i), &list[i]))
	}
	if told() {
		t.Error("told again in the middle")
	}
	l.want(OK, AppendLoadCommit(nil, 1, uint64(len(list))))
	if !told() {
		t.Error("not told of the end")
	}
}

// TestLoadCountsNothing: where the cluster was suspended before it was saved, nothing
// that is loaded may have been delivered but what had been before.
func TestLoadCountsNothing(t *testing.T) {
	stores := []*statepb.Store{{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}}}
	a := newLoader(t, 1, stores...)
	a.want(OK, AppendResume(nil))
	a.want(OK, AppendPublish(nil, 1, 0, 0, 0, plainBatch(t, 1, 9)))
	a.want(OK, AppendWatermark(nil, 10, 5))
	a.want(OK, AppendRelease(nil, 10, []Range{{2, 2}}, true))
	online, _ := a.save()
	a.want(OK, AppendSuspend(nil, 0))
	quiet, _ := a.save()
	for i, file := range [][]byte{online, quiet} {
		manifest, list := parts(t, file, 9)
		b := newLoader(t, 2, stores...)
		b.load(begin(1, manifest, 1), list)
		d, _ := b.m.DurableByName(1, "audit")
		for id := range message.ID(9) {
			ended, possible := d.Counts(id + 1)
			if wantEnded, wantPossible := id+1 == 2, i == 0 && id+1 <= 5; (ended == 1) != wantEnded || (possible == 1) != wantPossible || ended+possible > 2 {
				t.Errorf("file %d, message %d: %d and %d", i, id+1, ended, possible)
			}
		}
	}
}

// TestLoadBegunOtherwise: who begins the load that is under way, but with another state
// or into other stores, does not go on with it.
func TestLoadBegunOtherwise(t *testing.T) {
	manifest, list := parts(t, crafted(t, &statefile.Store{Name: "flights"}), 1)
	l := newLoader(t, 10, &statepb.Store{Id: 1, Name: "flights"}, &statepb.Store{Id: 2, Name: "other"})
	l.want(OK, AppendLoadBegin(nil, begin(1, manifest, 1)))
	l.want(OK, AppendLoadPart(nil, 1, 0, &list[0]))
	for what, change := range map[string]func(*statepb.LoadBegin){
		"hash":    func(c *statepb.LoadBegin) { c.StateHash = strings.Repeat("0", len(c.StateHash)) },
		"replace": func(c *statepb.LoadBegin) { c.Replace = true },
		"time":    func(c *statepb.LoadBegin) { c.Time++ },
		"session": func(c *statepb.LoadBegin) { c.LastSession++ },
		"store":   func(c *statepb.LoadBegin) { c.Stores[0].Store = 2 },
		"name":    func(c *statepb.LoadBegin) { c.Stores[0].Name = "flight" },
		"more":    func(c *statepb.LoadBegin) { c.Stores = append(c.Stores, &statepb.LoadTarget{Name: "other", Store: 2}) },
	} {
		c := begin(1, manifest, 1)
		change(c)
		if r := l.want(Loading, AppendLoadBegin(nil, c)); r.Last != 1 {
			t.Errorf("%s: %+v", what, r)
		}
	}
	l.want(OK, AppendLoadCommit(nil, 1, uint64(len(list))))
}
