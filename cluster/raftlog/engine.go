package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/journal"
)

// Copy says whose copy a group's log is.
type Copy struct {
	ReplicaID uint64
	Epoch     uint16
	Voters    []uint64 // when it was created; what holds now is in the ConfState
}

// Group is a copy that an engine holds.
type Group struct {
	ID   uint64
	Copy Copy
}

// Engine keeps the copies of all groups of one durability mode. Its methods may
// be called from any goroutine.
type Engine struct {
	opts      Options
	disk      *disk
	lock      io.Closer
	shelf     shelf
	journal   *journalShelf // the shelf, but in mode memory
	watermark *watermark    // nil in mode memory
	queue     *queue        // nil unless mode sync
	cache     cache
	appends   atomic.Uint64
	entries   atomic.Uint64

	stop   func()       // ends and joins the timer
	ticker *time.Ticker // nil before the timer starts

	mu struct {
		sync.Mutex
		registry *registry
		existed  map[uint64]bool // copies from before this open, not replaced since
		logs     map[uint64]*Log
		closed   bool
	}
}

// Create makes a new, empty local copy of a group and returns its log, with c's
// voters as its configuration. A former copy of the group is removed by the same
// step; its Log is closed. When Create returns, the copy is durable, or in mode
// memory the record that it existed is.
func (e *Engine) Create(group uint64, c Copy) (*Log, error) {
	if group == 0 || c.ReplicaID == 0 {
		return nil, fmt.Errorf("raftlog: create group %d replica %d: ids begin at 1", group, c.ReplicaID)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return nil, ErrClosed
	}
	copies, err := e.shelf.copies()
	if err != nil {
		return nil, err
	}
	e.detach(group)
	c.Voters = slices.Clone(c.Voters)
	generation := e.shelf.generation()
	first := edge{first: 1, conf: &pb.ConfState{Voters: c.Voters}}
	e.shelf.commit([]*change{{
		group:      group,
		generation: generation,
		record:     &copyRecord{generation: generation, copy: c},
		edge:       &first,
		drop:       copies[group].generation,
	}}, true)
	if err := e.flush(); err != nil {
		return nil, err
	}
	if e.watermark != nil {
		e.watermark.forget(group)
	}
	e.mu.registry.put(group, c)
	e.mu.registry.Next = generation + 1
	delete(e.mu.existed, group)
	if err := e.mu.registry.save(e.disk, e.opts.Dir); err != nil {
		return nil, err
	}
	v := view{generation: generation, first: 1, conf: first.conf}
	v.terms.add(0, 0)
	l := newLog(e, group, c, v)
	e.mu.logs[group] = l
	return l, nil
}

// Open returns the log of a group, or ErrNoCopy. Damage is a CorruptError. What
// was recovered is durable as far as the mode goes. Opening it again returns the
// same Log.
func (e *Engine) Open(group uint64) (*Log, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return nil, ErrClosed
	}
	if l := e.mu.logs[group]; l != nil {
		return l, nil
	}
	copies, err := e.shelf.copies()
	if err != nil {
		return nil, err
	}
	known := e.mu.registry.find(group)
	r, ok := copies[group]
	if !ok {
		if known == nil {
			return nil, fmt.Errorf("%w: group %d", ErrNoCopy, group)
		}
		return e.openGone(known)
	}
	v, err := e.shelf.recover(r.generation)
	if err != nil {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			corrupt.Group = group
			if known != nil && known.Forgot == "" {
				// What shows the damage may be given back meanwhile.
				known.Forgot = corrupt.Error()
				err = errors.Join(err, e.mu.registry.save(e.disk, e.opts.Dir))
			}
		}
		return nil, err
	}
	if known != nil && known.Forgot == "" && e.mu.existed[group] {
		if why := e.judge(group, v); why != "" {
			known.Forgot = why
			if err := e.mu.registry.save(e.disk, e.opts.Dir); err != nil {
				return nil, err
			}
		}
	}
	l := newLog(e, group, r.copy, v)
	if known != nil {
		l.forgot = known.Forgot
	}
	e.mu.logs[group] = l
	return l, nil
}

