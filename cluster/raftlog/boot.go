package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/pprof"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const lockFile = "LOCK"

// Open opens the engine in o.Dir, or creates it. Only one engine can have a
// directory at a time: ErrLocked. When it returns, all that was recovered is on
// disk, and the mark of a clean stop is gone from it.
func Open(o Options) (*Engine, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	e := &Engine{opts: o}
	e.mu.logs = map[uint64]*Log{}
	e.mu.existed = map[uint64]bool{}
	e.cache.budget = o.CacheBytes
	e.disk = newDisk(&e.opts)
	if err := makeDir(e.disk, o.Dir); err != nil {
		return nil, err
	}
	if err := e.checkFS(); err != nil {
		return nil, err
	}
	lock, err := e.disk.Lock(e.disk.PathJoin(o.Dir, lockFile))
	if err != nil {
		return nil, &LockedError{Dir: o.Dir, Err: err}
	}
	e.lock = lock
	if err := e.boot(); err != nil {
		if e.shelf != nil {
			err = errors.Join(err, e.shelf.close())
		}
		if e.watermark != nil {
			err = errors.Join(err, e.watermark.close())
		}
		return nil, errors.Join(err, lock.Close())
	}
	if o.Mode == Sync {
		e.queue = newQueue(e)
	}
	if o.Mode != Memory {
		e.stop = e.every(o.SyncInterval)
	}
	return e, nil
}

// checkFS refuses network file systems.
func (e *Engine) checkFS() error {
	if e.opts.AllowNetworkFS || vfs.Root(e.opts.FS) != vfs.Default {
		return nil
	}
	kind, err := networkFS(e.opts.Dir)
	if err != nil {
		return err
	}
	if kind != "" {
		return fmt.Errorf("%w: %s is on %s: use a local disk, or allow network file systems if you know that its syncs and locks hold", ErrNetworkFS, e.opts.Dir, kind)
	}
	return nil
}

// boot reads the registry, decides what the copies may have forgotten, writes
// that down, and opens the data.
func (e *Engine) boot() error {
	r, err := loadRegistry(e.disk, e.opts.Dir)
	if err != nil {
		return err
	}
	data := e.disk.PathJoin(e.opts.Dir, dataDir)
	have, err := exists(e.disk, data)
	if err != nil {
		return err
	}
	if r == nil {
		if have {
			return &CorruptError{What: fmt.Sprintf("%s exists and %s does not", data, e.disk.PathJoin(e.opts.Dir, registryFile))}
		}
		r = &registry{Mode: e.opts.Mode.String(), Next: 1, Clean: true}
	}
	if r.Mode != e.opts.Mode.String() {
		return fmt.Errorf("raftlog: %s holds mode %s, and mode %s was asked for: give each mode a directory of its own", e.opts.Dir, r.Mode, e.opts.Mode)
	}
	e.mu.registry = r
	e.identify(r)
	for _, c := range r.Copies {
		e.mu.existed[c.Group] = true
	}
	// From here on a crash is not a clean stop; and what was found out about
	// forgetting is known to every later start, whatever its boot id.
	if err := r.save(e.disk, e.opts.Dir); err != nil {
		return err
	}
	if e.opts.Mode == Memory {
		e.shelf = newMemoryShelf(r.Next)
		return nil
	}
	if err := e.openData(data, have); err != nil {
		return err
	}
	e.opts.Logger.Info("log engine open", slog.String("mode", r.Mode), slog.String("dir", e.opts.Dir), slog.Int("copies", len(r.Copies)))
	return nil
}

// identify notes the boot of the machine and the device in r, and marks the
// copies that a former boot, or a former process, may have kept from the disk.
func (e *Engine) identify(r *registry) {
	boot, err := e.opts.BootID()
	if err != nil {
		e.opts.Logger.Warn("log engine: boot id unknown, so only a clean stop is trusted", slog.Any("err", err))
		boot = ""
	}
	device := ""
	if info, err := e.disk.Stat(e.opts.Dir); err == nil {
		device = info.DeviceID().String()
	}
	why := ""
	switch {
	case e.opts.Mode == Memory:
		why = "its memory ended with the process that held it"
	case e.opts.Mode == Sync || r.Clean:
	case boot == "" || r.Boot == "":
		why = "there was no clean stop, and it is unknown whether the machine restarted"
	case boot != r.Boot:
		why = "there was no clean stop, and the machine has restarted since"
	case device != r.Device:
		why = "there was no clean stop, and the directory is on another device since"
	}
	if why != "" {
		e.suspect(why)
		r.Torn = e.opts.Mode == Async
	}
	r.Boot, r.Device, r.Clean = boot, device, false
}

