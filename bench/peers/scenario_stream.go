package main

// streamBound is how many messages of a stream may be published and not
// consumed.
const streamBound = 100_000

// stream is one publisher and one consumer in a closed loop: the rate is that of
// messages that were received and acknowledged.
func stream() scenario {
	return scenario{
		name: "stream", units: rates,
		peers: map[string][]string{natsName: {async, synced}},
		set: func(l *load, _ bool) {
			l.publishers, l.consumed, l.backlog = 1, true, streamBound
		},
	}
}
