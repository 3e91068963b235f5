package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/raftlog"
	"github.com/perdure/perdure/realm"
)

// syncEngine holds the realm group, whatever the clusters' modes.
const syncEngine = realm.Sync

// engines are the log engines of a server: one for each durability mode, so that
// one sync serves all groups of it.
type engines struct {
	dir       string
	networkFS bool
	logger    *slog.Logger

	mu       sync.Mutex
	byMode   map[realm.Durability]*raftlog.Engine
	interval time.Duration // of the async engine; 0 is its default
	noted    []uint64      // what copiesFile says, nil before it was read
}

// copiesFile lists the copies that engines of this directory hold. An engine
// knows its own, but its directory may be lost by itself, or its disk not be
// mounted; an empty engine must not take its place.
const copiesFile = "copies.json"

var engineModes = map[realm.Durability]raftlog.Mode{
	realm.Memory: raftlog.Memory, realm.Async: raftlog.Async, realm.Sync: raftlog.Sync,
}

// engine returns the engine of a mode, which is opened when first needed.
func (e *engines) engine(d realm.Durability) (*raftlog.Engine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if eng := e.byMode[d]; eng != nil {
		return eng, nil
	}
	eng, err := raftlog.Open(raftlog.Options{
		Dir: filepath.Join(e.dir, d.String()), Mode: engineModes[d], Logger: e.logger.With("engine", d.String()), AllowNetworkFS: e.networkFS,
	})
	if err != nil {
		return nil, err
	}
	e.byMode[d] = eng
	return eng, nil
}

// copyID names a replica's copy in an engine: two replicas of one group may live
// on one server.
func copyID(group, replica uint64) uint64 { return group<<16 | replica&0xffff }

// create makes a copy unless there is one, or was.
func (e *engines) create(d realm.Durability, id, replica uint64, voters []uint64) error {
	eng, err := e.engine(d)
	if err != nil {
		return err
	}
	if have, err := e.has(eng, id); err != nil || have {
		return err
	}
	if _, err = eng.Create(id, raftlog.Copy{ReplicaID: replica, Voters: voters}); err != nil {
		return err
	}
	return e.note(id, true)
}

// exists reports whether there is, or once was, a copy. One that was noted and
// that its engine does not know is an error.
func (e *engines) exists(d realm.Durability, id uint64) (bool, error) {
	eng, err := e.engine(d)
	if err != nil {
		return false, err
	}
	return e.has(eng, id)
}

func (e *engines) has(eng *raftlog.Engine, id uint64) (bool, error) {
	groups, err := eng.Groups()
	if err != nil {
		return false, err
	}
	for _, g := range groups {
		if g.ID == id {
			// The process may have ended between making the copy and noting it.
			return true, e.note(id, true)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	noted, err := e.readNotes()
	if err == nil && slices.Contains(noted, id) {
		err = fmt.Errorf("%w: the local copy of group %d is in %s, and not in its engine's directory; is a disk not mounted?",
			cluster.ErrMayHaveForgotten, id, filepath.Join(e.dir, copiesFile))
	}
	return false, err
}

// note adds a copy to the list, or takes it away, durably.
func (e *engines) note(id uint64, there bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	noted, err := e.readNotes()
	if err != nil || slices.Contains(noted, id) == there {
		return err
	}
	next := slices.DeleteFunc(slices.Clone(noted), func(have uint64) bool { return have == id })
	if there {
		next = append(next, id)
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := writeFile(e.dir, copiesFile, data); err != nil {
		return err
	}
	e.noted = next
	return nil
}

// readNotes returns the list. mu is held.
func (e *engines) readNotes() ([]uint64, error) {
	if e.noted != nil {
		return e.noted, nil
	}
	path := filepath.Join(e.dir, copiesFile)
	noted := []uint64{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &noted)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data: %s cannot be read: %w; restore it from a backup of the directory", path, err)
	}
	e.noted = noted
	return noted, nil
}

// open returns the log of a copy. One that may have forgotten is refused: its
// replica must not take part.
func (e *engines) open(d realm.Durability, id uint64) (*raftlog.Log, error) {
	eng, err := e.engine(d)
	if err != nil {
		return nil, err
	}
	log, err := eng.Open(id)
	if err != nil {
		return nil, fmt.Errorf("open the local copy of group %d: %w", id, err)
	}
	return log, log.MayHaveForgotten()
}

// remove deletes a copy.
func (e *engines) remove(d realm.Durability, id uint64) error {
	eng, err := e.engine(d)
	if err != nil {
		return err
	}
	if err := eng.Remove(id); err != nil {
		return err
	}
	return e.note(id, false)
}

// close stops all engines cleanly. Their groups are closed before.
func (e *engines) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, d := range []realm.Durability{realm.Memory, realm.Async, realm.Sync} {
		if eng := e.byMode[d]; eng != nil {
			errs = append(errs, eng.Close())
		}
	}
	e.byMode = nil
	return errors.Join(errs...)
}

// syncs counts the syncs of all engines.
func (e *engines) syncs() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var n uint64
	for _, eng := range e.byMode {
		n += eng.Syncs()
	}
	return n
}

// setSyncInterval gives the async engine the shortest interval that a cluster on
// this server asks for; it is one engine for all of them.
func (e *engines) setSyncInterval(interval time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if eng := e.byMode[realm.Async]; eng != nil && interval != e.interval {
		e.interval = interval
		eng.SetSyncInterval(interval)
	}
}
