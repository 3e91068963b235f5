package main

// drain empties a backlog into one consumer that acknowledges each message. The
// clock runs from subscribing until every acknowledgement is confirmed.
func drain() scenario {
	return scenario{
		name: "drain", units: rates,
		peers: map[string][]string{natsName: {async}},
		set:   setBacklog,
	}
}

// drainShared empties a backlog into four consumers that share a durable: a work
// queue, from which both sides remove what was acknowledged.
func drainShared() scenario {
	return scenario{
		name: "drain_shared4", units: rates,
		peers: map[string][]string{natsName: {async}},
		set: func(l *load, quick bool) {
			setBacklog(l, quick)
			l.workers = 4
		},
	}
}

// setBacklog is so much that a peer needs seconds for it: both sides drain the
// same.
func setBacklog(l *load, quick bool) {
	l.publishers = 4
	most, bytes := 1_000_000, 512<<20
	if quick {
		most, bytes = 150_000, 96<<20
	}
	l.backlog = min(most, bytes/l.Size)
}
