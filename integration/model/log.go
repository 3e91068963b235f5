package model

// Entry is a committed entry as a replica applied it. The sums are hashes of
// its content, of what its commands were answered, and of the state after it.
type Entry struct {
	Index, Term uint64
	Stamp       int64
	Content     uint64
	Results     uint64
	State       uint64
}

// replicated is what is known of the log and of those who keep it.
type replicated struct {
	leaders map[uint64]uint64 // term -> replica
	written map[slot]written
	applied []Entry // of index i at i-1
	at      map[uint64]*copyOf
	states  map[uint64]uint64 // index -> sum of the state, also of loaded ones
}

type slot struct{ index, term uint64 }

type written struct{ content, before uint64 }

// copyOf is one replica in its present incarnation.
type copyOf struct{ applied, commit, first uint64 }

func newReplicated() replicated {
	return replicated{
		leaders: make(map[uint64]uint64),
		written: make(map[slot]written),
		at:      make(map[uint64]*copyOf),
		states:  make(map[uint64]uint64),
	}
}

// Leads says that a replica acts as the leader of a term.
func (j *Judge) Leads(term, replica uint64) {
	if was, ok := j.log.leaders[term]; ok && was != replica {
		j.Failf("two leaders in term %d: replicas %d and %d", term, was, replica)
	}
	j.log.leaders[term] = replica
}

// Written says that a replica wrote an entry to its log behind one of term
// before. One place and term has one content everywhere (log matching).
func (j *Judge) Written(replica, index, term, content, before uint64) {
	w := written{content, before}
	if was, ok := j.log.written[slot{index, term}]; ok && was != w {
		j.Failf("log matching: replica %d writes entry %d of term %d with content %016x behind term %d, another has %016x behind term %d",
			replica, index, term, content, before, was.content, was.before)
	}
	j.log.written[slot{index, term}] = w
}

// Began says that a replica started, or installed a snapshot: its state is that
// at applied, with this sum. Content that was applied never changes, so the sum
// must be known, unless nothing was applied yet.
func (j *Judge) Began(replica, applied, state uint64, installed bool) {
	c := j.log.at[replica]
	if c == nil || !installed {
		c = &copyOf{}
		j.log.at[replica] = c
	}
	if applied > uint64(len(j.log.applied)) {
		j.Failf("replica %d loads the state at %d; nobody applied more than %d", replica, applied, len(j.log.applied))
	}
	if installed && applied <= c.applied {
		j.Failf("replica %d installs a snapshot at %d and had applied %d", replica, applied, c.applied)
	}
	if was, ok := j.log.states[applied]; ok && was != state {
		j.Failf("replica %d loads the state at %d: hash %016x, want %016x", replica, applied, state, was)
	}
	c.applied = applied
}

// Applied says that a replica applied an entry. It reports whether it is the
// first to do so.
func (j *Judge) Applied(replica uint64, e Entry) (first bool) {
	c := j.log.at[replica]
	if c == nil || e.Index != c.applied+1 {
		j.Failf("replica %d applies entry %d out of order", replica, e.Index)
		return false
	}
	c.applied = e.Index
	if e.Index <= uint64(len(j.log.applied)) {
		j.same(replica, j.log.applied[e.Index-1], e)
		return false
	}
	if n := len(j.log.applied); n > 0 {
		last := j.log.applied[n-1]
		if e.Term < last.Term || e.Stamp < last.Stamp {
			j.Failf("entry %d has term %d and stamp %d, the one before %d and %d", e.Index, e.Term, e.Stamp, last.Term, last.Stamp)
		}
	}
	j.log.applied = append(j.log.applied, e)
	j.log.states[e.Index] = e.State
	return true
}

// same compares what two replicas applied at one index.
func (j *Judge) same(replica uint64, want, got Entry) {
	switch {
	case want.Term != got.Term || want.Content != got.Content || want.Stamp != got.Stamp:
		j.Failf("entry %d changed: replica %d applies term %d stamp %d content %016x; it was term %d stamp %d content %016x",
			got.Index, replica, got.Term, got.Stamp, got.Content, want.Term, want.Stamp, want.Content)
	case want.Results != got.Results:
		j.Failf("entry %d of term %d gives other results on replica %d", got.Index, got.Term, replica)
	case want.State != got.State:
		j.Failf("state diverges at entry %d of term %d: replica %d has hash %016x, want %016x", got.Index, got.Term, replica, got.State, want.State)
	}
}

// At says where a replica stands: its commit index and the first index of its
// log. Neither falls while it runs.
func (j *Judge) At(replica, commit, first uint64) {
	c := j.log.at[replica]
	if c == nil {
		return
	}
	switch {
	case commit < c.commit:
		j.Failf("commit of replica %d falls from %d to %d", replica, c.commit, commit)
	case first < c.first:
		j.Failf("first index of replica %d falls from %d to %d", replica, c.first, first)
	case c.applied > commit:
		j.Failf("replica %d applied %d, only %d is committed", replica, c.applied, commit)
	}
	c.commit, c.first = commit, first
}

// StampOf returns the stamp of an entry that was applied.
func (j *Judge) StampOf(index uint64) int64 {
	if index == 0 || index > j.Last() {
		return 0
	}
	return j.log.applied[index-1].Stamp
}

// Last returns the highest index that any replica applied.
func (j *Judge) Last() uint64 { return uint64(len(j.log.applied)) }

// AppliedBy returns what a replica has applied.
func (j *Judge) AppliedBy(replica uint64) uint64 {
	if c := j.log.at[replica]; c != nil {
		return c.applied
	}
	return 0
}
