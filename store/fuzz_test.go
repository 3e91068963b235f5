package store

import (
	"slices"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
)

func newDefinition() *statepb.Store {
	return &statepb.Store{Templates: []*statepb.Template{{Name: "t", Kind: 2, Prefetch: 5}}}
}

// FuzzApply: arbitrary bytes as commands never panic and never break an
// invariant, and two machines that apply them stay equal, one of them loaded
// from pages on the way. Bytes are cut into commands by a length before each.
func FuzzApply(f *testing.F) {
	batch := plainBatch(f, 1, 3)
	for _, commands := range [][][]byte{
		fuzzLoad(f),
		{AppendPublish(nil, 1, 1, 1, 1, batch), AppendSettle(nil, 10, []Range{{1, 2}})},
		{AppendPublish(nil, 1, 0, 0, 0, newBatch(f, 1, "a", "b")), AppendRelease(nil, 11, []Range{{1, 9}}, true), AppendWatermark(nil, 11, 7)},
		{AppendOpenSession(nil, 1, 0, 0), AppendCloseSession(nil, 1), AppendTick(nil, []uint64{1}), AppendChecksum(nil, 3, 4)},
		{AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "x", Kind: 1, Matcher: `{"k":"a"}`}), AppendPublish(nil, 1, 0, 0, 0, batch), AppendDeleteDurable(nil, dynamicBit|1)},
		{AppendAttach(nil, 10, 1, 2), AppendDetach(nil, 10, 1), AppendDeploy(nil, &statepb.Deploy{Revision: 2})},
		{AppendSuspend(nil, 5e9), AppendPublish(nil, 1, 1, 1, 1, batch), AppendAttach(nil, 10, 1, 2), AppendDeploy(nil, &statepb.Deploy{Revision: 2}), AppendResume(nil)},
		{{}, {kindPublish}, {kindDeploy, 1, 2, 3}},
	} {
		var in []byte
		for _, c := range commands {
			in = append(append(in, byte(len(c)>>8), byte(len(c))), c...)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, b := newRig(t), newRig(t)
		for _, r := range []*rig{a, b} {
			r.deploy(newDefinition(), standard(10, "audit"), &statepb.Durable{Id: 11, Name: "work", Kind: 2, Matcher: `{"k":"a"}`})
		}
		saved, half := disk{}, len(in)/2
		for len(in) >= 2 {
			n := min(int(in[0])<<8|int(in[1]), len(in)-2)
			c := in[2 : 2+n]
			in = in[2+n:]
			if len(c) > 0 && !known(c[0]) {
				if _, err := a.m.Apply(a.index+1, 1, a.now, [][]byte{c}, []uint32{0}, nil); err == nil {
					t.Fatal("an unknown kind was applied")
				}
				continue
			}
			if tooMuch(c) {
				continue
			}
			if ra, rb := a.one(c), b.one(c); ra != rb {
				t.Fatalf("%s: %+v and %+v", Command(c), ra, rb)
			}
			if len(in) < half {
				half = 0
				saved.save(t, b.m)
				b.m = saved.load(t, b.index)
			}
		}
		if !slices.Equal(a.live(), b.live()) || a.m.Hash() != b.m.Hash() {
			t.Fatal("equal commands left unequal machines")
		}
		saved.save(t, b.m)
		if saved.hash() != b.m.Hash() {
			t.Fatal("the saved pages are not the state")
		}
	})
}

// fuzzLoad returns the commands of a load that the machines of FuzzApply accept.
func fuzzLoad(f *testing.F) [][]byte {
	l := newLoader(f, 1, &statepb.Store{Id: 1, Name: "flights", Durables: []*statepb.Durable{
		standard(10, "audit"), {Id: 11, Name: "work", Kind: 2, Matcher: `{"k":"a"}`}}})
	l.want(OK, AppendResume(nil))
	session := l.want(OK, AppendOpenSession(nil, 1, 0, 0)).Session
	l.want(OK, AppendPublish(nil, 1, session, 1, 1, newBatch(f, 1, "a", "b")))
	l.want(OK, AppendRelease(nil, 11, []Range{{1, 9}}, true))
	file, manifest := l.save()
	_, list := parts(f, file, 100)
	c := begin(1, manifest, 1)
	c.Replace = true
	commands := [][]byte{AppendSuspend(nil, 0), AppendLoadBegin(nil, c)}
	for i := range list {
		commands = append(commands, AppendLoadPart(nil, 1, uint64(i), &list[i]))
	}
	return append(commands, AppendLoadCommit(nil, 1, uint64(len(list))), AppendLoadAbort(nil, 1), AppendResume(nil))
}

// tooMuch keeps the fuzzer from batches whose check would take long: the check
// looks at every message.
func tooMuch(c []byte) bool {
	p, ok := decodePublish(c)
	return len(c) > 0 && c[0] == kindPublish && ok && len(p.batch) > 8 && (p.batch[5] > 1 || p.batch[6] > 0)
}

// FuzzLoadPage: damaged pages are errors, never panics; what loads is sound.
func FuzzLoadPage(f *testing.F) {
	r := newRig(f)
	x := r.deploy(newDefinition(), standard(10, "audit"))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(f, 1, 3)))
	r.want(OK, AppendRelease(nil, 10, []Range{{1, 1}}, true))
	saved := disk{}
	saved.save(f, r.m)
	keys := make([]string, 0, len(saved))
	for k := range saved {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		f.Add(uint8(i), saved[k])
	}
	f.Fuzz(func(t *testing.T, at uint8, value []byte) {
		k := keys[int(at)%len(keys)]
		m := New()
		for key, v := range with(saved, k, append([]byte{}, value...)) {
			if m.LoadPage([]byte(key), v) != nil {
				return
			}
		}
		if m.Loaded(r.index) != nil {
			return
		}
		if m.Hash() == r.m.Hash() && string(value) != string(saved[k]) {
			t.Fatal("other pages have the same hash")
		}
		// It may be another state, but it must be usable.
		for _, c := range [][]byte{AppendPublish(nil, 1, x, 1, 2, plainBatch(t, 2, 2)), AppendSettle(nil, 10, []Range{{1, 9}}), AppendTick(nil, nil)} {
			if _, err := m.Apply(m.Applied()+1, max(1, m.Term()), 0, [][]byte{c}, []uint32{0}, nil); err != nil {
				return
			}
		}
	})
}
