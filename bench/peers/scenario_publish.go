package main

// publish is four publishers that send as fast as is confirmed. Nobody consumes:
// perdure has a durable that keeps the messages, NATS a stream that does.
func publish() scenario {
	return scenario{
		name: "publish", units: rates,
		peers: map[string][]string{
			natsName: {async, synced, memory},
			etcdName: {synced},
		},
		set: func(l *load, _ bool) { l.publishers = 4 },
	}
}
