package store

import (
	"errors"
	"slices"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// rig drives a machine and checks it after every entry.
type rig struct {
	t     testing.TB
	m     *Machine
	index uint64
	term  uint64
	now   int64
}

func newRig(t testing.TB) *rig { return &rig{t: t, m: New(), term: 1, now: 1e9} }

// entry applies commands as one entry, a millisecond after the one before.
func (r *rig) entry(commands ...[]byte) []Result {
	r.t.Helper()
	r.index++
	r.now += 1e6
	offsets := make([]uint32, len(commands))
	at := uint32(100)
	for i, c := range commands {
		offsets[i] = at
		at += uint32(len(c)) + 10
	}
	out, err := r.m.Apply(r.index, r.term, r.now, commands, offsets, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.m.check(); err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) one(command []byte) Result {
	r.t.Helper()
	return r.entry(command)[0]
}

// want applies a command and fails unless it is answered with code.
func (r *rig) want(code Code, command []byte) Result {
	r.t.Helper()
	got := r.one(command)
	if got.Code != code || (got.Detail == "") != (code == OK) {
		r.t.Fatalf("%s: %v (%s), want %v", Command(command), got.Code, got.Detail, code)
	}
	return got
}

// deploy deploys store 1 with durables, and returns a session for it.
func (r *rig) deploy(s *statepb.Store, durables ...*statepb.Durable) uint64 {
	r.t.Helper()
	s.Id, s.Name, s.Durables = 1, "flights", durables
	r.want(OK, AppendDeploy(nil, &statepb.Deploy{Revision: r.m.revision + 1, Stores: []*statepb.Store{s}}))
	return r.want(OK, AppendOpenSession(nil, 1, 0, 0)).Session
}

func standard(id uint64, name string) *statepb.Durable {
	return &statepb.Durable{Id: id, Name: name, Kind: uint32(durable.KindStandard)}
}

func (r *rig) durable(id uint64) Durable {
	r.t.Helper()
	d, ok := r.m.Durable(id)
	if !ok {
		r.t.Fatalf("durable %d is not there", id)
	}
	return d
}

func (r *rig) dead() (dead []uint64) {
	r.m.Dead(func(index uint64) { dead = append(dead, index) })
	return dead
}

func (r *rig) live() (live []uint64) {
	r.m.Live(0, 1<<60, func(index uint64) { live = append(live, index) })
	return live
}

func TestPublishAndSettle(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"), standard(11, "bill"))
	b := plainBatch(t, 1, 3)
	got := r.want(OK, AppendPublish(nil, 1, x, 1, 1, b))
	if got.First != 1 || got.Count != 3 || !got.Interested || got.Duplicate || got.Last != 1 {
		t.Fatalf("first batch: %+v", got)
	}
	entry := r.index
	if touched := slices.Clone(r.m.Touched()); !slices.Equal(touched, []uint64{10, 11}) || len(r.m.Touched()) != 0 {
		t.Fatalf("touched %v", touched)
	}
	at, ok := r.m.Batch(1, 3)
	if !ok || at != (Batch{First: 1, Count: 3, Index: entry, Offset: 100 + PublishHeaderLen, Bytes: uint32(len(b)), Stamp: r.now}) {
		t.Fatalf("batch of 3: %+v, %v", at, ok)
	}
	if _, ok := r.m.Batch(1, 4); ok {
		t.Fatal("4 has a batch")
	}
	r.want(OK, AppendSettle(nil, 10, []Range{{1, 3}}))
	r.want(OK, AppendSettle(nil, 11, []Range{{3, 3}, {2, 9}}))
	if d := r.durable(11); d.Pending().Len() != 1 || d.Pending().Floor() != 1 || len(r.dead()) != 0 {
		t.Fatalf("bill has %v", d.Pending())
	}
	if live := r.live(); !slices.Equal(live, []uint64{entry}) {
		t.Fatalf("live %v", live)
	}
	r.want(OK, AppendSettle(nil, 11, []Range{{1, 1}}))
	r.want(OK, AppendSettle(nil, 11, []Range{{1, 1}}))
	if dead := r.dead(); !slices.Equal(dead, []uint64{entry}) || len(r.dead()) != 0 || len(r.live()) != 0 {
		t.Fatalf("dead %v", dead)
	}
	if st := r.m.Stats()[0]; st.Messages != 0 || st.Bytes != 0 || st.LastID != 3 || st.Durables[0].Acked != 3 {
		t.Fatalf("stats %+v", st)
	}
}

func TestNobodyInterested(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{MessageLimit: 1}, &statepb.Durable{Id: 10, Name: "a", Kind: 2, Matcher: `{"k":"a"}`})
	r.want(OK, AppendWatermark(nil, 10, 0))
	got := r.want(OK, AppendPublish(nil, 1, x, 1, 1, newBatch(t, 1, "b", "c")))
	if got.Interested || got.First != 1 || len(r.live()) != 0 || r.m.Stats()[0].Messages != 0 {
		t.Fatalf("%+v", got)
	}
	got = r.want(OK, AppendPublish(nil, 1, x, 1, 2, newBatch(t, 2, "b", "a", "c")))
	if !got.Interested || got.First != 3 || r.durable(10).Pending().Floor() != 4 || r.durable(10).Watermark() != 4 {
		t.Fatalf("%+v, %v", got, r.durable(10).Pending())
	}
}

// TestLimits: a store that is full rejects, and takes more after a settle.
func TestLimits(t *testing.T) {
	b := plainBatch(t, 1, 10)
	for name, s := range map[string]*statepb.Store{
		"messages": {MessageLimit: 20},
		"bytes":    {ByteLimit: 20 * share(uint64(len(b)), 10)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			x := r.deploy(s, standard(10, "audit"), standard(11, "bill"))
			r.want(OK, AppendPublish(nil, 1, x, 1, 1, b))
			r.want(OK, AppendPublish(nil, 1, x, 1, 2, b))
			full := r.want(StoreFull, AppendPublish(nil, 1, x, 1, 3, plainBatch(t, 3, 1)))
			if full.Last != 2 || r.m.Stats()[0].LastID != 20 {
				t.Fatalf("%+v", full)
			}
			r.want(Aborted, AppendPublish(nil, 1, x, 1, 4, b))
			r.want(OK, AppendSettle(nil, 10, []Range{{1, 20}}))
			r.want(StoreFull, AppendPublish(nil, 1, x, 2, 3, b))
			r.want(OK, AppendSettle(nil, 11, []Range{{1, 10}}))
			if got := r.want(OK, AppendPublish(nil, 1, x, 3, 3, b)); got.First != 21 || got.Attempt != 3 {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// TestEntryWithSeveral: what dies within the entry that brought it is told once,
// and only if all of the entry died.
func TestEntryWithSeveral(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	pub := func(seq uint64) []byte { return AppendPublish(nil, 1, x, 1, seq, plainBatch(t, int(seq), 2)) }
	ack := func(first, last message.ID) []byte { return AppendSettle(nil, 10, []Range{{first, last}}) }
	r.entry(pub(1), ack(1, 2), pub(2))
	if len(r.dead()) != 0 || len(r.live()) != 1 {
		t.Fatalf("live %v", r.live())
	}
	first := r.index
	r.entry(pub(3), ack(5, 6))
	r.entry(ack(3, 4))
	if dead := r.dead(); !slices.Equal(dead, []uint64{first, first + 1}) {
		t.Fatalf("dead %v", dead)
	}
}

func TestReleaseAndMarks(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, &statepb.Durable{Id: 10, Name: "work", Kind: uint32(durable.KindShared)})
	r.want(OK, AppendWatermark(nil, 10, 0))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, 5)))
	r.want(OK, AppendRelease(nil, 10, []Range{{2, 3}}, true))
	r.want(OK, AppendRelease(nil, 10, []Range{{3, 9}}, true))
	r.want(OK, AppendRelease(nil, 10, []Range{{1, 5}}, false))
	ended := func() (out []uint32) {
		for id := message.ID(1); id <= 6; id++ {
			n, _ := r.durable(10).Counts(id)
			out = append(out, n)
		}
		return out
	}
	if got := ended(); !slices.Equal(got, []uint32{0, 1, 2, 1, 1, 0}) {
		t.Fatalf("ended %v", got)
	}
	r.want(OK, AppendSettle(nil, 10, []Range{{3, 4}}))
	if got := ended(); !slices.Equal(got, []uint32{0, 1, 0, 0, 1, 0}) {
		t.Fatalf("ended %v after settling", got)
	}
	r.term = 2 // the first leader may have delivered up to the watermark, 5
	r.want(OK, AppendWatermark(nil, 10, 0))
	r.want(OK, AppendPublish(nil, 1, x, 1, 2, plainBatch(t, 2, 2)))
	r.term = 5
	r.entry()
	possible := func(id message.ID) uint32 { _, n := r.durable(10).Counts(id); return n }
	if possible(1) != 2 || possible(5) != 2 || possible(6) != 1 || possible(8) != 0 {
		t.Fatalf("possible %d %d %d %d", possible(1), possible(5), possible(6), possible(8))
	}
	r.want(OK, AppendSettle(nil, 10, []Range{{1, 5}}))
	if possible(6) != 1 || !r.durable(10).Counted() {
		t.Fatal("the mark at 7 is gone")
	}
	r.want(OK, AppendSettle(nil, 10, []Range{{1, 7}}))
	if r.durable(10).Counted() {
		t.Fatal("counts are left although nothing is pending")
	}
}

func TestWatermark(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendWatermark(nil, 10, 0))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, caughtUp)))
	r.want(OK, AppendPublish(nil, 1, x, 1, 2, plainBatch(t, 2, 1)))
	if w := r.durable(10).Watermark(); w != caughtUp+1 {
		t.Fatalf("watermark %v while nearly caught up", w)
	}
	r.want(OK, AppendPublish(nil, 1, x, 1, 3, plainBatch(t, 3, 1)))
	if w := r.durable(10).Watermark(); w != caughtUp+1 {
		t.Fatalf("watermark %v although behind", w)
	}
	r.want(OK, AppendWatermark(nil, 10, 5000))
	r.want(OK, AppendWatermark(nil, 10, 4000))
	if w := r.durable(10).Watermark(); w != 5000 {
		t.Fatalf("watermark %v, want 5000", w)
	}
	r.term = 2
	r.entry()
	r.want(OK, AppendPublish(nil, 1, x, 1, 4, plainBatch(t, 4, 1)))
	d := r.durable(10)
	if _, n := d.Counts(caughtUp + 2); n != 1 {
		t.Fatalf("possible %d for what was there", n)
	}
	if _, n := d.Counts(caughtUp + 3); n != 0 {
		t.Fatalf("possible %d for what came after", n)
	}
}

