package raftlog

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// view is what is known of a copy without reading it.
type view struct {
	generation uint32
	hard       hardState
	conf       *pb.ConfState // of applied; never changed in place
	applied    uint64
	first      uint64
	last       uint64 // at least first-1
	terms      terms  // from first-1 to last
}

func (v *view) mark() mark {
	return mark{
		generation: v.generation,
		term:       v.hard.term, vote: v.hard.vote,
		lastTerm: v.terms.last(), last: v.last,
	}
}

// Log is an engine's copy of one group. It implements cluster.Log.
//
// Its view changes when Append or Checkpoint is called, so reads see a write at
// once. In mode sync the write itself follows on the append worker: until then
// pending counts it, and a read that misses something waits for it.
type Log struct {
	engine *Engine
	group  uint64
	copy   Copy
	forgot string

	pending atomic.Int64 // changes not committed yet
	edges   atomic.Int64 // those of them that are checkpoints or installs

	mu struct {
		sync.RWMutex
		view
		hardDirty bool   // hard is not written yet
		votes     bool   // ... and not only because of its commit
		version   uint64 // rises when entries go
		cache     table  // recent entries; empty in mode memory
		receiver  *Receiver
		closed    bool
	}
	// ops are the changes that wait for the append worker; queue.mu guards them.
	ops []*change
}

func newLog(e *Engine, group uint64, c Copy, v view) *Log {
	l := &Log{engine: e, group: group, copy: c}
	l.mu.view = v
	e.cache.enter(l)
	return l
}

// Group returns the id of the group.
func (l *Log) Group() uint64 { return l.group }

// Copy returns whose copy this is.
func (l *Log) Copy() Copy { return l.copy }

// MayHaveForgotten returns an error that wraps cluster.ErrMayHaveForgotten and
// says why, if the copy may lack something that was promised. It must then not
// take part under its replica id; Engine.Create begins a new copy.
func (l *Log) MayHaveForgotten() error {
	if l.forgot == "" {
		return nil
	}
	return fmt.Errorf("%w: group %d replica %d: %s", cluster.ErrMayHaveForgotten, l.group, l.copy.ReplicaID, l.forgot)
}

// InitialState implements raft.Storage: the hard state as last given, and the
// configuration of the last checkpoint.
func (l *Log) InitialState() (*pb.HardState, *pb.ConfState, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.hard.proto(), proto.CloneOf(l.mu.conf), nil
}

// Term implements raft.Storage.
func (l *Log) Term(index uint64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case index+1 < l.mu.first:
		return 0, raft.ErrCompacted
	case index > l.mu.last:
		return 0, raft.ErrUnavailable
	}
	return l.mu.terms.at(index), nil
}

// LastIndex implements raft.Storage.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.last, nil
}

// FirstIndex implements raft.Storage.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.first, nil
}

// Snapshot implements raft.Storage: index, term and configuration of the last
// checkpoint, without data. Capture has the data.
func (l *Log) Snapshot() (*pb.Snapshot, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.mu.applied == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index:     new(l.mu.applied),
		Term:      new(l.mu.terms.at(l.mu.applied)),
		ConfState: proto.CloneOf(l.mu.conf),
	}}, nil
}

// window is how many entries are looked for at a time, so that a request for all
// of a long log costs what it returns.
const window = 256

// Entries implements raft.Storage.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	var entries []*pb.Entry
	version, size := uint64(0), uint64(0)
	for at := lo; at < hi; {
		s := l.look(cluster.Range{Lo: at, Hi: min(hi, at+window)}, hi, limit{maxSize, size})
		switch {
		case at > lo && (s.closed || s.version != version):
			return entries, nil // what is there was right when it was read
		case s.closed:
			return nil, ErrClosed
		case lo < s.first:
			return nil, raft.ErrCompacted
		case hi > s.last+1:
			return nil, raft.ErrUnavailable
		}
		if err := s.fill(); err != nil {
			if err = l.settle(s, err); err != nil {
				return nil, err
			}
			continue
		}
		version = s.version
		entries = append(entries, s.entries...)
		at += uint64(len(s.entries))
		if at < s.want.Hi {
			break // the limit is reached
		}
		size = s.limit.used
	}
	return entries[:len(entries):len(entries)], nil
}

// limit is how many bytes a read may return: all but the first entry must fit.
type limit struct{ most, used uint64 }

// take reports whether one more entry fits, and counts it.
func (m *limit) take(e *pb.Entry) bool {
	was := m.used
	m.used += encodedSize(e)
	return was == 0 || m.used <= m.most
}

// Command implements cluster.Log.
func (l *Log) Command(index uint64) ([]byte, error) {
	for {
		s := l.look(cluster.Range{Lo: index, Hi: index + 1}, index+1, limit{})
		switch {
		case s.closed:
			return nil, ErrClosed
		case index > s.last:
			return nil, raft.ErrUnavailable
		}
		err := s.fill()
		if err == nil {
			return s.entries[0].GetData(), nil
		}
		if index < s.first && err == errHole {
			err = cluster.ErrCollected
		}
		if err := l.settle(s, err); err != nil {
			return nil, err
		}
	}
}

