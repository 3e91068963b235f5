package clustertest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// Voters are those of a Subject's copy.
var Voters = []uint64{1, 2, 3}

// Subject is one new copy under test.
type Subject interface {
	Log() cluster.Log
	// Settle returns when every done that is owed has run.
	Settle()
	// Reopen stops cleanly, starts again and returns the log; nil if the mode
	// forgets.
	Reopen() cluster.Log
}

// TestLog is what every cluster.Log must pass. open makes a new copy with Voters.
func TestLog(t *testing.T, open func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"New", testNew},
		{"Order", testOrder},
		{"HardState", testHardState},
		{"Refused", testRefused},
		{"Sizes", testSizes},
		{"Long", testLong},
		{"Edges", testEdges},
		{"Capture", testCapture},
		{"Receive", testReceive},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("Random/%d", seed), func(t *testing.T) { testRandom(t, open(t), seed, false) })
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("Sealed/%d", seed), func(t *testing.T) { testRandom(t, open(t), seed, true) })
	}
}

func entries(term, from uint64, data ...string) []*pb.Entry {
	var es []*pb.Entry
	for i, d := range data {
		es = append(es, &pb.Entry{Index: new(from + uint64(i)), Term: new(term), Type: pb.EntryType_EntryNormal.Enum(), Data: []byte(d)})
	}
	return es
}

func hard(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}

// must appends to log and model and waits.
func must(t *testing.T, s Subject, m *Model, w cluster.Write) {
	t.Helper()
	ran := false
	s.Log().Append(w, func(bool) { ran = true })
	s.Settle()
	if !ran {
		t.Fatal("done has not run")
	}
	m.Append(w)
	same(t, s.Log(), m)
}

func same(t *testing.T, l cluster.Log, m *Model) {
	t.Helper()
	if err := m.Compare(l, false); err != nil {
		t.Fatal(err)
	}
}

func mustCheckpoint(t *testing.T, s Subject, m *Model, c cluster.Checkpoint) {
	t.Helper()
	if err := s.Log().Checkpoint(c); err != nil {
		t.Fatal(err)
	}
	s.Settle()
	m.Checkpoint(c)
	same(t, s.Log(), m)
}

// reopened compares what a clean stop leaves.
func reopened(t *testing.T, s Subject, m *Model) {
	t.Helper()
	if l := s.Reopen(); l != nil {
		same(t, l, m)
	}
}

func testNew(t *testing.T, s Subject) {
	m := NewModel(Voters)
	same(t, s.Log(), m)
	reopened(t, s, m)
}

func testOrder(t *testing.T, s Subject) {
	m := NewModel(Voters)
	var order []int
	for n := range 50 {
		w := cluster.Write{Entries: entries(1, uint64(n+1), fmt.Sprint("entry ", n))}
		if n%7 == 0 {
			w = cluster.Write{HardState: hard(1, 0, uint64(n/12))}
		}
		if n%7 == 0 || n%7 == 1 {
			w.Entries = nil
		} else {
			w.Entries[0].Index = new(m.Last + 1)
		}
		m.Append(w)
		s.Log().Append(w, func(bool) { order = append(order, n) })
	}
	s.Settle()
	if len(order) != 50 || !slices.IsSorted(order) {
		t.Fatalf("dones ran in the order %v", order)
	}
	same(t, s.Log(), m)
	// An overwrite removes everything behind it, also after a restart.
	must(t, s, m, cluster.Write{Entries: entries(2, 5, "five", "six")})
	reopened(t, s, m)
}

func testHardState(t *testing.T, s Subject) {
	m := NewModel(Voters)
	must(t, s, m, cluster.Write{HardState: hard(3, 0, 0)})
	must(t, s, m, cluster.Write{HardState: hard(3, 2, 0), Entries: entries(3, 1, "a", "b")})
	must(t, s, m, cluster.Write{HardState: &pb.HardState{}})
	must(t, s, m, cluster.Write{})
	must(t, s, m, cluster.Write{HardState: hard(3, 2, 2)})
	reopened(t, s, m)
}