// suspect marks all copies that are not marked yet.
func (e *Engine) suspect(why string) {
	for i := range e.mu.registry.Copies {
		if c := &e.mu.registry.Copies[i]; c.Forgot == "" {
			c.Forgot = why
			e.opts.Logger.Warn("a copy may have forgotten what it promised", slog.Uint64("group", c.Group), slog.Uint64("replica", c.Replica), slog.String("why", why))
		}
	}
}

// openData opens Pebble and the watermark.
func (e *Engine) openData(data string, have bool) error {
	r := e.mu.registry
	w, lost, err := openWatermark(e.disk, e.opts.Dir)
	if err != nil {
		return err
	}
	e.watermark = w
	if lost {
		e.suspect("the note of what it had promised is damaged")
	}
	if r.Ready && !have {
		e.suspect("its data was removed")
		r.Ready = false
	}
	s, err := e.openShelf(data)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && e.opts.SetAside {
		e.opts.Logger.Error("log engine: damaged data is set aside", slog.Any("err", err))
		if err = e.setAside(data); err == nil {
			s, err = e.openShelf(data)
		}
	}
	if err != nil {
		return err
	}
	e.shelf = s
	if err := e.reconcile(); err != nil {
		return err
	}
	if err := w.fill(); err != nil {
		return err
	}
	r.Ready, r.Torn = true, false
	return r.save(e.disk, e.opts.Dir)
}

// reconcile brings the registry up to copies that a Create had made when it was
// cut short: nobody was promised anything under them yet.
func (e *Engine) reconcile() error {
	copies, err := e.shelf.copies()
	if err != nil {
		return err
	}
	for group, r := range copies {
		if known := e.mu.registry.find(group); known == nil || known.Replica != r.copy.ReplicaID {
			e.mu.registry.put(group, r.copy)
		}
		e.mu.existed[group] = true
	}
	return nil
}

// openShelf opens the data, or makes it anew if it was never whole.
func (e *Engine) openShelf(data string) (shelf, error) {
	if e.mu.registry.Ready {
		if e.mu.registry.Torn {
			if err := cutTail(e.disk, data); err != nil {
				return nil, err
			}
		}
		return e.openBytes(data, false)
	}
	if err := e.disk.RemoveAll(data); err != nil && !oserror.IsNotExist(err) {
		return nil, fmt.Errorf("raftlog: remove what was never used of %s: %w", data, err)
	}
	if err := makeDir(e.disk, data); err != nil {
		return nil, err
	}
	return e.openBytes(data, true)
}

// openBytes opens Pebble and the journal.
func (e *Engine) openBytes(data string, created bool) (shelf, error) {
	s, err := openPebble(e.disk, data, created)
	if err != nil {
		return nil, err
	}
	if e.opts.inPebble {
		return s, nil
	}
	j, err := openJournal(s, data, rand.Uint32(), e.opts.SegmentBytes)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	e.journal = j
	return j, nil
}

// setAside moves the data to a free name beside it. That the copies are gone is
// on disk before they are.
func (e *Engine) setAside(data string) error {
	e.suspect("its data was damaged and is set aside")
	e.mu.registry.Ready = false
	if err := e.mu.registry.save(e.disk, e.opts.Dir); err != nil {
		return err
	}
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.corrupt-%d", data, n)
		taken, err := exists(e.disk, aside)
		if err != nil {
			return err
		}
		if taken {
			continue
		}
		if err := e.disk.Rename(data, aside); err != nil {
			return fmt.Errorf("raftlog: set %s aside: %w", data, err)
		}
		return syncDir(e.disk, e.opts.Dir)
	}
}

// every runs note in intervals until the function it returns is called.
func (e *Engine) every(interval time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	ticker := time.NewTicker(interval)
	e.ticker = ticker
	go pprof.Do(ctx, pprof.Labels("perdure", "log-timer"), func(ctx context.Context) {
		defer close(done)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := e.note(); err != nil {
					fatal(&e.opts, err)
				}
			}
		}
	})
	return func() {
		cancel()
		<-done
	}
}

// SetSyncInterval changes Options.SyncInterval of a running engine. The next
// sync is one interval from now.
func (e *Engine) SetSyncInterval(interval time.Duration) {
	if e.ticker != nil && interval > 0 {
		e.ticker.Reset(interval)
	}
}
