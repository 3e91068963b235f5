package cluster

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// ErrMayHaveForgotten means that a replica's local copy may lack something it
// promised: its memory is gone, its tail may be, or its directory is empty
// although the group knows the replica. It must not take part under its old
// replica id (see doc.go, "The right to vote").
var ErrMayHaveForgotten = errors.New("cluster: this replica may have forgotten what it promised")

// ErrCollected means that the bytes of an entry were given back because no
// message in it is needed any more.
var ErrCollected = errors.New("cluster: entry was collected")

// Log is one replica's local copy of its group: the Raft log, whose entries are
// the stored messages, and the pages of the state machine's last checkpoint. It
// has two edges. The first index ([raft.Storage.FirstIndex]) is what Raft may
// ask for: from there on the log has no holes. Below it only entries live on
// that a message still needs; they are read with Command until a checkpoint
// names them dead.
//
// Reading methods ([raft.Storage], Command, Capture) may be called from any
// goroutine; the others by the group's own loop only. Bytes handed to a Log may
// be kept by it and must not be changed afterwards; bytes it returns are shared
// and must not be changed either. A write that fails ends the process: safety
// never rests on a retry (fsyncgate).
type Log interface {
	raft.Storage

	// Append writes w as one atomic step, and runs done when w survives what
	// the engine's mode promises. For one group, writes take effect and done
	// runs in the order of the calls. done runs before Append returns if the
	// engine writes inline (memory, async), else on the engine's append worker or
	// within Work; it must not block. here says that it runs in a call of the
	// group's, of Append or Work. After done, reads see the write; before, they may.
	// waits says that w was appended with Here and is left for Work.
	Append(w Write, done func(here bool)) (waits bool)

	// Work writes what waits for it, on the calling goroutine and to the disk, and
	// reports true. Unless others wait too or the append worker is at work: then it
	// leaves all to that one. Whoever was told that something waits must call it
	// soon, and not in a turn of the group: the disk may take its time. It may be
	// called by any goroutine.
	Work() bool

	// Checkpoint writes c as one atomic step without waiting for the disk. It
	// survives a crash only if every Append before it survives.
	Checkpoint(c Checkpoint) error

	// Pages yields the key and value of every page of the state, and returns
	// the index at which it was taken; 0 and no page for a new copy. The slices
	// are valid during the call of yield only.
	Pages(yield func(key, value []byte) error) (applied uint64, err error)

	// Command returns the data of the entry at index, also below the first
	// index, or ErrCollected.
	Command(index uint64) ([]byte, error)

	// Capture pins a consistent view of the copy as of its last checkpoint, to
	// be streamed to another replica or saved. Creating it is cheap. No space is
	// given back of what it pins.
	Capture() (Capture, error)

	// Receive begins a new generation, to be filled from a snapshot and then
	// installed by Append. At most one is open; a new call discards the former.
	Receive(meta *pb.SnapshotMetadata) (Receiver, error)
}

// Write is one atomic change of a Log.
type Write struct {
	// HardState is nil when unchanged. A write of nothing but a new Commit
	// need not be synced, nor even reach the disk before the next write.
	HardState *pb.HardState
	// Entries replace whatever the log holds from Entries[0].Index on,
	// including everything above the last of them.
	Entries []*pb.Entry
	// Summed says that an entry which looks as if it carried its checksum (see
	// EntrySum) does: it was computed or checked where the entry came from, and the
	// log may take it for its own.
	Summed bool
	// Here says that the caller will call Work, if Append asks for it.
	Here bool
	// Install, if not nil, makes the received generation the current one: its
	// pages, its live entries, a log that is empty and begins after the
	// snapshot, HardState and then Entries, in one switch.
	Install Receiver
}

// Checkpoint is state and edges at one applied index.
type Checkpoint struct {
	Applied   uint64
	ConfState *pb.ConfState // of Applied
	// Pages changed since the last checkpoint; a nil Value deletes the page.
	Pages []Page
	// First is the new first index, at most Applied+1. It never falls; the
	// index and term before it are kept, so that Raft can match on them.
	First uint64
	// Dead are entries below First that no message needs: their bytes go, and
	// not before the checkpoint that says so is as durable as they were.
	Dead []Range
}

// Page is one piece of a state machine's state.
type Page struct{ Key, Value []byte }

// Range is the indexes from Lo on and below Hi.
type Range struct{ Lo, Hi uint64 }

func (r Range) String() string { return fmt.Sprintf("[%d,%d)", r.Lo, r.Hi) }

// Capture is a pinned view of a Log at a checkpoint.
type Capture interface {
	// Applied is the index of the checkpoint.
	Applied() uint64
	// Pages yields the state, as Log.Pages does.
	Pages(yield func(key, value []byte) error) error
	// Entries yields the entries in live, in order, that are at or below
	// Applied. An entry that is not there is an error: the view is pinned.
	Entries(live []Range, yield func(index uint64, data []byte) error) error
	// Close releases the pin.
	Close() error
}

// Receiver is a generation being filled. It is invisible until installed.
type Receiver interface {
	Meta() *pb.SnapshotMetadata
	Page(key, value []byte) error
	// Entry adds the data of an entry at or below the snapshot's index.
	Entry(index uint64, data []byte) error
	// Abort discards it. After an install it does nothing.
	Abort() error
}
