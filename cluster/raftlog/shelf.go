package raftlog

import (
	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// shelf is where the bytes of an engine's copies are: Pebble, or memory.
// Its methods may be called from any goroutine.
type shelf interface {
	// commit makes changes in order, as one atomic step. wait asks for what the
	// mode promises; without it the step survives a crash only if a later one
	// with wait does. Failure ends the process.
	commit(changes []*change, wait bool)
	// prepare does beforehand, on the caller's goroutine, what commit can take
	// over. c must not change any more.
	prepare(c *change)
	// copies returns the records of all copies.
	copies() (map[uint64]copyRecord, error)
	// generation returns a number that was never returned before.
	generation() uint32
	// recover reads and checks one copy.
	recover(generation uint32) (view, error)
	// scan yields the entries in r that are there, in order, until yield
	// returns false. Their bytes are the callee's for ever.
	scan(generation uint32, r cluster.Range, yield func(*pb.Entry) bool) error
	// capture pins the copy of a group.
	capture(group uint64) (cluster.Capture, error)
	// close ends every use; later calls return ErrClosed.
	close() error
}

// change is one step of one copy, complete: it can be carried out later without
// a look at the Log that made it.
type change struct {
	group      uint64
	generation uint32 // what the rest is written to

	record *copyRecord // the group's record becomes this
	remove bool        // the group's record goes
	drop   uint32      // this generation goes; 0 is none

	hard    *hardState
	edge    *edge
	cut     cluster.Range // entries that go before the new ones are put
	cold    bool          // entries came with a snapshot: they lie below the first index
	entries []*pb.Entry
	summed  bool // of entries, as cluster.Write has it
	pages   []cluster.Page
	dead    []cluster.Range

	ready *pebble.Batch // made by prepare

	// For the append worker.
	log  *Log
	mark mark
	sync bool
	done func(here bool)
}

// empty says that there is nothing to write.
func (c *change) empty() bool {
	return c.record == nil && !c.remove && c.drop == 0 && c.hard == nil && c.edge == nil &&
		c.cut.Lo >= c.cut.Hi && len(c.entries) == 0 && len(c.pages) == 0 && len(c.dead) == 0
}

// size is about how many bytes the change writes.
func (c *change) size() int {
	n := 64
	for _, e := range c.entries {
		n += len(e.GetData()) + entryHeader + entryKeySize
	}
	if c.ready != nil {
		n += c.ready.Len()
	}
	return n
}
