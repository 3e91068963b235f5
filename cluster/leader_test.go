package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// plainLog is Raft's own storage in memory; nothing is checkpointed.
type plainLog struct {
	*raft.MemoryStorage
	voters []uint64
}

func (l plainLog) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hs, _, err := l.MemoryStorage.InitialState()
	return hs, &pb.ConfState{Voters: l.voters}, err
}

func (l plainLog) Append(w Write, done func(here bool)) (waits bool) {
	if w.HardState != nil {
		if err := l.SetHardState(w.HardState); err != nil {
			panic(err)
		}
	}
	if err := l.MemoryStorage.Append(w.Entries); err != nil {
		panic(err)
	}
	done(true)
	return false
}

func (l plainLog) Work() bool { return false }

func (l plainLog) Checkpoint(Checkpoint) error                   { return nil }
func (l plainLog) Pages(func(k, v []byte) error) (uint64, error) { return 0, nil }
func (l plainLog) Command(uint64) ([]byte, error)                { return nil, errors.New("none is kept") }
func (l plainLog) Capture() (Capture, error)                     { return nil, errors.New("no snapshots") }
func (l plainLog) Receive(*pb.SnapshotMetadata) (Receiver, error) {
	return nil, errors.New("no snapshots")
}

// blank is a machine without state.
type blank struct{ led int }

func (m *blank) Apply(e Entry, out []string) ([]string, error) {
	for range e.Commands {
		out = append(out, "ok")
	}
	return out, nil
}
func (m *blank) Changed(func(k, v []byte))                   { /* there is no state */ }
func (m *blank) Dead(func(uint64))                           { /* as above */ }
func (m *blank) Live(Range, func(uint64))                    { /* as above */ }
func (m *blank) Reset()                                      { /* as above */ }
func (m *blank) LoadPage(k, v []byte) error                  { return nil }
func (m *blank) Loaded(uint64) error                         { return nil }
func (m *blank) Hash() uint64                                { return 0 }
func (m *blank) Lead(uint64, Now)                            { m.led++ }
func (m *blank) Unlead()                                     { /* it holds nothing */ }
func (m *blank) Commands(d [][]byte, _ bool, _ Now) [][]byte { return d }
func (m *blank) Deadline() int64                             { return 0 }
func (m *blank) Settled(bool, Now)                           { /* nobody waits */ }

// puppet is replica 1 with followers that the test plays.
type puppet struct {
	*Replica[string]
	t   *testing.T
	log plainLog
	now Now
	eff Effects
	out []*pb.Message // that left
}

