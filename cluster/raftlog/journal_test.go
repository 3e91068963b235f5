package raftlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// journalRig is an engine with a group that keeps a little for long, and one that
// streams.
type journalRig struct {
	t      *testing.T
	opts   Options
	engine *Engine
	quiet  *Log
	stream *Log
	at     uint64
}

func newJournalRig(t *testing.T, mode Mode) *journalRig {
	r := &journalRig{t: t, opts: testOptions(t, mode, vfs.NewMem())}
	r.opts.SegmentBytes = 16 << 10
	r.open()
	for group := uint64(7); group <= 8; group++ {
		if _, err := r.engine.Create(group, Copy{ReplicaID: 1, Voters: clustertest.Voters}); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	t.Cleanup(func() {
		if err := r.engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *journalRig) open() {
	r.t.Helper()
	e, err := Open(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.engine = e
}

func (r *journalRig) reopen() {
	r.t.Helper()
	if err := r.engine.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
	for group, l := range map[uint64]**Log{7: &r.quiet, 8: &r.stream} {
		log, err := r.engine.Open(group)
		if err != nil || log.MayHaveForgotten() != nil {
			r.t.Fatal(group, err, log.MayHaveForgotten())
		}
		*l = log
	}
}

// flow streams entries that die soon, and tidies now and then.
func (r *journalRig) flow(entries int) {
	r.t.Helper()
	body := strings.Repeat("s", 1000)
	for range entries {
		r.at++
		r.stream.Append(cluster.Write{Entries: []*pb.Entry{data(r.at, 1, body)}}, func(bool) {})
		if r.at%10 != 0 {
			continue
		}
		r.stream.drain()
		c := cluster.Checkpoint{Applied: r.at, First: r.at + 1, Dead: []cluster.Range{{Lo: r.at - 9, Hi: r.at + 1}}}
		if err := r.stream.Checkpoint(c); err != nil {
			r.t.Fatal(err)
		}
		r.stream.drain()
		if err := r.engine.note(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// What a quiet group keeps does not hold on to the segments in which it was
// written: neither below its first index nor above, nor its vote.
func TestLittleThatIsKept(t *testing.T) {
	for _, mode := range []Mode{Sync, Async} {
		t.Run(mode.String(), func(t *testing.T) {
			r := newJournalRig(t, mode)
			hard := &pb.HardState{Term: new(uint64(3)), Vote: new(uint64(2)), Commit: new(uint64(0))}
			for i := uint64(1); i <= 40; i++ {
				w := cluster.Write{Entries: []*pb.Entry{data(i, 3, fmt.Sprint("kept ", i))}}
				if i == 1 {
					w.HardState = hard
				}
				r.quiet.Append(w, func(bool) {})
				r.flow(7) // so that they lie far apart
			}
			r.quiet.drain()
			if err := r.quiet.Checkpoint(cluster.Checkpoint{Applied: 30, First: 21, Dead: []cluster.Range{{Lo: 5, Hi: 9}}}); err != nil {
				t.Fatal(err)
			}
			r.flow(600)
			j := r.engine.journal
			if st := j.journal.Stats(); st.Segments > 16 {
				t.Errorf("%d segments are held", st.Segments)
			}
			full := j.journal.Full()
			if from, _ := slices.BinarySearch(full, j.floor); j.floor == 0 || len(full)-from > usual.behind+2 {
				t.Errorf("an opening begins with segment %d of %v", j.floor, full)
			}
			for range 2 {
				for i := uint64(1); i <= 40; i++ {
					got, err := r.quiet.Command(i)
					if dead := i >= 5 && i < 9; dead != (err == cluster.ErrCollected) || !dead && string(got) != fmt.Sprint("kept ", i) {
						t.Errorf("entry %d: %q, %v", i, got, err)
					}
				}
				h, _, err := r.quiet.InitialState()
				if err != nil || h.GetTerm() != 3 || h.GetVote() != 2 {
					t.Errorf("%v %v", h, err)
				}
				r.reopen()
			}
		})
	}
}

// A vote that was kept when its segment was released stays, though an older one
// lies in a segment that is still needed.
func TestNewerVoteIsKept(t *testing.T) {
	r := newJournalRig(t, Sync)
	vote := func(term, vote uint64, entries ...*pb.Entry) {
		h := &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(uint64(0))}
		r.quiet.Append(cluster.Write{HardState: h, Entries: entries}, func(bool) {})
		r.quiet.drain()
	}
	vote(3, 1, data(1, 3, "this segment stays"))
	r.flow(50)
	vote(4, 2)
	r.flow(50)
	for n := range 4 {
		r.reopen()
		r.flow(10) // which tidies
		if h, _, err := r.quiet.InitialState(); err != nil || h.GetTerm() != 4 || h.GetVote() != 2 {
			t.Fatalf("opening %d: %v %v", n, h, err)
		}
	}
}

// What an entry had overwritten does not come back when the entry was moved and
// its first record is gone.
func TestMovedEntryOverwrites(t *testing.T) {
	r := newJournalRig(t, Sync)
	r.engine.journal.thrift.part = 1
	put := func(term uint64, from, to uint64) {
		var entries []*pb.Entry
		for i := from; i <= to; i++ {
			entries = append(entries, data(i, term, fmt.Sprint(i, " of term ", term)))
		}
		h := &pb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: new(uint64(0))}
		r.quiet.Append(cluster.Write{HardState: h, Entries: entries}, func(bool) {})
		r.quiet.drain()
	}
	put(1, 1, 9)
	r.flow(40)
	put(2, 4, 5)
	second := r.engine.journal.journal.Current()
	r.flow(40)
	put(2, 6, 6)
	if err := r.engine.journal.relocate(second, false); err != nil {
		t.Fatal(err)
	}
	r.flow(40)
	if full := r.engine.journal.journal.Full(); slices.Contains(full, second) {
		t.Fatalf("segment %d was not released: %v", second, full)
	}
	for range 2 {
		r.reopen()
		last, err := r.quiet.LastIndex()
		if err != nil || last != 6 {
			t.Fatalf("the log ends with %d (%v)", last, err)
		}
		for i := uint64(1); i <= 6; i++ {
			term := uint64(1)
			if i >= 4 {
				term = 2
			}
			if got, err := r.quiet.Command(i); err != nil || string(got) != fmt.Sprint(i, " of term ", term) {
				t.Errorf("entry %d is %q (%v)", i, got, err)
			}
		}
	}
}

// A segment is not released while a write may lie in it that is not in the account
// yet.
func TestReleaseWaitsForWrites(t *testing.T) {
	r := newJournalRig(t, Sync)
	j := r.engine.journal
	r.flow(5)
	w := &journalWrite{}
	j.where.Lock()
	j.where.flying[w] = j.journal.Current()
	j.where.Unlock()
	r.flow(100)
	held := j.journal.Stats().Segments
	j.where.Lock()
	delete(j.where.flying, w)
	j.where.Unlock()
	r.flow(10)
	if now := j.journal.Stats().Segments; held < 5 || now > 3 {
		t.Errorf("%d segments while a write was under way, %d behind it", held, now)
	}
}

// A capture stays readable where its entries were, though they die or move, and
// holds no segment that is younger, nor one in which nothing was needed when it was
// taken: whoever is always capturing does not hold all.
func TestCapturesHoldWhatTheySee(t *testing.T) {
	r := newJournalRig(t, Sync)
	j := r.engine.journal
	applied := uint64(0)
	capture := func() (cluster.Capture, cluster.Range) {
		live := cluster.Range{Lo: applied + 1, Hi: applied + 41}
		for ; applied+1 < live.Hi; applied++ {
			r.quiet.Append(cluster.Write{Entries: []*pb.Entry{data(applied+1, 3, fmt.Sprint("kept ", applied+1))}}, func(bool) {})
			r.flow(7) // so that they lie far apart
		}
		r.quiet.drain()
		p := cluster.Checkpoint{Applied: applied, First: applied - 9} // some are hot
		if live.Lo > 1 {
			p.Dead = []cluster.Range{{Lo: 1, Hi: live.Lo}}
		}
		if err := r.quiet.Checkpoint(p); err != nil {
			t.Fatal(err)
		}
		r.quiet.drain()
		c, err := r.quiet.Capture()
		if err != nil {
			t.Fatal(err)
		}
		return c, live
	}
	check := func(c cluster.Capture, live cluster.Range) {
		t.Helper()
		at := live.Lo
		err := c.Entries([]cluster.Range{live}, func(index uint64, data []byte) error {
			if index != at || string(data) != fmt.Sprint("kept ", at) {
				return fmt.Errorf("entry %d is %q, want %d", index, data, at)
			}
			at++
			return nil
		})
		if err != nil || at != live.Hi {
			t.Fatalf("read up to %d of %v: %v", at, live, err)
		}
	}
	c, live := capture()
	for n := range 8 {
		r.flow(600) // 37 segments, and what the capture sees is moved
		next, alive := capture()
		r.flow(600)
		check(c, live)
		check(next, alive)
		if st := j.journal.Stats(); st.Segments > 60 {
			t.Fatalf("round %d: %d segments are held", n, st.Segments)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c, live = next, alive
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	r.flow(600)
	if st := j.journal.Stats(); st.Segments > 16 || len(j.where.pins) != 0 {
		t.Errorf("%d segments are held, %d for captures, and nobody captures", st.Segments, len(j.where.pins))
	}
}
