package raftlog

import (
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// Append implements cluster.Log. It panics on what raft never asks for: a term
// that falls, a vote that changes within a term, a gap in the log, an overwrite
// of what is committed, a receiver that is not this log's open one. After the engine was closed it drops w, and done never runs.
func (l *Log) Append(w cluster.Write, done func(here bool)) (waits bool) {
	if w.Install != nil {
		r, ok := w.Install.(*Receiver)
		if !ok || !l.ours(r) {
			panic(fmt.Sprintf("raftlog: group %d: install of a receiver that is not open", l.group))
		}
		r.flush()
	}
	c := l.take(w)
	if c == nil {
		return false
	}
	if done == nil {
		done = func(bool) {}
	}
	e := l.engine
	e.appends.Add(1)
	e.entries.Add(uint64(len(w.Entries)))
	c.done = done
	switch {
	case c.empty() && l.pending.Load() == 0:
		done(true)
	case e.queue != nil:
		if c.sync = !c.empty(); c.empty() {
			l.pending.Add(1) // it only waits for its turn
		}
		waits = w.Here && c.sync
		e.queue.add(c, !waits)
	default:
		e.shelf.commit([]*change{c}, true)
		l.pending.Add(-1)
		l.promise(c)
		done(true)
	}
	return waits
}

// Work implements cluster.Log.
func (l *Log) Work() bool { return l.engine.queue != nil && l.engine.queue.help(l) }

// expect counts a change that is not committed yet.
func (l *Log) expect(c *change) {
	l.pending.Add(1)
	if c.edge != nil && l.engine.queue != nil {
		l.edges.Add(1)
	}
}

// promise notes what done is about to confirm.
func (l *Log) promise(c *change) {
	if w := l.engine.watermark; w != nil {
		w.set(l.group, c.mark)
	}
}

// ours says whether r is the receiver that Receive returned last.
func (l *Log) ours(r *Receiver) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.receiver == r
}

// take brings w into the view and returns the change that writes it, nil if the
// log is closed.
func (l *Log) take(w cluster.Write) *change {
	c, cached := l.takeLocked(w)
	if c != nil {
		l.engine.cache.trim(l, cached)
	}
	return c
}

func (l *Log) takeLocked(w cluster.Write) (c *change, cached int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, 0
	}
	l.check(w)
	c = &change{log: l, group: l.group}
	if w.Install != nil {
		l.install(c, w.Install.(*Receiver))
	}
	c.generation = l.mu.generation
	l.takeHard(w.HardState)
	l.takeEntries(c, w.Entries)
	c.summed = w.Summed
	if w.Install != nil || len(w.Entries) > 0 || l.mu.votes {
		l.writeHard(c)
	}
	c.mark = l.mu.mark()
	if !c.empty() {
		// Before anybody can see the new view.
		l.expect(c)
	}
	return c, l.mu.cache.bytes
}

// check panics if w is not what raft may ask for. Nothing has changed then.
func (l *Log) check(w cluster.Write) {
	was := l.mu.hard
	if h := w.HardState; !raft.IsEmptyHardState(h) &&
		(h.GetTerm() < was.term || h.GetTerm() == was.term && was.vote != 0 && h.GetVote() != was.vote) {
		panic(fmt.Sprintf("raftlog: group %d: hard state goes from term %d vote %d to term %d vote %d", l.group, was.term, was.vote, h.GetTerm(), h.GetVote()))
	}
	first, last, applied := l.mu.first, l.mu.last, max(l.mu.applied, was.commit)
	terms := l.mu.terms
	if w.Install != nil {
		meta := w.Install.Meta()
		if meta.GetIndex() <= l.mu.applied {
			panic(fmt.Sprintf("raftlog: group %d: install of a snapshot at %d, and %d is applied", l.group, meta.GetIndex(), l.mu.applied))
		}
		first, last, applied = meta.GetIndex()+1, meta.GetIndex(), meta.GetIndex()
		terms = []termRun{{last, meta.GetTerm()}}
	}
	if len(w.Entries) == 0 {
		return
	}
	at := w.Entries[0].GetIndex()
	if at < first || at > last+1 || at <= applied {
		panic(fmt.Sprintf("raftlog: group %d: append at %d to a log of [%d,%d], committed up to %d", l.group, at, first, last, applied))
	}
	term := terms.at(at - 1)
	for i, e := range w.Entries {
		if e.GetIndex() != at+uint64(i) || e.GetTerm() < term {
			panic(fmt.Sprintf("raftlog: group %d: entry %d of term %d follows %d of term %d", l.group, e.GetIndex(), e.GetTerm(), at+uint64(i)-1, term))
		}
		term = e.GetTerm()
	}
}

// writeHard adds the hard state to c if it is not written yet.
func (l *Log) writeHard(c *change) {
	if l.mu.hardDirty {
		c.hard = new(l.mu.hard)
		l.mu.hardDirty, l.mu.votes = false, false
	}
}

// takeHard brings a hard state into the view.
func (l *Log) takeHard(h *pb.HardState) {
	if raft.IsEmptyHardState(h) {
		return
	}
	was := l.mu.hard
	now := hardState{term: h.GetTerm(), vote: h.GetVote(), commit: max(h.GetCommit(), was.commit)}
	if now == was {
		return
	}
	l.mu.hard = now
	l.mu.hardDirty = true
	if now.term != was.term || now.vote != was.vote {
		l.mu.votes = true
	}
}

// takeEntries brings entries into the view and into c.
func (l *Log) takeEntries(c *change, entries []*pb.Entry) {
	if len(entries) == 0 {
		return
	}
	at := entries[0].GetIndex()
	behind := at + uint64(len(entries))
	if at <= l.mu.last {
		c.cut = cluster.Range{Lo: behind, Hi: l.mu.last + 1}
		l.mu.terms.cut(at)
		l.mu.cache.drop(cluster.Range{Lo: at, Hi: l.mu.last + 1}, nil)
		l.mu.version++
	}
	cache := l.engine.watermark != nil // mode memory has all of it anyway
	for _, e := range entries {
		l.mu.terms.add(e.GetIndex(), e.GetTerm())
		if cache {
			l.mu.cache.put(e)
		}
	}
	l.mu.last = behind - 1
	c.entries = entries
}

// install makes the receiver's generation the view and writes the switch to c.
func (l *Log) install(c *change, r *Receiver) {
	index, term := r.meta.GetIndex(), r.meta.GetTerm()
	at := edge{applied: index, first: index + 1, termBefore: term, conf: r.meta.GetConfState()}
	c.drop = l.mu.generation
	c.record = &copyRecord{generation: r.generation, copy: l.copy}
	c.edge = &at
	l.mu.receiver = nil
	l.mu.generation = r.generation
	l.mu.applied, l.mu.first, l.mu.last, l.mu.conf = index, index+1, index, at.conf
	l.mu.terms = terms{{from: index, term: term}}
	l.mu.hard.commit = max(l.mu.hard.commit, index)
	l.mu.hardDirty = true // it is written under the new generation
	l.mu.cache.drop(cluster.Range{Lo: 0, Hi: 1<<64 - 1}, nil)
	l.mu.version++
}