func testRefused(t *testing.T, s Subject) {
	m := NewModel(Voters)
	must(t, s, m, cluster.Write{HardState: hard(5, 2, 0), Entries: entries(5, 1, "a", "b", "c", "d")})
	mustCheckpoint(t, s, m, cluster.Checkpoint{Applied: 3, First: 3})
	must(t, s, m, cluster.Write{HardState: hard(5, 2, 4)})
	for name, w := range map[string]cluster.Write{
		"term falls":            {HardState: hard(4, 2, 0)},
		"vote changes":          {HardState: hard(5, 3, 0)},
		"vote vanishes":         {HardState: hard(5, 0, 1)},
		"gap":                   {Entries: entries(5, 6, "x")},
		"committed overwritten": {HardState: hard(6, 1, 4), Entries: entries(6, 4, "x")},
		"applied overwritten":   {Entries: entries(6, 3, "x")},
		"term in entries falls": {Entries: entries(4, 5, "x")},
		"hole in entries":       {Entries: append(entries(5, 5, "x"), entries(5, 7, "y")...)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			s.Log().Append(w, func(bool) { t.Errorf("%s: done", name) })
		}()
		s.Settle()
	}
	for name, c := range map[string]cluster.Checkpoint{
		"applied falls":     {Applied: 2, First: 3},
		"first falls":       {Applied: 3, First: 2},
		"applied unknown":   {Applied: 5, First: 3},
		"first too high":    {Applied: 3, First: 5},
		"dead behind first": {Applied: 4, First: 3, Dead: []cluster.Range{{Lo: 2, Hi: 4}}},
	} {
		if s.Log().Checkpoint(c) == nil {
			t.Errorf("checkpoint: %s: accepted", name)
		}
	}
	same(t, s.Log(), m)
	reopened(t, s, m)
}

func testSizes(t *testing.T, s Subject) {
	m := NewModel(Voters)
	big := string(make([]byte, 1000))
	must(t, s, m, cluster.Write{Entries: entries(1, 1, big, big, big, big, big)})
	l := s.Log()
	for range 2 {
		for _, test := range []struct {
			max  uint64
			want int
		}{{0, 1}, {1, 1}, {1500, 1}, {2500, 2}, {1 << 60, 4}} {
			got, err := l.Entries(1, 5, test.max)
			if err != nil || len(got) != test.want {
				t.Errorf("at most %d bytes: %d entries (%v), want %d", test.max, len(got), err, test.want)
			}
		}
		got, err := l.Entries(2, 3, 1<<60)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		// The slice is the caller's.
		_ = append(got, entries(9, 3, "not in the log")...)
		got[0] = nil
		same(t, l, m)
		if l = s.Reopen(); l == nil {
			return
		}
	}
}

// testLong reads many entries at once.
func testLong(t *testing.T, s Subject) {
	m := NewModel(Voters)
	w := cluster.Write{Entries: entries(1, 1, make([]string, 1500)...)}
	for i, e := range w.Entries {
		e.Data = fmt.Append(nil, "entry ", i)
	}
	must(t, s, m, w)
	for range 2 {
		got, err := s.Log().Entries(1, 1501, 10_000)
		if err != nil || len(got) < 300 || len(got) > 900 {
			t.Errorf("10,000 bytes are %d entries (%v)", len(got), err)
		}
		if s.Reopen() == nil {
			return
		}
		same(t, s.Log(), m)
	}
}

func testEdges(t *testing.T, s Subject) {
	m := NewModel(Voters)
	must(t, s, m, cluster.Write{HardState: hard(1, 1, 0), Entries: entries(1, 1, "1", "2", "3", "", "5")})
	must(t, s, m, cluster.Write{HardState: hard(2, 1, 5), Entries: entries(2, 6, "6", "7", "8")})
	mustCheckpoint(t, s, m, cluster.Checkpoint{
		Applied: 6, First: 7, ConfState: &pb.ConfState{Voters: []uint64{1, 2, 4}},
		Pages: []cluster.Page{{Key: []byte("b"), Value: []byte("2")}, {Key: []byte("a"), Value: []byte{}}},
		Dead:  []cluster.Range{{Lo: 2, Hi: 4}},
	})
	for _, i := range []uint64{1, 6} {
		if _, err := s.Log().Entries(i, 8, 1<<60); !errors.Is(err, raft.ErrCompacted) {
			t.Errorf("entries from %d: %v", i, err)
		}
	}
	if _, err := s.Log().Entries(7, 10, 1<<60); !errors.Is(err, raft.ErrUnavailable) {
		t.Errorf("entries behind the last: %v", err)
	}
	if _, err := s.Log().Command(9); !errors.Is(err, raft.ErrUnavailable) {
		t.Errorf("command behind the last: %v", err)
	}
	reopened(t, s, m)
	mustCheckpoint(t, s, m, cluster.Checkpoint{
		Applied: 8, First: 9,
		Pages: []cluster.Page{{Key: []byte("b")}, {Key: []byte("c"), Value: []byte("3")}},
		Dead:  []cluster.Range{{Lo: 1, Hi: 2}, {Lo: 4, Hi: 9}},
	})
	reopened(t, s, m)
	must(t, s, m, cluster.Write{Entries: entries(2, 9, "9")})
	reopened(t, s, m)
}

