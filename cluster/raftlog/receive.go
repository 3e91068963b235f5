package raftlog

import (
	"fmt"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// Receiver is a generation being filled. One goroutine may use it at a time. It
// implements cluster.Receiver.
//
// What it holds is written in steps that nobody waits for: the install that
// names the generation comes behind them in the same file, and is synced.
type Receiver struct {
	log        *Log
	meta       *pb.SnapshotMetadata
	generation uint32

	mu struct {
		sync.Mutex
		next change // what is not written yet
		size int
		done bool // discarded or installed
	}
}

var _ cluster.Receiver = (*Receiver)(nil)

// Receive implements cluster.Log.
func (l *Log) Receive(meta *pb.SnapshotMetadata) (cluster.Receiver, error) {
	if meta.GetIndex() == 0 || meta.GetConfState() == nil {
		return nil, fmt.Errorf("raftlog: group %d: a snapshot without index or configuration", l.group)
	}
	r := &Receiver{log: l, meta: proto.CloneOf(meta)}
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	was := l.mu.receiver
	l.mu.receiver = r
	l.mu.Unlock()
	if was != nil {
		was.discard()
	}
	r.generation = l.engine.shelf.generation()
	r.mu.next = change{group: l.group, generation: r.generation, cold: true}
	return r, nil
}

// Meta implements cluster.Receiver.
func (r *Receiver) Meta() *pb.SnapshotMetadata { return r.meta }

// Page implements cluster.Receiver. It keeps neither slice.
func (r *Receiver) Page(key, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := make([]byte, len(key)+len(value))
	copy(kept[copy(kept, key):], value)
	p := cluster.Page{Key: kept[:len(key):len(key)], Value: kept[len(key):]}
	r.mu.next.pages = append(r.mu.next.pages, p)
	return r.grow(len(kept))
}

// Entry implements cluster.Receiver. It keeps data.
func (r *Receiver) Entry(index uint64, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index > r.meta.GetIndex() {
		return fmt.Errorf("raftlog: group %d: entry %d in a snapshot at %d", r.log.group, index, r.meta.GetIndex())
	}
	r.mu.next.entries = append(r.mu.next.entries, newEntry(index, 0, pb.EntryType_EntryNormal, data))
	return r.grow(len(data))
}

// grow writes what has come together, if that is enough. r.mu is held.
func (r *Receiver) grow(n int) error {
	if r.mu.done {
		return fmt.Errorf("raftlog: group %d: this snapshot was discarded or installed", r.log.group)
	}
	if r.mu.size += n; r.mu.size >= pieceBytes {
		r.write()
	}
	return nil
}

func (r *Receiver) write() {
	if r.mu.done || r.mu.next.empty() {
		return
	}
	r.log.engine.shelf.commit([]*change{&r.mu.next}, false)
	r.mu.next = change{group: r.log.group, generation: r.generation, cold: true}
	r.mu.size = 0
}

// flush writes what is left, and takes no more.
func (r *Receiver) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write()
	r.mu.done = true
}

// Abort implements cluster.Receiver.
func (r *Receiver) Abort() error {
	l := r.log
	l.mu.Lock()
	open := l.mu.receiver == r
	if open {
		l.mu.receiver = nil
	}
	l.mu.Unlock()
	if open {
		r.discard()
	}
	return nil
}

// discard removes what was written.
func (r *Receiver) discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.done = true
	r.mu.next = change{}
	r.log.engine.shelf.commit([]*change{{group: r.log.group, generation: r.generation, drop: r.generation}}, false)
}