func newPuppet(t *testing.T, voters ...uint64) *puppet {
	p := &puppet{t: t, now: Now{Mono: 1, Wall: 1}, log: plainLog{raft.NewMemoryStorage(), voters}}
	m := &blank{}
	var err error
	p.Replica, err = NewReplica(Options{
		Group: 7, ID: 1, Tick: 50 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10, Beat: Beat,
	}, p.log, m, m, p.now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// advance lets time pass and carries out everything but writes.
func (p *puppet) advance(d time.Duration) {
	p.now.Mono += int64(d)
	p.now.Wall += int64(d)
	if err := p.Advance(p.now, &p.eff); err != nil {
		p.t.Fatal(err)
	}
	p.out = append(p.out, p.eff.Messages...)
	p.eff.Messages = nil
}

// store carries out the writes, and what comes of them.
func (p *puppet) store() {
	for len(p.eff.Writes) > 0 {
		writes := p.eff.Writes
		p.eff.Writes = nil
		for _, w := range writes {
			p.log.Append(w.Write, func(bool) {
				if err := p.Stored(w, &p.eff); err != nil {
					p.t.Fatal(err)
				}
			})
		}
		p.advance(0)
	}
}

// answer gives the followers' consent to everything that left.
func (p *puppet) answer() {
	out := p.out
	p.out = nil
	for _, m := range out {
		reply := &pb.Message{From: m.To, To: m.From, Term: m.Term}
		switch m.GetType() {
		case pb.MsgPreVote:
			reply.Type = pb.MsgPreVoteResp.Enum()
		case pb.MsgVote:
			reply.Type = pb.MsgVoteResp.Enum()
		case pb.MsgApp:
			reply.Type = pb.MsgAppResp.Enum()
			reply.Index = new(m.GetIndex() + uint64(len(m.GetEntries())))
		default:
			continue
		}
		p.Step(p.now, reply)
	}
}

// lead makes it the leader, with nothing on its way.
func (p *puppet) lead() {
	p.advance(time.Second)
	for range 40 {
		if p.led {
			break
		}
		if p.role == raft.StateFollower {
			_ = p.rn.Campaign() // refused while it leads
		}
		p.store()
		p.answer()
		p.advance(10 * time.Millisecond)
	}
	if !p.led {
		p.t.Fatal("does not lead")
	}
	p.answer()
	p.advance(10 * time.Millisecond)
	p.out = nil
}

// appended says how many entries left for a replica.
func (p *puppet) appended(to uint64) (n int) {
	for _, m := range p.out {
		if m.GetTo() == to {
			n += len(m.GetEntries())
		}
	}
	return n
}

func TestAllThatIsSealedLeavesAtOnce(t *testing.T) {
	for name, sizes := range map[string][]int{
		"more than a message takes": slices.Repeat([]int{60 << 10}, 20),
		"a large one behind":        {1 << 10, 300 << 10},
		"a large one before":        {300 << 10, 1 << 10},
		"one that fills a message":  {1, maxMessage - entryOverhead - entryHeaderSize - commandHeader, 1},
	} {
		p := newPuppet(t, 1, 2, 3)
		p.lead()
		entries := 0
		for _, n := range sizes {
			p.Propose(Proposal[string]{Command: make([]byte, n)})
		}
		p.advance(0)
		for _, s := range p.sealed.all() {
			entries++
			_ = s
		}
		for _, e := range p.held.offered {
			if e.Data != nil {
				t.Errorf("%s: %d bytes are held on to after Raft has taken them", name, len(e.Data))
			}
		}
		for id := uint64(2); id <= 3; id++ {
			if got := p.appended(id); got != entries || p.inEntries != len(sizes) {
				t.Errorf("%s: %d of %d entries left for replica %d, with %d of %d proposals in them", name, got, entries, id, p.inEntries, len(sizes))
			}
		}
	}
}

func TestAFollowerKeepsNoNews(t *testing.T) {
	p := newPuppet(t, 1, 2, 3)
	p.lead()
	p.Propose(Proposal[string]{Command: []byte("x")})
	p.advance(0)
	p.store()
	p.answer() // commits
	// Somebody has won a later term meanwhile.
	p.Step(p.now, &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(p.term + 1)})
	p.advance(0)
	if p.role == raft.StateLeader {
		t.Fatal("it still leads")
	}
	if len(p.news.kept) > 0 || p.news.due != 0 {
		t.Errorf("it keeps %d appends of the term in which it led", len(p.news.kept))
	}
}

func TestARemovedLeaderTellsThatItIsRemoved(t *testing.T) {
	p := newPuppet(t, 1, 2, 3)
	p.lead()
	change := &pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{{Type: pb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))}}}
	if err := p.rn.ProposeConfChange(change); err != nil {
		t.Fatal(err)
	}
	p.advance(0)
	p.store()
	p.answer()
	p.advance(0)
	if p.role == raft.StateLeader || slices.Contains(p.confState.GetVoters(), 1) {
		t.Fatalf("role %v, voters %v", p.role, p.confState.GetVoters())
	}
	told := 0
	for _, m := range p.out {
		if m.GetType() == pb.MsgApp && m.GetCommit() == p.applied {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d followers are told that the removal is committed, want 2", told)
	}
}

