package clustertest

import (
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// Mode is a durability mode, as in cluster/raftlog.
type Mode uint8

// The modes of a MemLog.
const (
	// Memory: Append takes effect and runs done at once; any crash forgets all.
	Memory Mode = iota + 1
	// Async: Append is written and runs done at once; Sync makes what was written
	// survive a power loss.
	Async
	// Sync: Append is queued. Write hands queued steps to the operating system;
	// Sync makes what was written durable and runs its dones.
	Sync
)

func (m Mode) String() string {
	return [...]string{"Mode(0)", "memory", "async", "sync"}[m]
}

// MemLog is a cluster.Log in memory that knows what would survive which crash.
// It has no goroutine and no clock, and does the same in every run. It is not
// safe for use by several goroutines.
//
// Every Append and Checkpoint is one step. Steps are queued, then written (they
// survive the end of the process), then synced (they survive a power loss), in
// order. Reads see a step when it was called, whatever became of it.
type MemLog struct {
	mode   Mode
	copy   uint64
	forgot string
	dead   bool // crashed or stopped: appends are dropped

	now    *image // with all steps
	synced *image // with the synced ones

	// steps are those that are not synced; the first written of them are written.
	steps    []step
	written  int
	receiver *memReceiver
}

// step is one Append or Checkpoint.
type step struct {
	write      cluster.Write
	installed  *image // by write
	checkpoint *cluster.Checkpoint
	done       func(here bool)
}

var _ cluster.Log = (*MemLog)(nil)

// NewMemLog returns a new copy: an empty log with these voters, durable at once.
// replica only names it.
func NewMemLog(mode Mode, replica uint64, voters []uint64) *MemLog {
	i := newImage(&pb.ConfState{Voters: voters})
	return &MemLog{mode: mode, copy: replica, now: i, synced: i.clone()}
}

// MayHaveForgotten says why the copy may lack what it promised, or nil. It wraps
// cluster.ErrMayHaveForgotten.
func (l *MemLog) MayHaveForgotten() error {
	if l.forgot == "" {
		return nil
	}
	return fmt.Errorf("%w: replica %d: %s", cluster.ErrMayHaveForgotten, l.copy, l.forgot)
}

// Append implements cluster.Log. It panics on what raft never asks for.
func (l *MemLog) Append(w cluster.Write, done func(here bool)) (waits bool) {
	if l.dead {
		return false
	}
	s := step{write: w, done: done}
	if w.Install != nil {
		r, ok := w.Install.(*memReceiver)
		if !ok || r != l.receiver {
			panic("clustertest: install of a receiver that is not open")
		}
		l.receiver = nil
		s.installed = r.image
	}
	l.now.check(w, s.installed)
	l.take(s)
	return false
}

// Work implements cluster.Log: nothing ever waits for it.
func (l *MemLog) Work() bool { return false }

// Checkpoint implements cluster.Log.
func (l *MemLog) Checkpoint(c cluster.Checkpoint) error {
	if l.dead {
		return fmt.Errorf("clustertest: the log of replica %d has crashed", l.copy)
	}
	if err := l.now.checkCheckpoint(c); err != nil {
		return err
	}
	l.take(step{checkpoint: &c})
	return nil
}

// take brings a step into the present, and as far on its way as the mode does at
// once.
func (l *MemLog) take(s step) {
	l.now.apply(s)
	switch l.mode {
	case Memory:
		l.run(s.done, true)
	case Async:
		done := s.done
		s.done = nil
		l.steps = append(l.steps, s)
		l.written++
		l.run(done, true)
	case Sync:
		l.steps = append(l.steps, s)
	}
}

func (l *MemLog) run(done func(bool), here bool) {
	if done != nil {
		done(here)
	}
}

// Queued is how many steps are not written yet. Only mode sync has any.
func (l *MemLog) Queued() int { return len(l.steps) - l.written }

// Unsynced is how many steps were written and are not synced.
func (l *MemLog) Unsynced() int { return l.written }

// Write hands the n oldest queued steps to the operating system, or all if there
// are fewer. No done runs.
func (l *MemLog) Write(n int) {
	if !l.dead {
		l.written = min(l.written+n, len(l.steps))
	}
}

// Sync makes every written step durable and runs the dones that waited for it,
// in order. A done may append; what it appends is not part of this sync.
func (l *MemLog) Sync() { l.SyncSome(l.written) }

// SyncSome is Sync of the n oldest written steps only.
func (l *MemLog) SyncSome(n int) {
	if l.dead {
		return
	}
	n = min(n, l.written)
	steps := l.steps[:n:n]
	l.steps = l.steps[n:]
	l.written -= n
	for _, s := range steps {
		l.synced.apply(s)
	}
	for _, s := range steps {
		// A crash in a done ends the rest.
		if !l.dead {
			l.run(s.done, false)
		}
	}
}

// Flush writes and syncs everything queued, as one round of an append worker.
func (l *MemLog) Flush() {
	l.Write(l.Queued())
	l.Sync()
}

// Crash is how a MemLog ends.
type Crash struct {
	// Power says that the machine ended: only what was synced survives, and Keep
	// of the written steps behind it, the oldest. Otherwise the process ended:
	// all that was written survives.
	Power bool
	Keep  int
}

// Crash ends the log and returns it as the next start finds it. l takes no more;
// dones that have not run never do.
func (l *MemLog) Crash(c Crash) *MemLog {
	l.dead = true
	next := &MemLog{mode: l.mode, copy: l.copy, forgot: l.forgot}
	if l.mode == Memory {
		next.now = newImage(&pb.ConfState{})
		next.synced = newImage(&pb.ConfState{})
		next.forgot = "its memory ended with the process that held it"
		return next
	}
	keep := l.written
	if c.Power {
		keep = min(c.Keep, keep)
		if l.mode == Async && next.forgot == "" {
			next.forgot = "there was no clean stop, and the machine has restarted since"
		}
	}
	// l is dead: its image can go on as the next one's.
	next.synced = l.synced
	for _, s := range l.steps[:keep] {
		next.synced.apply(s)
	}
	// What a start finds, it syncs before it takes part.
	next.now = next.synced.clone()
	return next
}

// Stop ends the log cleanly and returns it as the next start finds it.
func (l *MemLog) Stop() *MemLog {
	l.Flush()
	return l.Crash(Crash{})
}

// InitialState implements raft.Storage.
func (l *MemLog) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return proto.CloneOf(l.now.hard), proto.CloneOf(l.now.conf), nil
}

