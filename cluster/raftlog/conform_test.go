package raftlog

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// testOptions are those of an engine on fs, under one boot of the machine.
func testOptions(t testing.TB, mode Mode, fs vfs.FS) Options {
	return Options{
		Dir:           "log",
		Mode:          mode,
		FS:            fs,
		SyncInterval:  time.Hour, // tests sync when they mean to
		MemTableBytes: 1 << 20,
		CacheBytes:    1 << 20,
		BootID:        func() (string, error) { return "boot 1", nil },
		Logger:        slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Fatal:         func(err error) { t.Error("fatal:", err) },
		SegmentBytes:  4 << 10,
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", p)
	return len(p), nil
}

// engineSubject is a copy of group 7 for the conformance suite.
type engineSubject struct {
	t      *testing.T
	opts   Options
	engine *Engine
	log    *settling
}

// settling counts dones that are owed.
type settling struct {
	*Log
	owed sync.WaitGroup
}

func (s *settling) Append(w cluster.Write, done func(here bool)) (waits bool) {
	s.owed.Add(1)
	defer func() {
		if p := recover(); p != nil {
			s.owed.Done()
			panic(p)
		}
	}()
	return s.Log.Append(w, func(here bool) {
		done(here)
		s.owed.Done()
	})
}

func newSubject(t *testing.T, o Options) *engineSubject {
	s := &engineSubject{t: t, opts: o}
	s.open()
	l, err := s.engine.Create(7, Copy{ReplicaID: 2, Voters: clustertest.Voters})
	if err != nil {
		t.Fatal(err)
	}
	s.log = &settling{Log: l}
	t.Cleanup(func() {
		if err := s.engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *engineSubject) open() {
	e, err := Open(s.opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.engine = e
}

func (s *engineSubject) Log() cluster.Log { return s.log }

// Settle also waits for checkpoints that are queued: until they are written,
// what they name dead may still be served.
func (s *engineSubject) Settle() {
	s.log.drain() // of what waits for Work, too
	s.log.owed.Wait()
	s.log.drain()
}

func (s *engineSubject) Reopen() cluster.Log {
	s.t.Helper()
	if s.opts.Mode == Memory {
		return nil
	}
	if err := s.engine.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
	l, err := s.engine.Open(7)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := l.MayHaveForgotten(); err != nil {
		s.t.Fatal(err)
	}
	s.log = &settling{Log: l}
	return s.log
}

// shelves runs a test with entries in the journal, and its twin with entries in
// Pebble: what one answers the other does.
func shelves(t *testing.T, test func(t *testing.T, journal bool)) {
	t.Run("journal", func(t *testing.T) { test(t, true) })
	t.Run("pebble", func(t *testing.T) { test(t, false) })
}

func TestConformance(t *testing.T) { shelves(t, conformance) }

func conformance(t *testing.T, journal bool) {
	for _, mode := range []Mode{Memory, Async, Sync} {
		t.Run(mode.String(), func(t *testing.T) {
			clustertest.TestLog(t, func(t *testing.T) clustertest.Subject {
				o := testOptions(t, mode, vfs.NewMem())
				o.inPebble = !journal
				return newSubject(t, o)
			})
		})
	}
	// Everything goes through tables and nothing is cached.
	t.Run("small", func(t *testing.T) {
		clustertest.TestLog(t, func(t *testing.T) clustertest.Subject {
			o := testOptions(t, Sync, vfs.NewMem())
			o.inPebble = !journal
			o.MemTableBytes = 16 << 10
			o.CacheBytes = 1
			o.tune = func(o *pebble.Options) {
				o.LBaseMaxBytes = 64 << 10
				o.L0CompactionThreshold = 1
			}
			return newSubject(t, o)
		})
	})
}
