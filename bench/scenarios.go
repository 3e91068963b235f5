package bench

// scenarios returns what Run knows, by name. It is a function, so that scenarios
// may ask for each other.
func scenarios() map[string]scenario {
	return map[string]scenario{
		"publish": {about: "publish as fast as is confirmed", run: publish},
		"stream":  {about: "publish and consume together, closed loop", times: true, run: stream},
		"latency": {about: "publish and consume at a fixed rate, open loop", times: true, run: latency},
		"drain":   {about: "consume and acknowledge a backlog", run: drain},
	}
}
