package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/perdure/perdure/cluster/clustertest"
)

// Faults is how much goes wrong.
type Faults string

const (
	NoFaults      Faults = "none"
	DefaultFaults Faults = "default" // a subset drawn from the seed
	AllFaults     Faults = "all"     // everything at once
)

// Options are what a run is made of.
type Options struct {
	Seed   uint64
	Steps  int
	Faults Faults
	Mutant Mutant
}

// Replay returns the command that repeats the run.
func (o Options) Replay() string {
	s := fmt.Sprintf("go test ./integration/sim -run 'TestSim$' -seed %d -seeds 1 -steps %d -faults %s", o.Seed, o.Steps, o.Faults)
	if o.Mutant != NoMutant {
		s += " -mutant " + string(o.Mutant)
	}
	return s
}

// setup is what a seed makes of the options. Times are nanoseconds, chances are
// for one step or one message.
type setup struct {
	mode     clustertest.Mode
	replicas int
	pace     int64 // mean time of a step

	tick             time.Duration
	delay, jitter    int64 // of the network
	disk, diskJitter int64
	wake             int64 // until a loop looks into its inbox

	lose, repeat, late float64 // chances of a message

	crash, power, stop     float64 // chances of one node, in each step
	crashAll, doom         float64 // doom: a crash at a bad moment
	partition, oneWay      float64
	isolate                float64 // of the leader, or of one node for long
	oneFlow                float64 // what a node has dialled carries nothing, or what others have dialled to it
	slowDisk, stallDisk    float64
	freeze                 float64 // a process that does not run for a while
	clock, frozenClock     float64
	skew                   int64 // of clocks at most
	transfer, checkpoint   float64
	peerDown               float64 // a connection that broke and nobody died
	hour                   float64 // passes at once
	keepLittle             bool    // of the log, so that there are snapshots
	snapshotBreaks         float64
	cutStream, silentDeath float64 // of clients
	takeOver               float64 // of standard durables
	corrupt, gap, again    float64 // of batches
	deploy, create, remove float64 // of durables
	poison, sprinkle       float64 // commands that make no sense; batches without a session
	closeSession           float64
	dropStore              bool // a store goes half-way
	limit                  bool
	publish                float64 // chance that a publisher acts in a step
	publishers             int
	credit, creditBytes    uint64
	think                  int64   // until a subscriber has handled a message
	lazy                   float64 // of a subscriber, to begin late
	slowClient             float64 // of a stream, to take what it is sent late
	large                  float64 // of a message
	nack, delayNack, sync  float64
	forget                 float64 // of settling a message at all
	lull                   float64 // of nobody doing anything for a while
	suspend                float64 // of the cluster, by an operator, for a while
	backup                 float64 // of a node, by an operator
}

const (
	ms     = int64(time.Millisecond)
	second = int64(time.Second)
)

func drawSetup(o Options) setup {
	rng := rand.New(rand.NewPCG(o.Seed, 0x5e70))
	s := setup{
		mode: clustertest.Sync, replicas: 3, tick: 10 * time.Millisecond, pace: 2*ms + rng.Int64N(4*ms),
		delay: ms / 5, jitter: ms, disk: ms / 5, diskJitter: ms, publish: 0.15 + 0.3*rng.Float64(), publishers: 1 + rng.IntN(4),
		credit: 1 + rng.Uint64N(20), creditBytes: 64 << 10, think: 1 + rng.Int64N(20*ms),
		sync: 0.1, large: 0.001,
	}
	switch p := rng.Float64(); {
	case p < 0.25:
		s.mode = clustertest.Async
	case p < 0.40:
		s.mode = clustertest.Memory
	}
	switch p := rng.Float64(); {
	case p < 0.06:
		s.replicas = 1
	case p < 0.16:
		s.replicas = 5
	}
	if rng.IntN(2) == 0 {
		s.wake = ms
	}
	if rng.IntN(2) == 0 {
		s.credit = 20 + rng.Uint64N(300)
	}
	if o.Faults == NoFaults {
		return s
	}
	some := func(p float64) float64 {
		if o.Faults == AllFaults || rng.IntN(2) == 0 {
			return p * (0.2 + 2*rng.Float64())
		}
		return 0
	}
	s.jitter = ms/2 + rng.Int64N(6*ms)
	s.lose, s.repeat, s.late = some(0.02), some(0.02), some(0.02)
	s.crash, s.power, s.stop, s.crashAll = some(0.004), some(0.004), some(0.002), some(0.001)
	s.doom = some(0.02)
	s.partition, s.oneWay, s.isolate = some(0.003), some(0.003), some(0.003)
	s.slowDisk, s.stallDisk, s.freeze = some(0.003), some(0.003), some(0.003)
	s.clock, s.frozenClock, s.skew = some(0.003), some(0.001), int64(some(float64(10*second)))
	s.transfer, s.checkpoint, s.peerDown = some(0.004), some(0.02), some(0.004)
	s.hour = some(0.0002)
	s.keepLittle = some(1) > 0
	s.snapshotBreaks = some(0.15)
	s.cutStream, s.silentDeath, s.takeOver = some(0.01), some(0.005), some(0.004)
	s.corrupt, s.gap, s.again = some(0.02), some(0.01), some(0.02)
	s.deploy, s.create, s.remove = some(0.002), some(0.003), some(0.02)
	s.poison, s.sprinkle, s.closeSession = some(0.003), some(0.02), some(0.003)
	s.dropStore = some(1) > 0
	s.limit = rng.IntN(3) == 0
	if rng.IntN(3) == 0 {
		s.creditBytes = 100 + rng.Uint64N(5000)
	}
	s.lazy, s.slowClient, s.large = some(0.3), some(0.3), some(0.003)
	s.nack, s.delayNack, s.forget = some(0.05), some(0.02), some(0.02)
	s.lull = some(0.001)
	s.oneFlow = some(0.003)
	s.suspend = some(0.001)
	s.backup = some(0.03)
	return s
}

// String lists what is not zero.
func (s setup) String() string {
	return strings.ReplaceAll(fmt.Sprintf("%+v", struct {
		Mode     clustertest.Mode
		Replicas int
		setupRest
	}{s.mode, s.replicas, setupRest(s)}), "\n", " ")
}

type setupRest setup
