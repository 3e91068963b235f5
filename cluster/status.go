package cluster

import (
	"context"
	"strconv"

	"go.etcd.io/raft/v3"
)

// Status describes a replica at one moment.
type Status struct {
	Replica uint64
	Leader  uint64 // replica id
	Role    string
	Term    uint64
	Commit  uint64
	Applied uint64
	First   uint64
	Last    uint64
	Hash    uint64 // of the state at Applied
	Quorum  bool
	Match   map[uint64]uint64 // on the leader: replica id -> last index known to be there
}

// Status asks the loop.
func (g *Group[R]) Status(ctx context.Context) (s Status, err error) {
	err = g.Do(ctx, func(now Now) { s = g.replica.Status(now) })
	return s, err
}

// Status describes the replica.
func (r *Replica[R]) Status(now Now) Status {
	b := r.rn.BasicStatus()
	s := Status{
		Replica: r.opts.ID, Leader: r.leader, Role: roleName(r.role), Term: r.term, Commit: b.HardState.GetCommit(),
		Applied: r.applied, First: r.edges.first, Hash: r.machine.Hash(), Quorum: r.Quorum(now),
	}
	s.Last, _ = r.log.LastIndex() // MemLog and raftlog answer from memory
	if r.role == raft.StateLeader {
		s.Match = map[uint64]uint64{}
		r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr trackerProgress) { s.Match[id] = pr.Match })
	}
	return s
}

func roleName(s raft.StateType) string {
	switch s {
	case raft.StateLeader:
		return "leader"
	case raft.StateFollower:
		return "follower"
	case raft.StateCandidate, raft.StatePreCandidate:
		return "candidate"
	}
	return "state " + strconv.Itoa(int(s))
}
