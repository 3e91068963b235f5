package cluster

import "time"

// Retention is how much of the log a replica keeps for others. It exists so
// that simulations see snapshots without gigabytes of log.
type Retention struct {
	Leader   uint64        // bytes that a leader keeps for a voter that is behind
	Follower uint64        // bytes that a follower keeps behind what it applied
	Grain    uint64        // distance in bytes of the marks that tell how much lies behind
	Unheard  time.Duration // how long a silent voter's place is kept
}

func defaultRetention() Retention {
	return Retention{Leader: retainLeader, Follower: retainFollower, Grain: markEvery, Unheard: unheard}
}

// SetRetention replaces the default retention. It is called once, before the
// replica takes any input.
func (r *Replica[R]) SetRetention(k Retention) { r.edges.keep = k }
