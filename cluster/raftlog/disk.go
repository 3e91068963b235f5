package raftlog

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// exit is the default of Options.Fatal.
func exit(error) { os.Exit(3) }

// fatal logs err and ends the process. It never returns: whoever failed must
// not go on, because nobody knows what the disk holds now.
func fatal(o *Options, err error) {
	o.Logger.Error("disk failed: the process ends, because what was not synced cannot be trusted", slog.Any("err", err))
	o.Fatal(err)
	select {}
}

// disk is the file system under an engine. It makes a failed write or sync end
// the process, counts syncs, and in mode async defers those of Pebble's log:
// the data is with the operating system at once, and on disk when syncDeferred
// or Close has run.
//
// pebble.NoSync would not do for mode async: it keeps up to 32 KiB in the
// memory of the process, and a killed process would lose it.
type disk struct {
	vfs.FS
	opts   *Options
	defers bool

	syncs    atomic.Uint64
	syncTime atomic.Int64
	slowest  atomic.Int64
	written  atomic.Uint64

	mu struct {
		sync.Mutex
		dirty map[*deferredFile]struct{}
	}
}

func newDisk(o *Options) *disk {
	d := &disk{FS: o.FS, opts: o, defers: o.Mode == Async}
	d.mu.dirty = map[*deferredFile]struct{}{}
	return d
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// Create implements vfs.FS.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(name)(d.FS.Create(name, category))
}

// OpenReadWrite implements vfs.FS.
func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.wrap(name)(d.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite implements vfs.FS.
func (d *disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(newname)(d.FS.ReuseForWrite(oldname, newname, category))
}

// OpenDir implements vfs.FS.
func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

func (d *disk) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		df := &diskFile{File: f, disk: d, name: name}
		if d.defers && isLogFile(name) {
			return &deferredFile{diskFile: df}, nil
		}
		return df, nil
	}
}

func isLogFile(name string) bool { return strings.HasSuffix(name, ".log") }

// syncDeferred syncs what mode async has deferred.
func (d *disk) syncDeferred() {
	d.mu.Lock()
	dirty := make([]*deferredFile, 0, len(d.mu.dirty))
	for f := range d.mu.dirty {
		dirty = append(dirty, f)
		delete(d.mu.dirty, f)
	}
	d.mu.Unlock()
	for _, f := range dirty {
		f.flush()
	}
}

// diskFile turns failure into the end of the process.
type diskFile struct {
	vfs.File
	disk *disk
	name string
	part [][]byte // of WriteVec, which runs on one goroutine at a time
}

func (f *diskFile) fail(what string, err error) {
	fatal(f.disk.opts, fmt.Errorf("raftlog: %s %s: %w", what, f.name, err))
}

// Write implements vfs.File. A full disk is not fatal while Pebble rewrites
// tables: it tries again, and collecting may have made room.
func (f *diskFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.disk.written.Add(uint64(n))
	if err != nil && (isLogFile(f.name) || !vfs.IsNoSpaceError(err)) {
		f.fail("write", err)
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.disk.written.Add(uint64(n))
	if err != nil {
		f.fail("write", err)
	}
	return n, err
}

// Sync implements vfs.File.
func (f *diskFile) Sync() error {
	defer f.disk.timed(time.Now())
	err := f.File.Sync()
	if err != nil {
		f.fail("sync", err)
	}
	return err
}

// SyncData implements vfs.File.
func (f *diskFile) SyncData() error {
	defer f.disk.timed(time.Now())
	err := f.File.SyncData()
	if err != nil {
		f.fail("sync", err)
	}
	return err
}

// SyncTo implements vfs.File.
func (f *diskFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	if err != nil {
		f.fail("sync", err)
	}
	return full, err
}

func (d *disk) timed(start time.Time) {
	took := int64(time.Since(start))
	d.syncs.Add(1)
	d.syncTime.Add(took)
	for {
		was := d.slowest.Load()
		if took <= was || d.slowest.CompareAndSwap(was, took) {
			return
		}
	}
}

// deferredFile is a log file of mode async.
type deferredFile struct {
	*diskFile
	mu struct {
		sync.Mutex // held while syncing or closing
		closed     bool
	}
}

// later remembers that the file wants a sync.
func (f *deferredFile) later() {
	f.disk.mu.Lock()
	f.disk.mu.dirty[f] = struct{}{}
	f.disk.mu.Unlock()
}

// flush syncs the file, beside writes to it, unless it is closed.
func (f *deferredFile) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.closed {
		// The error has ended the process already.
		_ = f.diskFile.SyncData()
	}
}

// Sync defers.
func (f *deferredFile) Sync() error { f.later(); return nil }

// SyncData defers.
func (f *deferredFile) SyncData() error { f.later(); return nil }

// SyncTo defers. It does not claim a full sync.
func (f *deferredFile) SyncTo(int64) (bool, error) { f.later(); return false, nil }

// Close syncs in truth: the next log file must not reach the disk before this.
func (f *deferredFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk.mu.Lock()
	delete(f.disk.mu.dirty, f)
	f.disk.mu.Unlock()
	f.mu.closed = true
	if err := f.diskFile.Sync(); err != nil {
		return err
	}
	return f.diskFile.Close()
}