func TestAttach(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{}, standard(10, "audit"), &statepb.Durable{Id: 11, Name: "work", Kind: uint32(durable.KindShared)})
	if a := r.want(OK, AppendAttach(nil, 10, 7, 70)).Attach; a != 1 {
		t.Fatalf("attachment %d", a)
	}
	if a := r.want(OK, AppendAttach(nil, 10, 7, 70)).Attach; a != 1 {
		t.Fatalf("attachment %d for the same subscription", a)
	}
	if a := r.want(OK, AppendAttach(nil, 10, 8, 80)).Attach; a != 2 {
		t.Fatalf("attachment %d for a newer one", a)
	}
	if got := r.m.Attached(); !slices.Equal(got, []uint64{10}) {
		t.Fatalf("attached %v", got)
	}
	r.want(Detached, AppendDetach(nil, 10, 1))
	if a := r.durable(10).Attachment(); a != (Attachment{2, 8, 80}) {
		t.Fatalf("held by %+v", a)
	}
	r.want(OK, AppendDetach(nil, 10, 2))
	if a := r.want(OK, AppendAttach(nil, 10, 8, 80)).Attach; a != 3 {
		t.Fatalf("attachment %d after all left", a)
	}
	r.want(KindMismatch, AppendAttach(nil, 11, 7, 70))
	r.want(NoSuchDurable, AppendAttach(nil, 12, 7, 70))
	r.want(NoSuchDurable, AppendDetach(nil, 12, 7))
}

