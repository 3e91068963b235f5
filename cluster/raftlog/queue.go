package raftlog

import (
	"context"
	"runtime"
	"runtime/pprof"
	"sync"
)

// Bounds of one round of the append worker. A round is one batch and one sync;
// what does not fit waits for the next. One group gets a share, so that a burst
// of one does not hold up the others.
const (
	roundBytes = 8 << 20
	shareBytes = 1 << 20
	helpBytes  = 64 << 10 // of a round that is not the worker's
)

// queue is the append worker of an engine in mode sync and what waits for it.
//
// It has no bound of its own: raft's limit of uncommitted entries bounds what
// each group can have in it, and dropping an append would break raft.
type queue struct {
	engine *Engine
	done   chan struct{} // closed when the worker has returned

	mu struct {
		sync.Mutex
		ready   []*Log // with ops, each once; taken from the front
		busy    bool   // the worker performs a round, or somebody in its place
		stopped bool
	}
	work    sync.Cond // for the worker: one of these changed
	drained sync.Cond // a round ended
}

func newQueue(e *Engine) *queue {
	q := &queue{engine: e, done: make(chan struct{})}
	q.work.L, q.drained.L = &q.mu, &q.mu
	go pprof.Do(context.Background(), pprof.Labels("perdure", "log-append"), func(context.Context) {
		defer close(q.done)
		q.run()
	})
	return q
}

// add queues a change, which pending counts already, behind the log's others. Who
// does not wake the worker calls help.
func (q *queue) add(c *change, wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(c.log.ops) == 0 {
		q.mu.ready = append(q.mu.ready, c.log)
	}
	c.log.ops = append(c.log.ops, c)
	if wake {
		q.work.Signal()
	}
}

// help performs the one small change of a log that waits, if nothing else does and
// nobody is at work; else it wakes the worker. Two hand-overs, to the worker and
// back, cost about as much as the sync itself where the disk is fast.
func (q *queue) help(l *Log) bool {
	q.mu.Lock()
	if q.mu.busy || q.mu.stopped || len(q.mu.ready) != 1 || q.mu.ready[0] != l || len(l.ops) != 1 || l.ops[0].size() > helpBytes {
		q.work.Signal()
		q.mu.Unlock()
		return false
	}
	round := [1]*change{l.ops[0]}
	l.ops, q.mu.ready, q.mu.busy = nil, q.mu.ready[:0], true
	q.mu.Unlock()
	q.perform(round[:], true)
	return true
}

// close runs what is queued and joins the worker.
func (q *queue) close() {
	q.mu.Lock()
	q.mu.stopped = true
	q.work.Signal()
	q.mu.Unlock()
	<-q.done
}

func (q *queue) run() {
	var round []*change
	for {
		round = q.take(round[:0])
		if len(round) == 0 {
			return
		}
		q.perform(round, false)
		clear(round)
	}
}

// take waits for work and returns the next round, empty when all is done and the
// queue is stopped.
func (q *queue) take(round []*change) []*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.mu.ready) == 0 || q.mu.busy {
		if q.mu.stopped && !q.mu.busy {
			return nil
		}
		q.work.Wait()
	}
	q.mu.busy = true
	size := 0
	for n := len(q.mu.ready); n > 0 && size < roundBytes; n-- {
		l := q.mu.ready[0]
		q.mu.ready = q.mu.ready[1:]
		share, k := 0, 0
		for k < len(l.ops) && share < shareBytes {
			share += l.ops[k].size()
			round = append(round, l.ops[k])
			k++
		}
		size += share
		if l.ops = l.ops[k:]; len(l.ops) > 0 {
			q.mu.ready = append(q.mu.ready, l)
		} else {
			l.ops = nil
		}
	}
	return round
}

// perform writes a round, syncs it if anything in it was promised, and runs what
// waits for it. here is for that.
func (q *queue) perform(round []*change, here bool) {
	wait, write := false, false
	for _, c := range round {
		wait = wait || c.sync
		write = write || !c.empty()
	}
	if write {
		q.engine.shelf.commit(round, wait)
	}
	for _, c := range round {
		if c.sync {
			c.log.promise(c)
		}
		// A checkpoint has none.
		if c.done != nil {
			c.done(here)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range round {
		if c.edge != nil {
			c.log.edges.Add(-1)
		}
		c.log.pending.Add(-1)
	}
	q.mu.busy = false
	q.drained.Broadcast()
	if here {
		q.work.Signal() // more may have come, or the end
	}
}

// drain waits until nothing that was appended is outstanding.
func (l *Log) drain() {
	q := l.engine.queue
	if q == nil {
		runtime.Gosched() // the append is being written on another goroutine
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.work.Signal() // of what waits for Work the worker knows nothing
	for l.pending.Load() > 0 {
		q.drained.Wait()
	}
}