// openGone returns an empty log for a copy that is known to have existed and of
// which nothing is left.
func (e *Engine) openGone(known *registryCopy) (*Log, error) {
	if known.Forgot == "" {
		known.Forgot = "nothing of it is left on disk"
		if err := e.mu.registry.save(e.disk, e.opts.Dir); err != nil {
			return nil, err
		}
	}
	v := view{first: 1, conf: &pb.ConfState{}}
	v.terms.add(0, 0)
	l := newLog(e, known.Group, known.copy(), v)
	l.forgot = known.Forgot
	e.mu.logs[known.Group] = l
	return l, nil
}

// judge says why a recovered copy must have forgotten something, or "".
func (e *Engine) judge(group uint64, v view) string {
	if v.applied > v.last {
		return fmt.Sprintf("its state is of entry %d, and its log ends with entry %d", v.applied, v.last)
	}
	if v.hard.commit > v.last {
		return fmt.Sprintf("it knows entry %d to be committed, and its log ends with entry %d", v.hard.commit, v.last)
	}
	if m, ok := e.watermark.get(group); ok {
		return m.missing(v.mark())
	}
	return ""
}

// Groups returns the copies that exist or are known to have existed, ascending.
func (e *Engine) Groups() ([]Group, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return nil, ErrClosed
	}
	copies, err := e.shelf.copies()
	if err != nil {
		return nil, err
	}
	var groups []Group
	for _, c := range e.mu.registry.Copies {
		if _, ok := copies[c.Group]; !ok {
			groups = append(groups, Group{c.Group, c.copy()})
		}
	}
	for id, r := range copies {
		groups = append(groups, Group{id, r.copy})
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return groups, nil
}

// Remove deletes a group's copy, durably. Removing what is not there is no error.
// Its Log is closed.
func (e *Engine) Remove(group uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return ErrClosed
	}
	copies, err := e.shelf.copies()
	if err != nil {
		return err
	}
	e.detach(group)
	if r, ok := copies[group]; ok {
		e.shelf.commit([]*change{{group: group, remove: true, drop: r.generation}}, true)
		if err := e.flush(); err != nil {
			return err
		}
	}
	if e.watermark != nil {
		e.watermark.forget(group)
	}
	delete(e.mu.existed, group)
	e.mu.registry.remove(group)
	return e.mu.registry.save(e.disk, e.opts.Dir)
}

// detach closes the log of a group, if one is open, and waits for its writes.
// e.mu is held.
func (e *Engine) detach(group uint64) {
	if l := e.mu.logs[group]; l != nil {
		l.close()
		delete(e.mu.logs, group)
	}
}

// Close writes what is outstanding and stops cleanly: after it, no copy has
// forgotten anything, but for mode memory. Later calls do nothing. Logs, captures
// and receivers must not be used any more; if they are, they return ErrClosed,
// and appends are dropped without done.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return nil
	}
	e.mu.closed = true
	var last []*change
	for _, l := range e.mu.logs {
		l.close()
		if c := l.rest(); c != nil {
			last = append(last, c)
		}
	}
	if e.queue != nil {
		e.queue.close()
	}
	if e.stop != nil {
		e.stop()
	}
	if len(last) > 0 {
		e.shelf.commit(last, true)
	}
	err := e.shelf.close()
	if err != nil {
		err = fmt.Errorf("raftlog: close: %w", err)
	}
	if e.watermark != nil {
		err = errors.Join(err, e.note(), e.watermark.close())
	}
	if err == nil {
		e.mu.registry.Clean = true
		err = e.mu.registry.save(e.disk, e.opts.Dir)
	}
	e.opts.Logger.Info("log engine closed", slog.String("mode", e.opts.Mode.String()), slog.String("dir", e.opts.Dir))
	return errors.Join(err, e.lock.Close())
}

// note syncs what mode async has deferred and writes the watermark behind it.
func (e *Engine) note() error {
	if e.watermark == nil {
		return nil
	}
	// Taken before the sync: all it says is on disk when it is written.
	slot := e.watermark.take()
	if err := e.flush(); err != nil {
		return err
	}
	if slot != nil {
		if err := e.watermark.write(slot); err != nil {
			return err
		}
	}
	if e.journal != nil {
		return e.journal.tidy()
	}
	return nil
}

// flush puts on disk what was written: the log before what rests on it.
func (e *Engine) flush() error {
	if e.journal != nil {
		if err := e.journal.flush(); err != nil && !errors.Is(err, journal.ErrClosed) {
			return err
		}
	}
	e.disk.syncDeferred()
	return nil
}

var _ cluster.Log = (*Log)(nil)
