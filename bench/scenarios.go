package bench

// scenarios returns what Run knows, by name. It is a function, so that scenarios
// may ask for each other.
func scenarios() map[string]scenario {
	return map[string]scenario{
		"publish":   {about: "Publish equal messages as fast as they are confirmed", run: publish},
		"stream":    {about: "Publish and consume together, closed loop", times: true, takes: true, run: stream},
		"latency":   {about: "Publish and consume at a fixed rate, open loop", times: true, takes: true, run: latency},
		"drain":     {about: "Consume and acknowledge a backlog", takes: true, run: drain},
		"subscribe": {about: "Consume and acknowledge a backlog", takes: true, run: drain},
		"fanout":    {about: "Publish to durables that all consume everything", times: true, takes: true, run: fanout},
		"match":     {about: "Publish to durables that share messages out by a field", own: true, run: match},
		"clusters":  {about: "Publish to several clusters at once", run: clusters},
		"idle":      {about: "Do nothing, with several clusters", own: true, run: idle},
		"backlog":   {about: "Publish while many messages are pending", run: backlog},
		"backup":    {about: "Publish at a rate, with and without a backup that runs", run: backup},
		"failover":  {about: "Kill the leader under load", times: true, own: true, run: failover},
		"recover":   {about: "Restart all servers, and let a follower catch up", own: true, run: recovery},
		"replicate": {about: "Publish, and see how far followers are behind", run: replicate},
	}
}
