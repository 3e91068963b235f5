package sim

import (
	"math/rand/v2"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
	"github.com/perdure/perdure/store"
)

// Mutant is a bug planted in the simulator's own wrappers around a log or a
// machine, to see whether the simulation finds it.
type Mutant string

// The bugs that can be planted.
const (
	NoMutant       Mutant = ""
	AckUnstored    Mutant = "ack-unstored"    // a write is confirmed before it is stored
	ForgetHard     Mutant = "forget-hard"     // term and vote are gone after a restart
	ApplyTwice     Mutant = "apply-twice"     // the first entry after a restart is applied twice
	DropPending    Mutant = "drop-pending"    // a snapshot lacks a pending set, and says that all is acknowledged
	DropSessions   Mutant = "drop-sessions"   // a snapshot lacks the publisher sessions
	MapOrder       Mutant = "map-order"       // commands of an entry are applied in the order of a map
	KeepSuffix     Mutant = "keep-suffix"     // what an overwritten log had behind it is back after a restart
	CollectPending Mutant = "collect-pending" // entries go although a message in them is pending
	LocalClock     Mutant = "local-clock"     // applying uses the replica's own clock
	CompactFar     Mutant = "compact-far"     // a checkpoint without the state that it says it has
	ConfirmEarly   Mutant = "confirm-early"   // a settlement is confirmed before it is applied
	SecondSession  Mutant = "second-session"  // a publisher sends what may be stored again under a new session
	LoseRelease    Mutant = "lose-release"    // a message that was given back is forgotten
	RejoinOld      Mutant = "rejoin-old"      // who may have forgotten comes back as if nothing had happened
	UnknownRefused Mutant = "unknown-refused" // an unknown outcome is told as a refusal
	DeafQuiet      Mutant = "deaf-quiet"      // nobody tells a quiet replica that a server is gone or silent
	EchoHears      Mutant = "echo-hears"      // an answer counts as a sign that the other's own flow carries
)

// Mutants lists all bugs that can be planted.
func Mutants() []Mutant {
	return []Mutant{
		AckUnstored, ForgetHard, ApplyTwice, DropPending, DropSessions, MapOrder, KeepSuffix, CollectPending, LocalClock,
		CompactFar, ConfirmEarly, SecondSession, LoseRelease, RejoinOld, UnknownRefused, DeafQuiet, EchoHears,
	}
}

// mutate spoils a write.
func (l *diskLog) mutate(w cluster.Write, done func(bool)) (cluster.Write, func(bool)) {
	switch l.n.w.opts.Mutant {
	case AckUnstored:
		done(true)
		return w, nil
	case ForgetHard:
		// As good as forgotten: it was never there.
		if h := w.HardState; !raft.IsEmptyHardState(h) {
			w.HardState = &pb.HardState{Term: new(uint64(0)), Vote: new(uint64(0)), Commit: h.Commit}
		}
	case KeepSuffix:
		l.keepSuffix(w)
	}
	return w, done
}

// keepSuffix remembers what an overwrite removes, as a log that never deletes.
func (l *diskLog) keepSuffix(w cluster.Write) {
	if len(w.Entries) == 0 {
		return
	}
	end := w.Entries[len(w.Entries)-1].GetIndex() + 1
	last, _ := l.LastIndex() // a MemLog has no error here
	if w.Install != nil || end > last {
		return
	}
	removed, _ := l.Entries(end, last+1, 1<<40)
	older := slices.DeleteFunc(l.n.suffix, func(e *pb.Entry) bool { return e.GetIndex() <= last })
	l.n.suffix = append(slices.Clone(removed), older...)
}

// revive puts back, at a restart, what overwrites had removed and nothing has
// replaced since.
func (n *node) revive() {
	last, _ := n.mem.LastIndex() // a MemLog has no error here
	back := slices.DeleteFunc(n.suffix, func(e *pb.Entry) bool { return e.GetIndex() <= last })
	n.suffix = nil
	if len(back) == 0 || back[0].GetIndex() != last+1 {
		return
	}
	term, _ := n.mem.Term(last)
	var entries []*pb.Entry
	for _, e := range back {
		entries = append(entries, &pb.Entry{Index: e.Index, Term: new(max(term, e.GetTerm())), Type: e.Type, Data: e.Data})
	}
	n.mem.Append(cluster.Write{Entries: entries}, nil)
	n.mem.Flush()
}

// rejoin lets a replica that may have forgotten start again.
func (n *node) rejoin() {
	n.fenced = false
	if n.w.setup.mode == clustertest.Memory {
		var ids []uint64
		for _, o := range n.w.nodes {
			ids = append(ids, o.id)
		}
		n.mem = clustertest.NewMemLog(clustertest.Memory, n.id, ids)
	}
}

// mutateCheckpoint spoils a checkpoint.
func (l *diskLog) mutateCheckpoint(c cluster.Checkpoint) cluster.Checkpoint {
	switch l.n.w.opts.Mutant {
	case CollectPending:
		c.Dead = []cluster.Range{{Lo: 1, Hi: c.First}}
	case CompactFar:
		if l.n.w.chance(0.1) && len(c.Pages) > 1 {
			c.Pages = c.Pages[:len(c.Pages)-1]
		}
	}
	return c
}

// The kinds of pages, as package store writes them.
const (
	pagePending = 4
	pageSession = 7
)

// lost reports whether a page gets lost on its way in a snapshot.
func (w *world) lost(key []byte) bool {
	switch w.opts.Mutant {
	case DropPending:
		return key[0] == pagePending
	case DropSessions:
		return key[0] == pageSession
	default:
		return false
	}
}

// apply applies an entry, with the bug that was planted.
func (m *machine) apply(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	fresh := m.fresh
	m.fresh = m.fresh && len(e.Commands) == 0
	switch m.n.w.opts.Mutant {
	case ApplyTwice:
		if fresh && m.restarted && len(e.Commands) > 0 {
			return m.applyTwice(e, out)
		}
	case MapOrder:
		if len(e.Commands) > 1 {
			return m.applyMixed(e, out)
		}
	case LocalClock:
		e.Stamp = max(e.Stamp, m.n.now().Wall)
	}
	return m.Service.Apply(e, out)
}

func (m *machine) applyTwice(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	n := len(e.Commands)
	e.Commands = append(append([][]byte{}, e.Commands...), e.Commands...)
	e.Offsets = append(append([]uint32{}, e.Offsets...), e.Offsets...)
	from := len(out)
	out, err := m.Service.Apply(e, out)
	if err != nil {
		return out, err
	}
	return out[:from+n], nil
}

// applyMixed applies the commands of an entry in an order of the replica's own.
func (m *machine) applyMixed(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	order := rand.New(rand.NewPCG(e.Index, m.n.id)).Perm(len(e.Commands))
	mixed := e
	mixed.Commands, mixed.Offsets = nil, nil
	for _, i := range order {
		mixed.Commands = append(mixed.Commands, e.Commands[i])
		mixed.Offsets = append(mixed.Offsets, e.Offsets[i])
	}
	results, err := m.Service.Apply(mixed, nil)
	if err != nil {
		return out, err
	}
	from := len(out)
	out = append(out, results...)
	for k, i := range order {
		out[from+i] = results[k]
	}
	return out, nil
}
