package raftlog

import (
	"sync"
	"sync/atomic"
)

// cache bounds the recent entries that the logs of an engine keep. Each log has
// its own, under its own lock; here is only the sum, and who has to give.
type cache struct {
	budget       int64
	used         atomic.Int64
	hits, misses atomic.Uint64

	mu struct {
		sync.Mutex
		logs map[*Log]int64 // bytes, as last counted in used
	}
}

func (c *cache) count(hits, misses uint64) {
	c.hits.Add(hits)
	c.misses.Add(misses)
}

func (c *cache) enter(l *Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.logs == nil {
		c.mu.logs = map[*Log]int64{}
	}
	c.mu.logs[l] = 0
}

func (c *cache) leave(l *Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used.Add(-c.mu.logs[l])
	delete(c.mu.logs, l)
}

// trim notes what l holds now. Over the budget, whoever holds the most drops its
// oldest entries, until an eighth of the budget is free: then it need not be
// looked for again soon. The caller holds no log's lock.
func (c *cache) trim(l *Log, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.mu.logs[l]
	if !ok {
		return
	}
	c.mu.logs[l] = bytes
	c.used.Add(bytes - was)
	if c.used.Load() <= c.budget {
		return
	}
	for c.used.Load() > c.budget-c.budget/8 {
		var most *Log
		for l, n := range c.mu.logs {
			if n > 0 && (most == nil || n > c.mu.logs[most] || n == c.mu.logs[most] && l.group < most.group) {
				most = l
			}
		}
		if most == nil {
			return
		}
		most.mu.Lock()
		most.mu.cache.evict()
		now := most.mu.cache.bytes
		most.mu.Unlock()
		c.used.Add(now - c.mu.logs[most])
		c.mu.logs[most] = now
	}
}
