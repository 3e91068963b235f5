package server

import (
	runtimemetrics "runtime/metrics"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// What the runtime is asked for, in the order of processStatus.
var runtimeMetrics = []string{
	"/gc/heap/allocs:objects", "/gc/heap/allocs:bytes", "/gc/cycles/total:gc-cycles", "/sched/goroutines:goroutines",
	"/gc/heap/tiny/allocs:objects", // which the first does not count, as they share its objects
}

// processStatus says what this process has done since it began. Nothing on the
// way of a message counts for it that did not before.
func (s *Server) processStatus() *perdurepb.ProcessStatus {
	samples := make([]runtimemetrics.Sample, len(runtimeMetrics))
	for i, name := range runtimeMetrics {
		samples[i].Name = name
	}
	runtimemetrics.Read(samples)
	var values [5]uint64
	for i, v := range samples {
		if v.Value.Kind() == runtimemetrics.KindUint64 { // else this runtime does not know it
			values[i] = v.Value.Uint64()
		}
	}
	return &perdurepb.ProcessStatus{
		Incarnation: s.incarnation, UptimeMs: uint64(time.Since(s.began).Milliseconds()), Fsyncs: s.engines.syncs(),
		AllocatedObjects: values[0] + values[4], AllocatedBytes: values[1], GcCycles: values[2], Goroutines: values[3],
	}
}
