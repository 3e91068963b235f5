package cluster

// Now is the time of one input, read by the shell: the core has no clock.
type Now struct {
	Mono int64 // nanoseconds of this process's monotonic clock
	Wall int64 // nanoseconds since 1970; the median of the voters', where known
}

// Entry is one committed entry as a state machine sees it.
type Entry struct {
	Index uint64
	Term  uint64
	// Stamp is the cluster time T of the entry in nanoseconds since 1970. It
	// never falls from one entry to the next.
	Stamp int64
	// Commands are the commands merged into the entry, in order. They alias the
	// entry: a machine may remember where they are, never the slices. Empty for
	// entries that are Raft's own.
	Commands [][]byte
	// Offsets holds, for each command, where it begins in the entry's data, so
	// that Log.Command(Index)[Offsets[i]:] finds it again.
	Offsets []uint32
}

// Machine is what a group replicates. It is called in the group's turns only.
//
// Apply must be deterministic: equal entries leave equal states and give equal
// results on every replica. An error from any method stops the replica before
// anything of the entry is confirmed.
type Machine[R any] interface {
	// Apply applies e, appends one result for each command to out and returns
	// it. It does not wait for a disk.
	Apply(e Entry, out []R) ([]R, error)

	// Changed yields the pages that changed since it was last called, a nil
	// value for a page that is gone, in any order. The slices are valid during
	// the call of yield only. No key is empty or begins with a zero byte.
	Changed(yield func(key, value []byte))
	// Dead yields the indexes of entries that have come to be unneeded since it
	// was last called, each once. Only entries for which Live was once true.
	Dead(yield func(index uint64))
	// Live yields, ascending, the indexes in r of entries that a message needs.
	Live(r Range, yield func(index uint64))
	// Load replaces the state: Reset, then LoadPage for each page, then Loaded.
	Reset()
	LoadPage(key, value []byte) error
	Loaded(applied uint64) error
	// Hash returns the hash of the state, equal on replicas with equal state.
	Hash() uint64
}

// Leading is what a machine does besides while its replica leads. All of it is
// volatile: it may vanish at any moment. It is called in the group's turns only.
type Leading interface {
	// Lead is called when the first entry of the term in which this replica
	// leads was applied: what an earlier leader promised is known by now.
	Lead(term uint64, now Now)
	// Unlead is called when leadership is lost. Lead may follow, never a second
	// Unlead.
	Unlead()
	// Commands appends the commands that the machine wants replicated. riding
	// says that an entry goes out anyway; if false, only what is due at now.
	Commands(dst [][]byte, riding bool, now Now) [][]byte
	// Deadline is when, in Now.Mono, Commands or Settled should run although
	// nothing else happens; 0 is never.
	Deadline() int64
	// Settled is called after a round of inputs: hand out what is owed.
	// quorum says that a majority was heard within the election timeout.
	Settled(quorum bool, now Now)
}
