package main

import "github.com/perdure/perdure/bench/limit/ratio"

// publishSync is one publisher that waits for each message: the time from call
// to confirmation.
func publishSync() scenario {
	return scenario{
		name:  "publish_sync",
		units: []string{ratio.P50, ratio.P99, ratio.MsgsPerSecond, ratio.CPU},
		peers: map[string][]string{
			natsName: {async, synced},
			etcdName: {synced},
		},
		set: func(l *load, _ bool) { l.publishers, l.oneByOne = 1, true },
	}
}