// A panic while an entry is answered must not make the rest of it look as if it
// had not happened.
func TestAPanicInDoneLeavesTheOutcomeUnknown(t *testing.T) {
	p := newPuppet(t, 1)
	p.advance(time.Second)
	p.store()
	got := map[string]error{}
	for _, entry := range []string{"a", "b"} {
		for i := range 3 {
			name := fmt.Sprint(entry, i)
			p.Propose(Proposal[string]{Command: []byte(name), Done: func(_ string, err error) {
				if name == "a0" && err == nil {
					panic("planted")
				}
				got[name] = err
			}})
		}
		p.advance(0)
	}
	func() {
		defer func() { _ = recover() }()
		p.store()
	}()
	p.Stop()
	if len(got) != 5 {
		t.Errorf("%d of 5 were answered", len(got))
	}
	for name, err := range got {
		if !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: %v, but Raft has it in its log", name, err)
		}
	}
}

// outcome is what a proposal was told.
type outcome struct {
	told bool
	err  error
}

// Transfers of leadership, lost and regained leadership, large commands: every
// proposal is told once, in order, and that nothing happened only if it is not
// in the log.
func TestAnswersAreTrueWhileLeadershipMoves(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := newPuppet(t, 1, 2, 3)
		p.lead()
		var all []*outcome
		last := -1
		for range 150 {
			switch rng.IntN(8) {
			case 0, 1, 2, 3:
				for range rng.IntN(30) {
					all = append(all, proposeNumbered(t, p, rng, len(all), &last))
				}
			case 4:
				p.Transfer(2 + rng.Uint64N(2))
			case 5:
				for range 11 {
					p.Tick(p.now)
				}
			case 6:
				p.answer()
			case 7:
				if rng.IntN(10) == 0 {
					p.Step(p.now, &pb.Message{Type: pb.MsgAppResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(p.term + 1)})
				}
			}
			p.advance(time.Millisecond)
			if rng.IntN(2) == 0 {
				p.store()
			}
			checkCounts(t, p)
			if p.role != raft.StateLeader {
				p.lead()
			}
		}
		p.store()
		p.Stop()
		checkOutcomes(t, p, all)
	}
}

func proposeNumbered(t *testing.T, p *puppet, rng *rand.Rand, n int, last *int) *outcome {
	size := rng.IntN(9000)
	if rng.IntN(40) == 0 {
		size = 1 << 20
	}
	o := &outcome{}
	p.Propose(Proposal[string]{
		Command: binary.LittleEndian.AppendUint32(nil, uint32(n)), Body: make([]byte, size),
		Done: func(_ string, err error) {
			if o.told {
				t.Fatalf("proposal %d is told twice", n)
			}
			*o = outcome{true, err}
			if err == nil && n <= *last {
				t.Fatalf("proposal %d is told after %d", n, *last)
			} else if err == nil {
				*last = n
			}
		},
	})
	return o
}

// checkCounts compares what is in entries with the queue.
func checkCounts(t *testing.T, p *puppet) {
	t.Helper()
	n := 0
	for _, s := range p.sealed.all() {
		n += s.proposals
	}
	bytes := 0
	for _, s := range p.held.entries {
		n += s.proposals
		bytes += s.bytes
	}
	if n != p.inEntries || p.queue.len() < n || bytes != p.held.bytes {
		t.Fatalf("%d proposals in entries, counted %d, of %d; %d bytes held, counted %d", n, p.inEntries, p.queue.len(), bytes, p.held.bytes)
	}
}

func checkOutcomes(t *testing.T, p *puppet, all []*outcome) {
	t.Helper()
	end, err := p.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := p.log.Entries(1, end+1, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	in := map[uint32]bool{}
	var o opened
	for _, e := range entries {
		if len(e.GetData()) == 0 {
			continue
		}
		if err := o.open(e.GetData()); err != nil {
			t.Fatal(err)
		}
		for _, c := range o.commands {
			n := binary.LittleEndian.Uint32(c)
			if in[n] {
				t.Fatalf("proposal %d is in the log twice", n)
			}
			in[n] = true
		}
	}
	for n, o := range all {
		switch known := errors.Is(o.err, ErrNotLeader); {
		case !o.told:
			t.Fatalf("proposal %d is never told", n)
		case o.err == nil && !in[uint32(n)]:
			t.Fatalf("proposal %d is confirmed and not in the log", n)
		case known && in[uint32(n)]:
			t.Fatalf("proposal %d is in the log, and told %v", n, o.err)
		}
	}
}
