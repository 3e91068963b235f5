package main

import "github.com/perdure/perdure/bench/limit/ratio"

// latency is one publisher that sends at a fixed rate, whatever happens, and one
// consumer: the time from when a message was meant to go until it is received.
// What waits behind a stall counts as late, too.
func latency() scenario {
	return scenario{
		name:  "latency",
		units: []string{ratio.P50, ratio.P99, ratio.CPU},
		peers: map[string][]string{natsName: {async, synced}},
		set: func(l *load, _ bool) {
			l.publishers, l.consumed, l.backlog = 1, true, streamBound
			if l.rate = 20_000; l.Size > 4096 {
				l.rate = 1_000 // 16 KiB: 16 MB a second
			}
		},
	}
}
