package server

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

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

	mu     sync.Mutex
	byMode map[realm.Durability]*raftlog.Engine
}

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

// create makes a copy unless there is one.
func (e *engines) create(d realm.Durability, id, replica uint64, voters []uint64) error {
	eng, err := e.engine(d)
	if err != nil {
		return err
	}
	if have, err := e.has(eng, id); err != nil || have {
		return err
	}
	_, err = eng.Create(id, raftlog.Copy{ReplicaID: replica, Voters: voters})
	return err
}

// exists reports whether there is, or once was, a copy.
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
			return true, nil
		}
	}
	return false, nil
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
	return eng.Remove(id)
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
