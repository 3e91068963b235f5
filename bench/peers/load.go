package main

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/bench/limit/ratio"
)

// load is what both sides of a comparison do in one run.
type load struct {
	ratio.Load
	publishers int           // each with a connection
	oneByOne   bool          // a publisher waits for each message
	rate       int           // messages a second of an open loop; 0: as fast as is confirmed
	consumed   bool          // the messages are received and acknowledged while they are published
	backlog    int           // that many are drained; while publishing: so many may be unconsumed
	workers    int           // consumers that share a durable; 0: one consumer of a durable of its own
	warm, time time.Duration // before the clock runs, and while it does
}

// drains tells whether the load is to empty a backlog.
func (l load) drains() bool { return l.backlog > 0 && !l.consumed }

// A system runs loads on three servers. One goroutine uses it.
type system interface {
	name() string
	// paths are the ways to put the load on the system. A run returns figures for
	// all units of the load's scenario.
	paths(l load) []ratio.Path
	// close ends what paths started.
	close()
}

// scenario is a kind of load.
type scenario struct {
	name  string
	units []string
	peers map[string][]string // by peer: the durabilities it has something to set against
	// set fills in the load for a size. quick runs have less time.
	set func(l *load, quick bool)
}

// Words that are used by several scenarios.
const (
	memory, async, synced = "memory", "async", "sync"

	perdureName, natsName, etcdName = "perdure", "nats", "etcd"
)

var (
	sizes        = []int{128, 1024, 16384}
	durabilities = []string{async, synced, memory}
	peerNames    = []string{natsName, etcdName}

	rates = []string{ratio.MsgsPerSecond, ratio.MBPerSecond, ratio.CPU}
)

// scenarios are all there are, in the order of the table.
func scenarios() []scenario {
	return []scenario{publish(), publishSync(), stream(), latency(), drain(), drainShared()}
}

// wait returns nil after d, or why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// only keeps the units of a scenario, and what is written beside them. One that
// is missing is an error.
func (s scenario) only(f ratio.Figures) (ratio.Figures, error) {
	kept := ratio.Figures{}
	for _, unit := range s.units {
		v, ok := f[unit]
		if !ok {
			return nil, fmt.Errorf("%s was not measured", unit)
		}
		kept[unit] = v
	}
	if v, ok := f[ratio.Written]; ok {
		kept[ratio.Written] = v
	}
	return kept, nil
}
