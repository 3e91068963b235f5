package sim

import (
	"fmt"
	"slices"
	"strings"
)

// Event is something that should happen sometimes, or the simulation proves
// little.
type Event int

const (
	LeaderCrashed Event = iota
	AllCrashed
	SnapshotSent
	SnapshotBroken
	SnapshotInstalled
	EntriesCollected
	RetryHitWindow
	ReceiptForgotten
	BatchRejected
	AttemptAborted
	SequenceGap
	SequenceReused
	SessionExpired
	SessionGivenUp
	Redelivered
	RedeliveredAfterFailover
	PossibleCount
	UnsyncedLost
	QueuedLost
	FenceSeen
	LeaderIsolated
	LeaderChanged
	Transferred
	SilentDeath
	ForceClosed
	NotOwner
	SettledMeanwhile
	DurableCreated
	DurableDeleted
	ChecksumApplied
	ClockJumped
	HourPassed
	WatermarkRaised
	MessageReturned
	Doomed
	PoisonApplied
	WithoutSession
	StoreDropped
	LameNode
	WentQuiet
	QuietLeaderLost
	QuietBroken
	FlowCut
	ClusterSuspended
	SuspendedQuiet
	DeliveriesRecalled
	PublishSuspended
	AttachSuspended
	BackupCompared
	BackupRefused
	events
)

var eventNames = [events]string{
	"leader crashed", "all crashed", "snapshot sent", "snapshot broken off", "snapshot installed", "entries collected",
	"retry hit the dedup window", "receipt forgotten", "batch rejected", "attempt aborted", "sequence gap", "sequence reused",
	"session expired", "session given up", "redelivery", "redelivery after failover", "possible count above 0",
	"written and not synced lost", "queued write lost", "fence seen", "leader isolated", "leader changed", "leadership transferred",
	"silent death of a client", "subscriber force-closed", "acknowledgement of another's message", "settled before it was sent",
	"durable created", "durable deleted", "checksum applied", "clock jumped", "an hour passed at once",
	"watermark raised by a command", "message given back",
	"crash at a bad moment", "command that makes no sense applied", "batch without a session", "store dropped",
	"liveness with a lame replica", "group went quiet", "leader of a quiet group crashed", "quiet group roused after a fault",
	"flow of one direction cut", "cluster suspended", "suspended and everything settled", "deliveries taken back by a suspension",
	"batch refused by a suspended cluster", "subscriber refused by a suspended cluster",
	"backup compared with the log", "backup refused by a replica that installs a snapshot",
}

func (e Event) String() string { return eventNames[e] }

// Seen counts events.
type Seen [events]int

// Add adds the counts of another run.
func (s *Seen) Add(o Seen) {
	for i := range s {
		s[i] += o[i]
	}
}

// Missing lists what was never seen.
func (s *Seen) Missing() (out []Event) {
	for i, n := range s {
		if n == 0 {
			out = append(out, Event(i))
		}
	}
	return out
}

// String lists the counts, one to a line.
func (s Seen) String() string {
	var b strings.Builder
	for i, n := range s {
		fmt.Fprintf(&b, "%9d  %v\n", n, Event(i))
	}
	return b.String()
}

// counters counts the events of one run.
type counters struct {
	seen  Seen
	terms []uint64
}

func newCounters() *counters { return &counters{} }

func (c *counters) hit(e Event) { c.seen[e]++ }

func (c *counters) led(term uint64) {
	if len(c.terms) > 0 && !slices.Contains(c.terms, term) {
		c.hit(LeaderChanged)
	}
	c.terms = append(c.terms, term)
}

// Seen returns the counts.
func (c *counters) Seen() Seen { return c.seen }
