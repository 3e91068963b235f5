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
		stopped bool
	}
	work    sync.Cond // ready or stopped changed
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

// add queues a change, which pending counts already, behind the log's others.
func (q *queue) add(c *change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(c.log.ops) == 0 {
		q.mu.ready = append(q.mu.ready, c.log)
	}
	c.log.ops = append(c.log.ops, c)
	q.work.Signal()
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
		q.perform(round)
		clear(round)
	}
}

// take waits for work and returns the next round, empty when all is done and the
// queue is stopped.
func (q *queue) take(round []*change) []*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.mu.ready) == 0 {
		if q.mu.stopped {
			return nil
		}
		q.work.Wait()
	}
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
// waits for it.
func (q *queue) perform(round []*change) {
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
			c.done()
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
	q.drained.Broadcast()
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
	for l.pending.Load() > 0 {
		q.drained.Wait()
	}
}
