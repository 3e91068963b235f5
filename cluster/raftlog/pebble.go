package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

const dataDir = "data" // of Pebble, inside Options.Dir

// pebbleShelf keeps copies in one Pebble.
type pebbleShelf struct {
	db   *pebble.DB
	disk *disk
	next atomic.Uint32 // generation

	damaged atomic.Uint64 // reports of damage from Pebble

	// life is held for reading by whoever uses db, so that close can wait. No
	// other lock is taken while it is held, but Pebble's.
	life struct {
		sync.RWMutex
		closed   bool
		pins     sync.Mutex // guards captures where life is held for reading
		captures map[*pebbleCapture]struct{}
	}
}

// openPebble opens or creates the data, removes generations that no record
// names, and returns only when all it found is on disk.
func openPebble(d *disk, dir string, created bool) (*pebbleShelf, error) {
	s := &pebbleShelf{disk: d}
	s.life.captures = map[*pebbleCapture]struct{}{}
	if !created {
		if err := syncLogFiles(d, dir); err != nil {
			return nil, err
		}
	}
	db, err := pebble.Open(dir, s.options())
	if err != nil {
		if pebble.IsCorruptionError(err) {
			return nil, &CorruptError{What: "directory " + dir, Err: err}
		}
		return nil, fmt.Errorf("raftlog: open %s: %w", dir, err)
	}
	s.db = db
	if err := s.begin(created); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// options returns Pebble's settings.
func (s *pebbleShelf) options() *pebble.Options {
	o := &pebble.Options{
		FS: s.disk,
		// The default format does not notice damage in the middle of a log file.
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             &pebbleLogger{opts: s.disk.opts},
		MemTableSize:       s.disk.opts.MemTableBytes,
		// One fills, one is flushed, one waits. Pebble keeps as many log files
		// and one for their next use, so this is disk space too.
		MemTableStopWritesThreshold: 3,
		// Entries come in order and die in order: tables in level 0 hardly
		// overlap, so let many of them live before they are moved, and hold up
		// writers late.
		L0CompactionThreshold:     4,
		L0CompactionFileThreshold: 64,
		L0StopWritesThreshold:     64,
		LBaseMaxBytes:             256 << 20,
		BytesPerSync:              1 << 20,
		MaxOpenFiles:              1000,
		CacheSize:                 16 << 20,
	}
	// Target file sizes stay at Pebble's small defaults: a table goes unread when
	// all in it is dead. With 8 MiB a stream took four times the disk.
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
	}
	// Batches come compressed from the client if that is worth it.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	logger := s.disk.opts.Logger
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			logger.Error("log engine: flush or compaction failed and will be tried again", slog.Any("err", err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.damaged.Add(1)
			logger.Error("log engine: stored data is damaged", slog.String("path", info.Path), slog.Any("err", info.Details))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			logger.Warn("log engine: writes wait for the disk", slog.String("reason", info.Reason))
		},
	}
	if s.disk.opts.tune != nil {
		s.disk.opts.tune(o)
	}
	return o
}

// syncLogFiles puts on disk what a former process left with the operating
// system: what this one finds there it will promise again.
func syncLogFiles(d *disk, dir string) error {
	names, err := d.FS.List(dir)
	if err != nil {
		return fmt.Errorf("raftlog: list %s: %w", dir, err)
	}
	for _, name := range names {
		if !isLogFile(name) {
			continue
		}
		f, err := d.FS.Open(d.PathJoin(dir, name))
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("raftlog: sync %s: %w", name, err)
		}
	}
	return syncDir(d.FS, dir)
}