// TestMarkBelow: a leader that delivered nothing of what is pending leaves no
// mark.
func TestMarkBelow(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendWatermark(nil, 10, 0))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, caughtUp+1)))
	r.want(OK, AppendPublish(nil, 1, x, 1, 2, plainBatch(t, 2, 5)))
	r.want(OK, AppendSettle(nil, 10, []Range{{1, caughtUp + 1}}))
	r.term = 2
	r.entry()
	if d := r.durable(10); d.Counted() || d.Pending().Len() != 5 {
		t.Fatalf("a mark at %v, below %v", d.Watermark(), d.Pending())
	}
}

// A durable that no leader delivers of counts no deliveries, however often the
// leader changes.
func TestNoMarksWhereNobodyReads(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	r.want(OK, AppendPublish(nil, 1, x, 1, 1, plainBatch(t, 1, 5)))
	if d := r.durable(10); d.Watermark() != 0 || d.Limit() != 0 {
		t.Fatalf("watermark %v, limit %v", d.Watermark(), d.Limit())
	}
	for range 3 {
		r.term++
		r.entry()
	}
	if r.durable(10).Counted() {
		t.Fatal("deliveries are counted, and nobody delivered")
	}
	r.want(OK, AppendWatermark(nil, 10, 3))
	if d := r.durable(10); d.Limit() != 3 {
		t.Fatalf("limit %v", d.Limit())
	}
	for range 3 {
		r.term++
		r.entry()
		if d := r.durable(10); d.Limit() != 0 || d.Watermark() != 3 {
			t.Fatalf("limit %v, watermark %v after a change of leader", d.Limit(), d.Watermark())
		}
	}
	_, three := r.durable(10).Counts(3)
	_, four := r.durable(10).Counts(4)
	if three != 1 || four != 0 {
		t.Fatalf("possible deliveries %d of message 3, %d of message 4", three, four)
	}
	// One below says that this leader delivers too.
	r.want(OK, AppendWatermark(nil, 10, 1))
	if d := r.durable(10); d.Limit() != 3 {
		t.Fatalf("limit %v", d.Limit())
	}
}

