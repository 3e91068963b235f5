package sim

import (
	"errors"
	"runtime/debug"
	"strings"

	"github.com/cespare/xxhash/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

var errBroken = errors.New("sim: the connection broke")

// errOver ends a run that has failed, from deep inside.
var errOver = errors.New("sim: over")

// diskLog is a node's log: a MemLog that tells the judge what is written.
type diskLog struct {
	*clustertest.MemLog
	n *node
}

func newDiskLog(n *node, mem *clustertest.MemLog) *diskLog { return &diskLog{mem, n} }

// Append implements cluster.Log.
func (l *diskLog) Append(w cluster.Write, done func(here bool)) (waits bool) {
	l.written(w)
	if l.n.w.opts.Mutant != NoMutant {
		w, done = l.mutate(w, done)
	}
	return l.MemLog.Append(w, done)
}

// written tells the judge about entries, with the term of the entry before.
func (l *diskLog) written(w cluster.Write) {
	if len(w.Entries) == 0 {
		return
	}
	before := uint64(0)
	at := w.Entries[0].GetIndex()
	switch {
	case w.Install != nil && at == w.Install.Meta().GetIndex()+1:
		before = w.Install.Meta().GetTerm()
	case at > 1:
		before, _ = l.Term(at - 1) // Append itself refuses a gap
	}
	for _, e := range w.Entries {
		l.n.w.judge.Written(l.n.id, e.GetIndex(), e.GetTerm(), contentOf(e), before)
		before = e.GetTerm()
	}
	l.n.w.note(l.n.id, "append", at, uint64(len(w.Entries)), w.Entries[0].GetTerm())
}

func contentOf(e *pb.Entry) uint64 { return xxhash.Sum64(e.GetData()) + uint64(e.GetType()) }

// Checkpoint implements cluster.Log.
func (l *diskLog) Checkpoint(c cluster.Checkpoint) error {
	l.n.w.note(l.n.id, "checkpoint", c.Applied, c.First, uint64(len(c.Dead)))
	if len(c.Dead) > 0 {
		l.n.w.seen.hit(EntriesCollected)
	}
	if l.n.w.opts.Mutant != NoMutant {
		c = l.mutateCheckpoint(c)
	}
	err := l.MemLog.Checkpoint(c)
	if err == nil {
		l.n.meets(atCheckpoint)
	}
	return err
}

// kickDisk lets the append worker run, if it has something to do. Modes without
// a queue have written already; what async has not synced only a power loss
// could tell, and that is fenced.
func (n *node) kickDisk() {
	if n.writing || n.mem.Queued()+n.mem.Unsynced() == 0 {
		return
	}
	if n.w.setup.mode == clustertest.Async {
		n.writing = true
		n.after(100*ms, func() { n.writing = false; n.mem.Sync() })
		return
	}
	n.writing = true
	n.after(n.diskTime(), func() {
		n.mem.Write(n.portion(n.mem.Queued()))
		n.after(n.diskTime(), func() {
			n.writing = false
			n.mem.SyncSome(n.portion(n.mem.Unsynced()))
			n.kickDisk()
		})
	})
}

// portion is mostly all of k.
func (n *node) portion(k int) int {
	if k > 1 && n.w.chance(0.2) {
		return 1 + n.w.rng.IntN(k)
	}
	return k
}

func (n *node) diskTime() int64 {
	d := n.w.setup.disk + n.w.draw(n.w.setup.diskJitter)
	if n.w.now < n.slowUntil {
		d += n.slow/2 + n.w.draw(n.slow)
	}
	return d
}

func stack() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	return strings.Join(lines[:min(len(lines), 60)], "\n")
}
