package raftlog

import (
	"errors"
	"fmt"

	"github.com/perdure/perdure/cluster"
)

var (
	// ErrCorrupt means that stored data is damaged. Errors of this kind are
	// [CorruptError]s.
	ErrCorrupt = errors.New("raftlog: stored data is corrupt")
	// ErrLocked means that another process, or another engine of this one, uses
	// the directory. Errors of this kind are [LockedError]s.
	ErrLocked = errors.New("raftlog: directory is in use")
	// ErrClosed means that the engine, or this copy of the group, was closed.
	ErrClosed = errors.New("raftlog: closed")
	// ErrNoCopy means that the engine holds no copy of the group.
	ErrNoCopy = errors.New("raftlog: no copy of this group")
	// ErrNetworkFS means that the directory is on a network file system.
	ErrNetworkFS = errors.New("raftlog: directory is on a network file system")
)

// CorruptError says what is damaged. It matches ErrCorrupt and, because a copy
// that lost anything must not vote, cluster.ErrMayHaveForgotten.
type CorruptError struct {
	Group uint64 // 0: every group of the engine
	Index uint64 // of the entry, if it is one; else 0
	What  string
	Err   error // what was found, if anything below said so
}

func (e *CorruptError) Error() string {
	where := "all groups"
	if e.Group != 0 {
		where = fmt.Sprintf("group %d", e.Group)
	}
	if e.Index != 0 {
		where += fmt.Sprintf(" entry %d", e.Index)
	}
	s := fmt.Sprintf("%v: %s: %s; let its peers replace this replica", ErrCorrupt, where, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes the error match ErrCorrupt and cluster.ErrMayHaveForgotten.
func (e *CorruptError) Is(target error) bool {
	return target == ErrCorrupt || target == cluster.ErrMayHaveForgotten
}

func (e *CorruptError) Unwrap() error { return e.Err }

// LockedError names the directory that is in use. It matches ErrLocked.
type LockedError struct {
	Dir string
	Err error
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("raftlog: directory %s is in use by another process: stop that process, or give this one a directory of its own: %v", e.Dir, e.Err)
}

// Is makes the error match ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

func (e *LockedError) Unwrap() error { return e.Err }
