package raftlog

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// Checkpoint implements cluster.Log. It refuses an applied or first index that
// falls, and dead entries that Raft could still ask for.
func (l *Log) Checkpoint(p cluster.Checkpoint) error {
	c, err := l.takeCheckpoint(p)
	if err != nil {
		return err
	}
	l.engine.shelf.prepare(c)
	if q := l.engine.queue; q != nil && l.pending.Load() > 0 {
		// Behind the appends that wait, or it could survive them.
		l.expect(c)
		q.add(c, true)
		return nil
	}
	// In mode async even this goes to the operating system at once: the log
	// behind it is handed over anyway, and a checkpoint is rare.
	l.engine.shelf.commit([]*change{c}, l.engine.opts.Mode == Async)
	return nil
}

func (l *Log) takeCheckpoint(p cluster.Checkpoint) (*change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkCheckpoint(p); err != nil {
		return nil, err
	}
	if p.ConfState != nil {
		l.mu.conf = proto.CloneOf(p.ConfState)
	}
	l.mu.applied = p.Applied
	c := &change{log: l, group: l.group, generation: l.mu.generation, pages: p.Pages, dead: p.Dead}
	if p.First > l.mu.first {
		l.mu.terms.rise(p.First - 1)
		l.mu.first = p.First
		l.mu.version++
	}
	for _, r := range p.Dead {
		l.mu.cache.drop(r, nil)
		l.mu.version++
	}
	l.mu.cache.tidy()
	c.edge = &edge{applied: l.mu.applied, first: l.mu.first, termBefore: l.mu.terms.at(l.mu.first - 1), conf: l.mu.conf}
	l.writeHard(c)
	return c, nil
}

func (l *Log) checkCheckpoint(p cluster.Checkpoint) error {
	switch {
	case l.mu.closed:
		return ErrClosed
	case l.mu.generation == 0:
		return errors.New("raftlog: checkpoint of a copy of which nothing is left")
	case p.Applied < l.mu.applied || p.Applied > l.mu.last:
		return fmt.Errorf("raftlog: group %d: checkpoint at %d, the last was at %d and the log ends with %d", l.group, p.Applied, l.mu.applied, l.mu.last)
	case p.First < l.mu.first || p.First > p.Applied+1:
		return fmt.Errorf("raftlog: group %d: first index %d in a checkpoint at %d, it was %d", l.group, p.First, p.Applied, l.mu.first)
	}
	for _, r := range p.Dead {
		if r.Hi > p.First {
			return fmt.Errorf("raftlog: group %d: dead entries %v reach behind the first index %d", l.group, r, p.First)
		}
	}
	return nil
}

// Pages implements cluster.Log.
func (l *Log) Pages(yield func(key, value []byte) error) (uint64, error) {
	c, err := l.Capture()
	if err != nil {
		return 0, err
	}
	return c.Applied(), errors.Join(c.Pages(yield), c.Close())
}

// Capture implements cluster.Log. In mode sync it waits for a checkpoint that is
// still queued.
func (l *Log) Capture() (cluster.Capture, error) {
	l.settleEdges()
	l.mu.RLock()
	closed := l.mu.closed
	l.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	c, err := l.engine.shelf.capture(l.group)
	return c, inGroup(err, l.group)
}

// settleEdges waits until no checkpoint is queued, whatever else is: there may be
// appends all the time.
func (l *Log) settleEdges() {
	if l.edges.Load() == 0 {
		return
	}
	q := l.engine.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for l.edges.Load() > 0 {
		q.drained.Wait()
	}
}
