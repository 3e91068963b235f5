package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Limits of one replica. They are checked against each other in Validate,
// because a message over the transport's limit would block a follower for ever.
const (
	// mergeTarget bounds the merging of proposals into one entry. A single
	// larger command has an entry of its own.
	mergeTarget = 64 << 10
	// maxMessage bounds a message of entries to a follower.
	maxMessage = 256 << 10
	// maxInflight bounds what is on the way to one follower, in bytes and messages.
	maxInflight         = 8 << 20
	maxInflightMessages = 256
	// maxUncommitted is what Raft itself refuses at. Publishes stop at half of
	// it, so that settlements still pass.
	maxUncommitted     = 64 << 20
	publishUncommitted = maxUncommitted / 2
	// maxApply bounds the entries applied in one go.
	maxApply = 4 << 20

	checkpointBytes = 64 << 20
	checkpointEvery = time.Second
	// retainFollower is how much log a follower keeps behind what it applied, in
	// case it leads next and others are behind.
	retainFollower = 64 << 20
	// retainLeader bounds what a leader keeps for a voter that is behind.
	retainLeader = 256 << 20
	// unheard is how long a silent voter's place in the log is kept.
	unheard = 30 * time.Second
	// formationGrace is how long a replica with an empty log leaves it to the
	// preferred one to campaign, so that leaders of a new realm are spread.
	formationGrace = 3 * time.Second
	// rankDelay spaces the campaigns after a leader was lost.
	rankDelay = 10 * time.Millisecond
	// standBack is how long who has promised a vote, or was tied with another,
	// leaves it to the others to campaign.
	standBack = 50 * time.Millisecond
)

// Options configure one replica.
type Options struct {
	Group uint64
	Epoch uint16
	ID    uint64 // replica id
	// Rank is the replica's place, from 0, in the order in which replicas should
	// campaign when there is no leader (weights, then spread over servers).
	Rank int
	// Ticks of Tick each. An election timeout is drawn from ElectionTicks to
	// twice that.
	Tick           time.Duration
	HeartbeatTicks int
	ElectionTicks  int
	// Beat is how often servers show each other that they live, 0 if they do not.
	// A replica that would notice its loss too soon is never quiet.
	Beat time.Duration
	// Seed draws the jitter of campaigns.
	Seed uint64
}

// Validate reports everything wrong with o.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("cluster: "+format, args...))
		}
	}
	check(o.Group != 0, "group id is 0")
	check(o.ID != 0, "replica id is 0")
	check(o.Tick > 0, "tick is %v, must be above 0", o.Tick)
	check(o.HeartbeatTicks > 0, "heartbeat is %d ticks, must be above 0", o.HeartbeatTicks)
	check(o.ElectionTicks >= 3*o.HeartbeatTicks, "election timeout is %d ticks, must be at least three heartbeats of %d ticks", o.ElectionTicks, o.HeartbeatTicks)
	return errors.Join(errs...)
}

// beats is how many signs of life of a server are to come in an election timeout,
// at least, where replicas may be quiet: one that is late costs nobody its leader.
const beats = 3

func (o Options) mayRest() bool {
	return o.Beat > 0 && o.electionTimeout() >= beats*int64(o.Beat)
}

func (o Options) electionTimeout() int64 {
	return int64(o.Tick) * int64(o.ElectionTicks)
}