func testCapture(t *testing.T, s Subject) {
	m := NewModel(Voters)
	must(t, s, m, cluster.Write{Entries: entries(1, 1, "1", "2", "3", "4")})
	mustCheckpoint(t, s, m, cluster.Checkpoint{Applied: 3, First: 2, Pages: []cluster.Page{{Key: []byte("k"), Value: []byte("old")}}})
	c, err := s.Log().Capture()
	if err != nil {
		t.Fatal(err)
	}
	then := m.Clone()
	mustCheckpoint(t, s, m, cluster.Checkpoint{
		Applied: 4, First: 5, Dead: []cluster.Range{{Lo: 1, Hi: 5}},
		Pages: []cluster.Page{{Key: []byte("k")}, {Key: []byte("l"), Value: []byte("new")}},
	})
	must(t, s, m, cluster.Write{Entries: entries(1, 5, "5")})
	for range 2 {
		if err := then.CompareCapture(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Entries([]cluster.Range{{Lo: 0, Hi: 2}}, func(uint64, []byte) error { return nil }); err == nil {
		t.Error("a capture yields an entry that was never there")
	}
	mine := errors.New("mine")
	if err := c.Pages(func(_, _ []byte) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error of yield: %v", err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	same(t, s.Log(), m)
}

func testReceive(t *testing.T, s Subject) {
	m := NewModel(Voters)
	must(t, s, m, cluster.Write{HardState: hard(2, 1, 0), Entries: entries(2, 1, "1", "2", "3")})
	mustCheckpoint(t, s, m, cluster.Checkpoint{Applied: 2, First: 2, Pages: []cluster.Page{{Key: []byte("old"), Value: []byte("page")}}})
	meta := &pb.SnapshotMetadata{Index: new(uint64(9)), Term: new(uint64(3)), ConfState: &pb.ConfState{Voters: []uint64{7, 8}}}
	discarded, err := s.Log().Receive(meta)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Log().Receive(meta)
	if err != nil {
		t.Fatal(err)
	}
	if r.Meta().GetIndex() != 9 {
		t.Errorf("meta is %v", r.Meta())
	}
	if err := errors.Join(discarded.Abort(), r.Page([]byte("new"), []byte("page")), r.Entry(4, []byte("4")), r.Entry(9, nil)); err != nil {
		t.Fatal(err)
	}
	if r.Entry(10, []byte("x")) == nil {
		t.Error("an entry behind the snapshot is accepted")
	}
	// Nothing of it is visible yet, and the old copy goes on.
	same(t, s.Log(), m)
	must(t, s, m, cluster.Write{Entries: entries(2, 4, "four")})
	pinned, err := s.Log().Capture()
	if err != nil {
		t.Fatal(err)
	}
	then := m.Clone()

	m = NewModel([]uint64{7, 8})
	m.Term, m.Vote = 2, 1
	m.Applied, m.First, m.Last, m.TermBefore, m.Commit = 9, 10, 9, 3, 9
	m.Pages["new"] = "page"
	m.Entries = map[uint64]ModelEntry{4: {Data: "4"}, 9: {}}
	must(t, s, m, cluster.Write{Install: r, HardState: hard(3, 0, 9), Entries: entries(3, 10, "10")})
	if err := errors.Join(r.Abort(), then.CompareCapture(pinned), pinned.Close()); err != nil {
		t.Fatal(err)
	}
	same(t, s.Log(), m)
	reopened(t, s, m)
}

func testRandom(t *testing.T, s Subject, seed uint64, sealed bool) {
	d := NewDriver(seed, Voters)
	d.Sealed = sealed
	type pin struct {
		capture cluster.Capture
		model   *Model
	}
	var pins []pin
	unpin := func() {
		for _, p := range pins {
			if err := errors.Join(p.model.CompareCapture(p.capture), p.capture.Close()); err != nil {
				t.Fatal(err)
			}
		}
		pins = nil
	}
	for n := range 120 {
		ran := false
		did, err := d.Step(s.Log(), func() { ran = true })
		if err != nil {
			t.Fatalf("seed %d step %d, %s: %v", seed, n, did.What, err)
		}
		if d.rng.IntN(4) > 0 {
			continue // let several be outstanding
		}
		s.Settle()
		if did.Appended && !ran {
			t.Fatalf("seed %d step %d, %s: done has not run", seed, n, did.What)
		}
		if err := d.Model.Compare(s.Log(), false); err != nil {
			t.Fatalf("seed %d step %d, %s: %v", seed, n, did.What, err)
		}
		switch d.rng.IntN(10) {
		case 0:
			unpin()
			if l := s.Reopen(); l != nil {
				same(t, l, d.Model)
			}
		case 1, 2:
			c, err := s.Log().Capture()
			if err != nil {
				t.Fatal(err)
			}
			pins = append(pins, pin{c, d.Model.Clone()})
		case 3:
			unpin()
		}
	}
	unpin()
	s.Settle()
	same(t, s.Log(), d.Model)
	reopened(t, s, d.Model)
}