// TestTime: T never falls, R stands still from the last entry of one leader to
// the first of the next.
func TestTime(t *testing.T) {
	m := New()
	for i, e := range []struct {
		term     uint64
		stamp    int64
		t, r     int64
		commands [][]byte
	}{
		{1, 1000, 1000, 0, nil},
		{1, 1500, 1500, 500, nil},
		{1, 1400, 1500, 500, nil},
		{2, 9000, 9000, 500, nil},
		{2, 9100, 9100, 600, [][]byte{AppendTick(nil, nil)}},
		{3, 10, 9100, 600, nil},
	} {
		if _, err := m.Apply(uint64(i+1), e.term, e.stamp, e.commands, make([]uint32, len(e.commands)), nil); err != nil {
			t.Fatal(err)
		}
		if now, running := m.Time(); now != e.t || running != e.r {
			t.Errorf("entry %d: T %d, R %d, want %d, %d", i, now, running, e.t, e.r)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	r := newRig(t)
	r.deploy(&statepb.Store{})
	before := r.m.Hash()
	open := AppendOpenSession(nil, 1, 0, 0)
	for name, apply := range map[string]func() error{
		"unknown kind": func() error {
			_, err := r.m.Apply(r.index+1, 1, r.now, [][]byte{open, {200, 1}}, make([]uint32, 2), nil)
			return err
		},
		"index twice":    func() error { _, err := r.m.Apply(r.index, 1, r.now, nil, nil, nil); return err },
		"older term":     func() error { _, err := r.m.Apply(r.index+1, 0, r.now, nil, nil, nil); return err },
		"missing offset": func() error { _, err := r.m.Apply(r.index+1, 1, r.now, [][]byte{open}, nil, nil); return err },
	} {
		err := apply()
		if !errors.Is(err, ErrUnknownCommand) && !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", name, err)
		}
		if r.m.Hash() != before || r.m.Applied() != r.index {
			t.Errorf("%s: something was applied", name)
		}
	}
}

func TestInvalid(t *testing.T) {
	r := newRig(t)
	x := r.deploy(&statepb.Store{}, standard(10, "audit"))
	pub := AppendPublish(nil, 1, x, 1, 1, nil)
	settle := AppendSettle(nil, 10, []Range{{1, 2}})
	for _, c := range [][]byte{
		{}, pub[:20], AppendPublish(nil, 1, x, 1, 0, plainBatch(t, 1, 1)),
		settle[:5], settle[:20], AppendSettle(nil, 10, []Range{{2, 1}}), AppendSettle(nil, 10, []Range{{0, 1}}),
		{kindRelease, 1}, append(AppendRelease(nil, 10, nil, true)[:9], 7), AppendWatermark(nil, 10, 1)[:9],
		{kindOpenSession, 255}, {kindDeploy, 8}, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 1, Name: "x", Kind: 300}),
		AppendCreateDurable(nil, &statepb.CreateDurable{Name: "\xff"}),
	} {
		before := r.m.Invalid()
		r.want(Invalid, c)
		if r.m.Invalid() != before+1 {
			t.Errorf("%s: not counted", Command(c))
		}
	}
}

func TestChecksum(t *testing.T) {
	a, b := newRig(t), newRig(t)
	for _, r := range []*rig{a, b} {
		r.deploy(&statepb.Store{}, standard(10, "audit"))
	}
	ra, rb := a.want(OK, AppendChecksum(nil, 0, 0)), b.want(OK, AppendChecksum(nil, 0, 0))
	if ra.Last != rb.Last || ra.Last == 0 {
		t.Fatalf("hashes %x and %x", ra.Last, rb.Last)
	}
	index, hash := a.m.Checksum()
	if index != a.index || hash != ra.Last {
		t.Fatalf("checksum %d, %x", index, hash)
	}
	b.m.durables[0].watermark++ // a flipped bit that nobody noticed
	b.m.durables[0].touch()
	b.want(OK, AppendChecksum(nil, index, hash))
	index++
	a.want(OK, AppendChecksum(nil, 0, 0))
	_, hash = a.m.Checksum()
	b.want(Diverged, AppendChecksum(nil, index, hash))
}
