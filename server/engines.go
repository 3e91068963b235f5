package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
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
	interval time.Duration   // of the async engine; 0 is its default
	noted    map[uint64]bool // what copiesFile says, nil before it was read
	// there are the copies that each engine holds or once held. Only this object
	// makes and removes them, so an engine is asked once.
	there map[realm.Durability]map[uint64]bool
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

// newCopy is a copy to be made.
type newCopy struct {
	id, replica uint64
	voters      []uint64
}

// create makes the copies that are not there, and never were.
func (e *engines) create(d realm.Durability, copies ...newCopy) error {
	eng, err := e.engine(d)
	if err != nil {
		return err
	}
	made := make([]uint64, 0, len(copies))
	for _, c := range copies {
		var there bool
		if there, err = e.exists(d, c.id); err != nil {
			break
		}
		if !there {
			_, err = eng.Create(c.id, raftlog.Copy{ReplicaID: c.replica, Voters: c.voters})
			if e.made(d, c.id, err); err != nil {
				break
			}
		}
		made = append(made, c.id)
	}
	// The process may end between making a copy and noting it: what exists is
	// noted again before it is used.
	return errors.Join(err, e.note(true, made...))
}

// made remembers what became of making a copy. Where somebody else's failed
// meanwhile nothing is remembered: the engine is asked again.
func (e *engines) made(d realm.Durability, id uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch there := e.there[d]; {
	case err != nil:
		e.there[d] = nil // the engine knows how far it came
	case there != nil:
		there[id] = true
	}
}

// exists reports whether there is, or once was, a copy. One that was noted and
// that its engine does not know is an error. Before a copy is used it must have
// been noted.
func (e *engines) exists(d realm.Durability, id uint64) (bool, error) {
	eng, err := e.engine(d)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.there[d] == nil {
		groups, err := eng.Groups()
		if err != nil {
			return false, err
		}
		there := make(map[uint64]bool, len(groups))
		for _, g := range groups {
			there[g.ID] = true
		}
		e.there[d] = there
	}
	if e.there[d][id] {
		return true, nil
	}
	noted, err := e.readNotes()
	if err == nil && noted[id] {
		err = fmt.Errorf("%w: the local copy of group %d is in %s, and not in its engine's directory; is a disk not mounted?",
			cluster.ErrMayHaveForgotten, id, filepath.Join(e.dir, copiesFile))
	}
	return false, err
}

// note adds copies to the list, or takes them away, durably.
func (e *engines) note(there bool, ids ...uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	noted, err := e.readNotes()
	if err != nil || !slices.ContainsFunc(ids, func(id uint64) bool { return noted[id] != there }) {
		return err
	}
	next := maps.Clone(noted)
	for _, id := range ids {
		if there {
			next[id] = true
		} else {
			delete(next, id)
		}
	}
	data, err := json.Marshal(slices.Sorted(maps.Keys(next)))
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
func (e *engines) readNotes() (map[uint64]bool, error) {
	if e.noted != nil {
		return e.noted, nil
	}
	path := filepath.Join(e.dir, copiesFile)
	list := []uint64{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data: %s cannot be read: %w; restore it from a backup of the directory", path, err)
	}
	e.noted = make(map[uint64]bool, len(list))
	for _, id := range list {
		e.noted[id] = true
	}
	return e.noted, nil
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
	e.mu.Lock()
	delete(e.there[d], id)
	e.mu.Unlock()
	return e.note(false, id)
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
