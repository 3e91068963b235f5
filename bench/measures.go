package bench

import (
	"maps"
	"slices"
	"strings"
)

// measure is a number of Figures that runs differ in.
type measure struct {
	key string // of the JSON
	get func(*Figures) float64
	set func(*Figures, float64)
}

func of[T int64 | float64](key string, field func(*Figures) *T) measure {
	return measure{
		key: key,
		get: func(f *Figures) float64 { return float64(*field(f)) },
		set: func(f *Figures, v float64) { *field(f) = T(v) },
	}
}

// measures are all that every scenario has, in the order in which they are shown.
var measures = []measure{
	of("messages", func(f *Figures) *int64 { return &f.Messages }),
	of("seconds", func(f *Figures) *float64 { return &f.Seconds }),
	of("msgs_per_s", func(f *Figures) *float64 { return &f.MsgsPerSec }),
	of("mb_per_s", func(f *Figures) *float64 { return &f.MBPerSec }),
	of("p50_us", func(f *Figures) *int64 { return &f.P50 }),
	of("p99_us", func(f *Figures) *int64 { return &f.P99 }),
	of("max_us", func(f *Figures) *int64 { return &f.Max }),
	of("measured", func(f *Figures) *int64 { return &f.Measured }),
	of("receive_p50_us", func(f *Figures) *int64 { return &f.ReceiveP50 }),
	of("receive_p99_us", func(f *Figures) *int64 { return &f.ReceiveP99 }),
	of("receive_max_us", func(f *Figures) *int64 { return &f.ReceiveMax }),
	of("receive_measured", func(f *Figures) *int64 { return &f.ReceiveMeasured }),
	of("servers_cpu_s_per_million", func(f *Figures) *float64 { return &f.ServersCPU }),
	of("clients_cpu_s_per_million", func(f *Figures) *float64 { return &f.ClientsCPU }),
	of("written_per_byte", func(f *Figures) *float64 { return &f.WrittenPerByte }),
	of("fsyncs", func(f *Figures) *int64 { return &f.Fsyncs }),
	of("fsyncs_per_million", func(f *Figures) *float64 { return &f.FsyncsPerMillion }),
	of("allocs_per_message", func(f *Figures) *float64 { return &f.Allocs }),
	of("alloc_bytes_per_message", func(f *Figures) *float64 { return &f.AllocBytes }),
	of("peak_rss", func(f *Figures) *int64 { return &f.PeakRSS }),
	of("peak_rss_anon", func(f *Figures) *int64 { return &f.PeakAnon }),
}

// isCount names what says how much was done, and not how well.
func isCount(key string) bool {
	return slices.Contains([]string{"messages", "seconds", "measured", "receive_measured", "fsyncs", "settled_s", "kills", RateReached}, key)
}

// zeroIsUnknown names what is 0 where nobody could be asked: on another machine,
// of a server that did not answer, in the report of a version that did not ask.
func zeroIsUnknown(key string) bool {
	return slices.Contains([]string{
		"servers_cpu_s_per_million", "clients_cpu_s_per_million", "written_per_byte", "fsyncs_per_million",
		"allocs_per_message", "alloc_bytes_per_message", "peak_rss", "peak_rss_anon",
	}, key)
}

// Higher tells whether more of a number is better.
func Higher(key string) bool { return strings.HasSuffix(key, "_per_s") }

// Numbers returns everything measured by key, what only the scenario has
// included.
func (f *Figures) Numbers() map[string]float64 {
	all := maps.Clone(f.More)
	if all == nil {
		all = map[string]float64{}
	}
	for _, m := range measures {
		all[m.key] = m.get(f)
	}
	return all
}

// keys returns the keys of numbers of several figures, in the order in which
// they are shown: measures, then what only some have, sorted.
func keys(list ...*Figures) []string {
	var common []string
	for _, m := range measures {
		common = append(common, m.key)
	}
	more := map[string]bool{}
	for _, f := range list {
		for key := range f.More {
			more[key] = true
		}
	}
	return append(common, slices.Sorted(maps.Keys(more))...)
}
