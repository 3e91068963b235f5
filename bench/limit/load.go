package main

import (
	"time"

	"github.com/perdure/perdure/bench/limit/ratio"
)

// The scenarios: publishers with full windows, and one that waits for each
// message.
const (
	publish     = "publish"
	publishSync = "publish_sync"
)

var (
	scenarios    = []string{publish, publishSync}
	sizes        = []int{128, 1024, 16384, 1 << 20}
	durabilities = []string{"async", "sync"}
)

// load is what both sides do in one run.
type load struct {
	ratio.Load
	publishers int           // each with a connection
	batch      int           // bytes of one, about; a message at least
	window     int           // batches of a publisher that are not confirmed
	warm, time time.Duration // before the clock runs, and while it does
}

func (l load) oneByOne() bool { return l.Scenario == publishSync }

// loads are those of one durability, in the order of the table.
func (o options) loads(durability string) []load {
	var all []load
	for _, scenario := range scenarios {
		for _, size := range sizes {
			l := load{
				Load:       ratio.Load{Scenario: scenario, Size: size, Durability: durability},
				publishers: o.publishers, batch: o.batch, window: o.window, warm: o.Warm, time: o.Time,
			}
			if l.oneByOne() {
				l.publishers, l.window = 1, 1
			}
			if o.Only.Wants(l.Load, peerName) {
				all = append(all, l)
			}
		}
	}
	return all
}