// sight is what a read saw of the view when it began.
type sight struct {
	log         *Log
	generation  uint32
	first, last uint64
	terms       terms
	version     uint64
	pending     bool
	closed      bool
	want        cluster.Range
	limit       limit
	entries     []*pb.Entry // the cached ones of want; holes are nil
}

// look notes the view, and which of the entries wanted are cached. It stops
// where the cached ones alone exceed the limit. hi is the end of all that is
// asked for.
func (l *Log) look(want cluster.Range, hi uint64, m limit) *sight {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := &sight{
		log: l, want: want, limit: m, generation: l.mu.generation, first: l.mu.first, last: l.mu.last,
		terms: l.mu.terms, version: l.mu.version, pending: l.pending.Load() > 0, closed: l.mu.closed,
	}
	if s.closed || hi > s.last+1 {
		return s
	}
	s.entries = make([]*pb.Entry, 0, want.Hi-want.Lo)
	for i := want.Lo; i < want.Hi; i++ {
		e := l.mu.cache.get(i)
		if e != nil && !m.take(e) {
			break
		}
		s.entries = append(s.entries, e)
	}
	return s
}

var errHole = fmt.Errorf("raftlog: entry is not there")

// fill reads what was not cached, as far as the limit goes. Its error is errHole,
// or damage.
func (s *sight) fill() error {
	count := 0
	var hits, misses uint64
	for count < len(s.entries) {
		if e := s.entries[count]; e != nil {
			if !s.limit.take(e) {
				break
			}
			hits++
			count++
			continue
		}
		hole := count
		for hole < len(s.entries) && s.entries[hole] == nil {
			hole++
		}
		got, full, err := s.read(count, hole)
		if err != nil {
			return err
		}
		misses += uint64(got)
		count += got
		if full {
			break
		}
	}
	s.log.engine.cache.count(hits, misses)
	s.entries = s.entries[:count]
	return nil
}

// read reads entries[from:to] up to the limit, and says how many it kept and
// whether the limit was the reason to stop.
func (s *sight) read(from, to int) (got int, full bool, err error) {
	var wrong error
	at := s.want.Lo + uint64(from)
	err = s.log.engine.shelf.scan(s.generation, cluster.Range{Lo: at, Hi: s.want.Lo + uint64(to)}, func(e *pb.Entry) bool {
		index := at + uint64(got)
		if e.GetIndex() != index {
			wrong = errHole
			return false
		}
		if index >= s.first && e.GetTerm() != s.terms.at(index) {
			wrong = &CorruptError{Index: index, What: fmt.Sprintf("it is of term %d, not %d", e.GetTerm(), s.terms.at(index))}
			return false
		}
		if full = !s.limit.take(e); full {
			return false
		}
		s.entries[from+got] = e
		got++
		return true
	})
	switch {
	case err != nil:
		return 0, false, err
	case wrong != nil:
		return 0, false, wrong
	case !full && from+got < to:
		return 0, false, errHole
	}
	return got, full, nil
}

// settle decides what a failed read means. nil says: look again, because the log
// was changing, and has changed.
func (l *Log) settle(s *sight, err error) error {
	l.mu.RLock()
	changed := l.mu.version != s.version
	l.mu.RUnlock()
	if changed {
		return nil
	}
	if s.pending {
		l.drain()
		return nil
	}
	if err == errHole {
		err = &CorruptError{Index: s.want.Lo, What: "it, or one soon behind it, is not there"}
	}
	return inGroup(err, l.group)
}

// inGroup names the group in a CorruptError.
func inGroup(err error, group uint64) error {
	var c *CorruptError
	if errors.As(err, &c) {
		named := *c
		named.Group = group
		return &named
	}
	return err
}

// encodedSize is the size of an entry as raft counts it: in protobuf.
func encodedSize(e *pb.Entry) uint64 {
	n := 2 + 1 + varintSize(e.GetTerm()) + 1 + varintSize(e.GetIndex())
	if len(e.GetData()) > 0 {
		n += 1 + varintSize(uint64(len(e.GetData()))) + len(e.GetData())
	}
	return uint64(n)
}

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// close makes further use fail, and waits for what was appended.
func (l *Log) close() {
	l.mu.Lock()
	l.mu.closed = true
	r := l.mu.receiver
	l.mu.receiver = nil
	l.mu.Unlock()
	if r != nil {
		r.discard()
	}
	l.drain()
	l.engine.cache.leave(l)
}

// rest is what a clean stop still has to write, or nil.
func (l *Log) rest() *change {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mu.hardDirty || l.mu.generation == 0 {
		return nil
	}
	l.mu.hardDirty = false
	return &change{group: l.group, generation: l.mu.generation, hard: new(l.mu.hard)}
}