// begin reads the generation counter and removes what no record names.
func (s *pebbleShelf) begin(created bool) error {
	key := appendKey(nil, 0, kindCounter)
	content, err := s.value(s.db, key)
	switch {
	case err != nil:
		return err
	case content == nil && created:
		s.next.Store(1)
		if err := s.db.Set(key, sealed(key, binary.BigEndian.AppendUint32(nil, 1)), pebble.Sync); err != nil {
			return fmt.Errorf("raftlog: begin: %w", err)
		}
		// The first log file of a new Pebble is in an old format that hides
		// damage. This begins a second one.
		if err := s.db.Flush(); err != nil {
			return fmt.Errorf("raftlog: begin: %w", err)
		}
	case len(content) != 4:
		return &CorruptError{What: "the counter of generations is missing"}
	default:
		s.next.Store(binary.BigEndian.Uint32(content))
	}
	copies, err := s.copies()
	if err != nil {
		return err
	}
	return s.sweep(copies)
}

// sweep removes generations that no record names.
func (s *pebbleShelf) sweep(copies map[uint64]copyRecord) error {
	named := map[uint32]bool{}
	for _, r := range copies {
		named[r.generation] = true
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return s.corrupt(err, 0)
	}
	b := s.db.NewBatch()
	for ok := it.SeekGE(appendKey(nil, 1, 0)); ok; {
		if len(it.Key()) < 5 {
			return errors.Join(&CorruptError{What: fmt.Sprintf("key %x", it.Key())}, it.Close(), b.Close())
		}
		generation := binary.BigEndian.Uint32(it.Key())
		if !named[generation] {
			err = errors.Join(err, b.DeleteRange(appendKey(nil, generation, 0), generationEnd(generation), nil))
		}
		ok = it.SeekGE(generationEnd(generation))
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return errors.Join(s.corrupt(err, 0), b.Close())
	}
	return errors.Join(s.db.Apply(b, pebble.Sync), b.Close())
}

// corrupt makes a CorruptError of what Pebble reports as damage.
func (s *pebbleShelf) corrupt(err error, index uint64) error {
	if pebble.IsCorruptionError(err) {
		return &CorruptError{Index: index, What: "reading it", Err: err}
	}
	return fmt.Errorf("raftlog: read: %w", err)
}

// value returns the checked content of a record, nil if there is none.
func (s *pebbleShelf) value(from pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.corrupt(err, 0)
	}
	content, err := unseal(key, append([]byte(nil), v...))
	if err != nil {
		err = &CorruptError{What: "a record", Err: err}
	}
	return content, errors.Join(err, closer.Close())
}

func (s *pebbleShelf) generation() uint32 {
	g := s.next.Add(1) - 1
	// Everything written under g comes later in the same log, so the counter
	// needs no sync of its own. A higher one may come first; it is kept.
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return g
	}
	key := appendKey(nil, 0, kindCounter)
	if err := s.db.Set(key, sealed(key, binary.BigEndian.AppendUint32(nil, s.next.Load())), pebble.NoSync); err != nil {
		fatal(s.disk.opts, fmt.Errorf("raftlog: count generations: %w", err))
	}
	return g
}

func (s *pebbleShelf) copies() (map[uint64]copyRecord, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: appendKey(nil, 0, kindCopy), UpperBound: appendKey(nil, 0, kindCopy+1)})
	if err != nil {
		return nil, s.corrupt(err, 0)
	}
	found := map[uint64]copyRecord{}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var content []byte
		var r copyRecord
		if content, err = unseal(it.Key(), it.Value()); err == nil {
			if r, err = parseCopy(content); err == nil {
				found[binary.BigEndian.Uint64(it.Key()[5:])] = r
			}
		}
	}
	if err != nil {
		return nil, errors.Join(&CorruptError{What: "the record of a copy", Err: err}, it.Close())
	}
	if err = errors.Join(it.Error(), it.Close()); err != nil {
		return nil, s.corrupt(err, 0)
	}
	return found, nil
}

func (s *pebbleShelf) scan(generation uint32, r cluster.Range, yield func(*pb.Entry) bool) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return ErrClosed
	}
	return s.scanFrom(s.db, generation, r, yield)
}

