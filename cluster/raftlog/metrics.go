package raftlog

import (
	"fmt"
	"time"
)

// Metrics are an engine's counts since it was opened.
type Metrics struct {
	Mode    Mode
	Groups  int    // copies whose logs are open
	Appends uint64 // calls of Append
	Entries uint64 // appended
	Written uint64 // bytes handed to the file system
	Syncs   uint64 // of files
	// SyncTime is the time spent in syncs, SlowestSync the longest one.
	SyncTime, SlowestSync time.Duration

	CacheBytes              int64
	CacheHits, CacheMisses  uint64
	DiskBytes               uint64 // of the data now
	Flushes, Compactions    int64
	FlushedBytes, Rewritten uint64 // bytes written to tables by flushes; by compactions
	Damage                  uint64 // reports of damaged data
}

// Metrics returns the counts of now.
func (e *Engine) Metrics() Metrics {
	e.mu.Lock()
	groups := len(e.mu.logs)
	e.mu.Unlock()
	m := Metrics{
		Mode:        e.opts.Mode,
		Groups:      groups,
		Appends:     e.appends.Load(),
		Entries:     e.entries.Load(),
		Written:     e.disk.written.Load(),
		Syncs:       e.disk.syncs.Load(),
		SyncTime:    time.Duration(e.disk.syncTime.Load()),
		SlowestSync: time.Duration(e.disk.slowest.Load()),
		CacheBytes:  e.cache.used.Load(),
		CacheHits:   e.cache.hits.Load(),
		CacheMisses: e.cache.misses.Load(),
	}
	switch s := e.shelf.(type) {
	case *pebbleShelf:
		s.measure(&m)
	case *journalShelf:
		s.measure(&m)
		m.DiskBytes += uint64(s.journal.Stats().Bytes)
	}
	return m
}

func (s *pebbleShelf) measure(m *Metrics) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return
	}
	p := s.db.Metrics()
	m.DiskBytes = p.DiskSpaceUsage()
	m.Flushes = p.Flush.Count
	m.Compactions = p.Compact.Count
	m.FlushedBytes = p.Levels[0].TableBytesFlushed + p.Levels[0].BlobBytesFlushed
	for _, l := range p.Levels {
		m.Rewritten += l.TableBytesCompacted + l.BlobBytesCompacted
	}
	m.Damage = s.damaged.Load()
}

// String returns the metrics in one line.
func (m Metrics) String() string {
	return fmt.Sprintf("mode %v groups %d appends %d entries %d written %d syncs %d sync-time %v slowest-sync %v cache %d hits %d misses %d disk %d flushes %d flushed %d compactions %d rewritten %d damage %d",
		m.Mode, m.Groups, m.Appends, m.Entries, m.Written, m.Syncs, m.SyncTime, m.SlowestSync,
		m.CacheBytes, m.CacheHits, m.CacheMisses, m.DiskBytes, m.Flushes, m.FlushedBytes, m.Compactions, m.Rewritten, m.Damage)
}