// Entries implements raft.Storage.
func (l *MemLog) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	switch {
	case lo < l.now.first:
		return nil, raft.ErrCompacted
	case hi > l.now.last()+1:
		return nil, raft.ErrUnavailable
	}
	var entries []*pb.Entry
	size := uint64(0)
	for i := lo; i < hi; i++ {
		e := l.now.get(i)
		size += uint64(proto.Size(e))
		if size > maxSize && i > lo {
			break
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Term implements raft.Storage.
func (l *MemLog) Term(index uint64) (uint64, error) {
	switch {
	case index+1 < l.now.first:
		return 0, raft.ErrCompacted
	case index > l.now.last():
		return 0, raft.ErrUnavailable
	}
	return l.now.term(index), nil
}

// LastIndex implements raft.Storage.
func (l *MemLog) LastIndex() (uint64, error) { return l.now.last(), nil }

// FirstIndex implements raft.Storage.
func (l *MemLog) FirstIndex() (uint64, error) { return l.now.first, nil }

// Snapshot implements raft.Storage.
func (l *MemLog) Snapshot() (*pb.Snapshot, error) {
	if l.now.applied == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index:     new(l.now.applied),
		Term:      new(l.now.term(l.now.applied)),
		ConfState: proto.CloneOf(l.now.conf),
	}}, nil
}

// Command implements cluster.Log.
func (l *MemLog) Command(index uint64) ([]byte, error) {
	if index > l.now.last() {
		return nil, raft.ErrUnavailable
	}
	e := l.now.get(index)
	if e == nil {
		return nil, cluster.ErrCollected
	}
	return e.GetData(), nil
}

// Pages implements cluster.Log.
func (l *MemLog) Pages(yield func(key, value []byte) error) (uint64, error) {
	return l.now.applied, l.now.yieldPages(yield)
}

// Capture implements cluster.Log.
func (l *MemLog) Capture() (cluster.Capture, error) {
	return &memCapture{l.now.clone()}, nil
}

// Receive implements cluster.Log.
func (l *MemLog) Receive(meta *pb.SnapshotMetadata) (cluster.Receiver, error) {
	if meta.GetIndex() == 0 || meta.GetConfState() == nil {
		return nil, fmt.Errorf("clustertest: a snapshot without index or configuration")
	}
	i := newImage(proto.CloneOf(meta.GetConfState()))
	i.applied, i.first, i.termBefore = meta.GetIndex(), meta.GetIndex()+1, meta.GetTerm()
	l.receiver = &memReceiver{log: l, meta: proto.CloneOf(meta), image: i}
	return l.receiver, nil
}

// memReceiver is a generation being filled.
type memReceiver struct {
	log   *MemLog
	meta  *pb.SnapshotMetadata
	image *image
}

func (r *memReceiver) Meta() *pb.SnapshotMetadata { return r.meta }

func (r *memReceiver) Page(key, value []byte) error {
	if r.log.receiver != r {
		return fmt.Errorf("clustertest: this snapshot was discarded or installed")
	}
	r.image.setPage(string(key), append([]byte{}, value...))
	return nil
}

func (r *memReceiver) Entry(index uint64, data []byte) error {
	if r.log.receiver != r {
		return fmt.Errorf("clustertest: this snapshot was discarded or installed")
	}
	if index > r.meta.GetIndex() {
		return fmt.Errorf("clustertest: entry %d in a snapshot at %d", index, r.meta.GetIndex())
	}
	r.image.put(&pb.Entry{Index: new(index), Term: new(uint64(0)), Type: pb.EntryType_EntryNormal.Enum(), Data: data})
	return nil
}

func (r *memReceiver) Abort() error {
	if r.log.receiver == r {
		r.log.receiver = nil
	}
	return nil
}

// memCapture is an image that nobody changes.
type memCapture struct{ image *image }

func (c *memCapture) Applied() uint64 { return c.image.applied }

func (c *memCapture) Pages(yield func(key, value []byte) error) error {
	return c.image.yieldPages(yield)
}

func (c *memCapture) Entries(live []cluster.Range, yield func(index uint64, data []byte) error) error {
	for _, r := range live {
		for i := r.Lo; i < min(r.Hi, c.image.applied+1); i++ {
			e := c.image.get(i)
			if e == nil {
				return fmt.Errorf("clustertest: entry %d is pinned and not there", i)
			}
			if err := yield(i, e.GetData()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *memCapture) Close() error { return nil }