func (s *pebbleShelf) scanFrom(from pebble.Reader, generation uint32, r cluster.Range, yield func(*pb.Entry) bool) error {
	if r.Hi == r.Lo+1 {
		return s.scanOne(from, generation, r.Lo, yield)
	}
	it, err := from.NewIterWithContext(context.Background(), &pebble.IterOptions{
		LowerBound: appendEntryKey(nil, generation, r.Lo),
		UpperBound: appendEntryKey(nil, generation, r.Hi),
	})
	if err != nil {
		return s.corrupt(err, r.Lo)
	}
	at := r.Lo
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(s.corrupt(err, at), it.Close())
		}
		e, err := parseEntry(it.Key(), append([]byte(nil), v...))
		if err != nil {
			return errors.Join(&CorruptError{Index: at, What: "its record", Err: err}, it.Close())
		}
		at = e.GetIndex() + 1
		if !yield(e) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return s.corrupt(err, at)
	}
	return nil
}

func (s *pebbleShelf) scanOne(from pebble.Reader, generation uint32, index uint64, yield func(*pb.Entry) bool) error {
	key := appendEntryKey(make([]byte, 0, entryKeySize), generation, index)
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return s.corrupt(err, index)
	}
	e, err := parseEntry(key, append([]byte(nil), v...))
	if err != nil {
		return errors.Join(&CorruptError{Index: index, What: "its record", Err: err}, closer.Close())
	}
	yield(e)
	return closer.Close()
}

// outline is what Pebble knows of a log but its entries.
func (s *pebbleShelf) outline(generation uint32) (view, error) {
	v := view{generation: generation}
	content, err := s.value(s.db, appendKey(nil, generation, kindEdge))
	if err != nil {
		return v, err
	}
	e, err := parseEdge(content)
	if err != nil {
		return v, &CorruptError{What: "its edge", Err: err}
	}
	v.applied, v.first, v.conf = e.applied, e.first, e.conf
	v.last = v.first - 1
	v.terms.add(v.last, e.termBefore)
	if content, err = s.value(s.db, appendKey(nil, generation, kindHard)); err != nil {
		return v, err
	}
	if content != nil {
		if v.hard, err = parseHard(content); err != nil {
			return v, &CorruptError{What: "its hard state", Err: err}
		}
	}
	return v, nil
}

func (s *pebbleShelf) recover(generation uint32) (view, error) {
	v, err := s.outline(generation)
	if err != nil {
		return v, err
	}
	var broken error
	err = s.scan(generation, cluster.Range{Lo: v.first, Hi: 1<<64 - 1}, func(e *pb.Entry) bool {
		if e.GetIndex() != v.last+1 || e.GetTerm() < v.terms.last() {
			broken = &CorruptError{Index: v.last + 1, What: fmt.Sprintf("the log goes on with entry %d of term %d", e.GetIndex(), e.GetTerm())}
			return false
		}
		v.last++
		v.terms.add(v.last, e.GetTerm())
		return true
	})
	return v, errors.Join(err, broken)
}

func (s *pebbleShelf) close() error { return s.closeWith(func() error { return nil }) }

// closeWith closes something else as well, when nobody uses either any more.
func (s *pebbleShelf) closeWith(other func() error) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.life.closed {
		return nil
	}
	s.life.closed = true
	errs := []error{other()}
	s.life.pins.Lock()
	defer s.life.pins.Unlock()
	for c := range s.life.captures {
		errs = append(errs, c.snapshot.Close())
	}
	s.life.captures = nil
	return errors.Join(append(errs, s.db.Close())...)
}

// pebbleLogger hands Pebble's reports on. Fatalf does not return: Pebble's own
// callers go on as if all were well.
type pebbleLogger struct{ opts *Options }

func (l *pebbleLogger) Infof(format string, args ...any) {
	if l.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		l.opts.Logger.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.opts.Logger.Error("pebble: " + fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	fatal(l.opts, fmt.Errorf("raftlog: pebble: "+format, args...))
}
