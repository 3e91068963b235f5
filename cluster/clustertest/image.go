package clustertest

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// image is the content of a copy at one moment. Clones share entries and pages
// until one of them changes, so cloning is cheap.
type image struct {
	hard       *pb.HardState
	conf       *pb.ConfState
	applied    uint64
	first      uint64
	termBefore uint64 // of the entry at first-1

	// entries[i] is the entry at base+i, nil where it was collected. Those from
	// first on are all there.
	base          uint64
	entries       []*pb.Entry
	sharedEntries bool

	pages       map[string][]byte
	sharedPages bool
}

func newImage(conf *pb.ConfState) *image {
	return &image{hard: &pb.HardState{}, conf: conf, first: 1, base: 1, pages: map[string][]byte{}}
}

func (i *image) clone() *image {
	i.sharedEntries, i.sharedPages = true, true
	c := *i
	return &c
}

// own makes the entries safe to change in place.
func (i *image) own() {
	if i.sharedEntries {
		i.entries = slices.Clone(i.entries)
		i.sharedEntries = false
	}
}

// last is the index of the last entry, or the one before the first.
func (i *image) last() uint64 {
	return max(i.base+uint64(len(i.entries))-1, i.first-1)
}

func (i *image) get(index uint64) *pb.Entry {
	if index < i.base || index >= i.base+uint64(len(i.entries)) {
		return nil
	}
	return i.entries[index-i.base]
}

func (i *image) term(index uint64) uint64 {
	if index+1 == i.first {
		return i.termBefore
	}
	return i.get(index).GetTerm()
}

// put sets one entry, with holes before it if need be.
func (i *image) put(e *pb.Entry) {
	if len(i.entries) == 0 {
		i.base = e.GetIndex()
		i.entries, i.sharedEntries = []*pb.Entry{e}, false
		return
	}
	i.own()
	for e.GetIndex() < i.base {
		i.entries = slices.Insert(i.entries, 0, nil)
		i.base--
	}
	for e.GetIndex() >= i.base+uint64(len(i.entries)) {
		i.entries = append(i.entries, nil)
	}
	i.entries[e.GetIndex()-i.base] = e
}

func (i *image) setPage(key string, value []byte) {
	if i.sharedPages {
		i.pages = maps.Clone(i.pages)
		i.sharedPages = false
	}
	if value == nil {
		delete(i.pages, key)
	} else {
		i.pages[key] = value
	}
}

// apply carries out one step.
func (i *image) apply(s step) {
	if s.checkpoint != nil {
		i.checkpoint(s.checkpoint)
		return
	}
	if s.installed != nil {
		hard := i.hard
		*i = *s.installed.clone()
		i.hard = &pb.HardState{Term: new(hard.GetTerm()), Vote: new(hard.GetVote()), Commit: new(max(hard.GetCommit(), i.applied))}
	}
	if h := s.write.HardState; !raft.IsEmptyHardState(h) {
		i.hard = &pb.HardState{Term: new(h.GetTerm()), Vote: new(h.GetVote()), Commit: new(max(h.GetCommit(), i.hard.GetCommit()))}
	}
	i.append(s.write.Entries)
}

func (i *image) append(entries []*pb.Entry) {
	if len(entries) == 0 {
		return
	}
	at := entries[0].GetIndex()
	if len(i.entries) == 0 {
		i.base = at
	}
	// Received entries may end before the first index.
	for at > i.base+uint64(len(i.entries)) {
		i.own()
		i.entries = append(i.entries, nil)
	}
	kept := i.entries[:at-i.base]
	if i.sharedEntries || len(kept) < len(i.entries) {
		// What is overwritten may be shared: grow elsewhere.
		kept = slices.Clip(kept)
	}
	i.entries = append(kept, entries...)
	i.sharedEntries = false
}

func (i *image) checkpoint(c *cluster.Checkpoint) {
	if c.ConfState != nil {
		i.conf = proto.CloneOf(c.ConfState)
	}
	i.termBefore = i.term(c.First - 1)
	i.applied, i.first = c.Applied, c.First
	for _, p := range c.Pages {
		i.setPage(string(p.Key), p.Value)
	}
	if len(c.Dead) > 0 {
		i.own()
	}
	for _, r := range c.Dead {
		for at := max(r.Lo, i.base); at < min(r.Hi, i.base+uint64(len(i.entries))); at++ {
			i.entries[at-i.base] = nil
		}
	}
	n := 0
	for n < len(i.entries) && i.entries[n] == nil && i.base+uint64(n) < i.first {
		n++
	}
	i.entries = i.entries[n:]
	i.base += uint64(n)
}

func (i *image) yieldPages(yield func(key, value []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(i.pages)) {
		if err := yield([]byte(key), i.pages[key]); err != nil {
			return err
		}
	}
	return nil
}

// check panics on a write that raft never asks for.
func (i *image) check(w cluster.Write, installed *image) {
	first, last, lastTerm := i.first, i.last(), i.term(i.last())
	applied := max(i.applied, i.hard.GetCommit())
	if installed != nil {
		if installed.applied <= i.applied {
			panic(fmt.Sprintf("clustertest: install of a snapshot at %d, and %d is applied", installed.applied, i.applied))
		}
		first, last, applied, lastTerm = installed.first, installed.applied, installed.applied, installed.termBefore
	}
	if h := w.HardState; !raft.IsEmptyHardState(h) {
		was := i.hard
		if h.GetTerm() < was.GetTerm() || h.GetTerm() == was.GetTerm() && was.GetVote() != 0 && h.GetVote() != was.GetVote() {
			panic(fmt.Sprintf("clustertest: hard state goes from %v to %v", was, h))
		}
	}
	if len(w.Entries) == 0 {
		return
	}
	at := w.Entries[0].GetIndex()
	if at < first || at > last+1 || at <= applied {
		panic(fmt.Sprintf("clustertest: append at %d to a log of [%d,%d], committed up to %d", at, first, last, applied))
	}
	if at <= last {
		lastTerm = i.term(at - 1)
	}
	for n, e := range w.Entries {
		if e.GetIndex() != at+uint64(n) || e.GetTerm() < lastTerm {
			panic(fmt.Sprintf("clustertest: entry %d of term %d follows %d of term %d", e.GetIndex(), e.GetTerm(), at+uint64(n)-1, lastTerm))
		}
		lastTerm = e.GetTerm()
	}
}

func (i *image) checkCheckpoint(c cluster.Checkpoint) error {
	switch {
	case c.Applied < i.applied || c.Applied > i.last():
		return fmt.Errorf("clustertest: checkpoint at %d, the last was at %d and the log ends with %d", c.Applied, i.applied, i.last())
	case c.First < i.first || c.First > c.Applied+1:
		return fmt.Errorf("clustertest: first index %d in a checkpoint at %d, it was %d", c.First, c.Applied, i.first)
	}
	for _, r := range c.Dead {
		if r.Hi > c.First {
			return fmt.Errorf("clustertest: dead entries %v reach behind the first index %d", r, c.First)
		}
	}
	return nil
}
