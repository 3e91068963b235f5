package bench

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Summary is several runs of one load. The figures are medians, each number by
// itself.
type Summary struct {
	Figures
	Version string             `json:"version,omitempty"` // of perdure
	Runs    int                `json:"runs"`
	Min     map[string]float64 `json:"min,omitempty"` // by key; where there are several runs
	Max     map[string]float64 `json:"max,omitempty"`
}

// Summarize puts at least one run of one load together.
func Summarize(version string, runs []*Figures) *Summary {
	s := &Summary{Figures: *runs[0], Version: version, Runs: len(runs)}
	if len(runs) == 1 {
		return s
	}
	s.Min, s.Max = map[string]float64{}, map[string]float64{}
	values := map[string][]float64{}
	for _, f := range runs {
		for key, v := range f.Numbers() {
			values[key] = append(values[key], v)
		}
	}
	middle := map[string]float64{}
	for key, list := range values {
		if strings.HasPrefix(key, "receive_") && slices.Max(list) == 0 {
			continue // nobody receives
		}
		if zeroIsUnknown(key) && slices.Max(list) > 0 {
			list = slices.DeleteFunc(list, func(v float64) bool { return v == 0 })
		}
		s.Min[key], s.Max[key], middle[key] = slices.Min(list), slices.Max(list), Median(list)
	}
	for _, m := range measures {
		m.set(&s.Figures, middle[m.key])
	}
	if s.More != nil {
		s.More = map[string]float64{}
		for _, key := range keys(runs...)[len(measures):] {
			s.More[key] = middle[key]
		}
	}
	s.Times = merged(runs, func(f *Figures) *hdrhistogram.Histogram { return f.Times })
	s.ReceiveTimes = merged(runs, func(f *Figures) *hdrhistogram.Histogram { return f.ReceiveTimes })
	return s
}

// Median returns the middle of values, or of the two in the middle their mean
// with three digits; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return rounded((sorted[half-1] + sorted[half]) / 2)
}

func merged(runs []*Figures, times func(*Figures) *hdrhistogram.Histogram) *hdrhistogram.Histogram {
	var sum *hdrhistogram.Histogram
	for _, f := range runs {
		if h := times(f); h != nil {
			if sum == nil {
				sum = newTimes()
			}
			sum.Merge(h)
		}
	}
	return sum
}

// Describe names the load in a line: what tells it from others of its scenario.
func (f *Figures) Describe() string { return strings.Join(f.parts(), ", ") }

// usualServers is how many go without saying.
const usualServers = 3

// parts are what Describe says.
func (f *Figures) parts() []string {
	parts := []string{sizeText(f.Size)}
	if f.Scenario == "idle" { // older versions wrote down what it has no use for
		idle := *f
		idle.Publishers, idle.Window = 0, 0
		f, parts = &idle, nil
	}
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	if f.Durability != "" && f.Durability != "unknown" {
		parts = append(parts, f.Durability)
	}
	if f.Sync {
		parts = append(parts, "one by one")
	}
	add(f.Publishers, "publisher", "publishers")
	if f.Together > 0 {
		parts = append(parts, fmt.Sprintf("%d together", f.Together))
	} else if !f.Sync && f.Window > 0 {
		parts = append(parts, fmt.Sprintf("%d x %s", f.Window, sizeText(f.Batch)))
	}
	if f.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%d/s", f.Rate))
	}
	add(f.Workers, "worker", "workers")
	add(f.Durables, "durable", "durables")
	add(f.Matchers, "matcher", "matchers")
	add(f.Clusters, "cluster", "clusters")
	if f.Backlog > 0 || f.Scenario == "backlog" {
		parts = append(parts, fmt.Sprintf("backlog %d", f.Backlog))
	}
	if f.Prefetch > 0 {
		parts = append(parts, fmt.Sprintf("prefetch %d", f.Prefetch))
	}
	if f.Fast {
		parts = append(parts, "fast")
	}
	add(int(f.More["kills"]), "kill", "kills")
	if voters := int(f.More["voters"]); voters > 0 {
		add(voters, "voter", "voters")
	} else if f.Servers != usualServers {
		add(f.Servers, "server", "servers")
	}
	if f.Count != DefaultCount {
		add(f.Count, "message", "messages")
	}
	if f.Duration > 0 && (f.Duration != DefaultDuration.Seconds() || f.Scenario == "publish") { // which goes by count
		parts = append(parts, "for "+secondsText(f.Duration))
	}
	if (f.Duration > 0 || f.Warmup > 0) && f.Warmup != DefaultWarmup.Seconds() {
		parts = append(parts, "warm-up "+secondsText(f.Warmup))
	}
	return parts
}

func secondsText(s float64) string { return time.Duration(s * float64(time.Second)).String() }

// sameLoad tells whether two reports are of one load. Those of versions that did
// not say how long a load went count as of any length.
func sameLoad(a, b Figures) bool {
	says := func(f Figures) bool { return f.Count > 0 || f.Duration > 0 || f.Warmup > 0 }
	if !says(a) || !says(b) {
		for _, f := range []*Figures{&a, &b} {
			f.Count, f.Duration, f.Warmup = 0, 0, 0
		}
	}
	return a.Scenario == b.Scenario && a.Describe() == b.Describe()
}

// sizeText writes whole powers of 1,024 with a unit.
func sizeText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// ReadSummaries reads what `-o json` wrote: a summary, an array of them, or
// several of either.
func ReadSummaries(r io.Reader) ([]*Summary, error) {
	var all []*Summary
	for decoder := json.NewDecoder(r); ; {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is not the JSON of a benchmark: %w", err)
		}
		list := []*Summary{{}}
		if bytes.HasPrefix(raw, []byte("[")) {
			err = json.Unmarshal(raw, &list)
		} else {
			err = json.Unmarshal(raw, list[0])
		}
		if err != nil {
			return nil, fmt.Errorf("it is not the JSON of a benchmark: %w", err)
		}
		all = append(all, list...)
	}
	for _, s := range all {
		if s == nil || s.Scenario == "" {
			return nil, errors.New("it holds something that names no scenario; give files that perdure bench SCENARIO -o json wrote")
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no figures; give a file that perdure bench SCENARIO -o json wrote")
	}
	return all, nil
}

// WriteCSV writes a line for each summary, after one with the names: the load,
// then each number, and where there were several runs its least and its greatest.
func WriteCSV(w io.Writer, list []*Summary) error {
	var figures []*Figures
	several := false
	for _, s := range list {
		figures = append(figures, &s.Figures)
		several = several || s.Runs > 1
	}
	names := keys(figures...)
	header := []string{
		"scenario", "size", "durability", "servers", "publishers", "window", "batch", "together", "sync", "rate",
		"workers", "durables", "matchers", "clusters", "backlog", "prefetch", "fast", "count", "duration_s", "warmup_s", "version", "runs",
	}
	for _, name := range names {
		header = append(header, name)
		if several {
			header = append(header, name+"_min", name+"_max")
		}
	}
	out := csv.NewWriter(w)
	_ = out.Write(header) // Flush keeps the error
	for _, s := range list {
		line := []string{
			s.Scenario, strconv.Itoa(s.Size), s.Durability, strconv.Itoa(s.Servers), strconv.Itoa(s.Publishers), strconv.Itoa(s.Window),
			strconv.Itoa(s.Batch), strconv.Itoa(s.Together), strconv.FormatBool(s.Sync), strconv.Itoa(s.Rate),
			strconv.Itoa(s.Workers), strconv.Itoa(s.Durables), strconv.Itoa(s.Matchers), strconv.Itoa(s.Clusters),
			strconv.Itoa(s.Backlog), strconv.Itoa(s.Prefetch), strconv.FormatBool(s.Fast), strconv.Itoa(s.Count),
			strconv.FormatFloat(s.Duration, 'f', -1, 64), strconv.FormatFloat(s.Warmup, 'f', -1, 64), s.Version, strconv.Itoa(s.Runs),
		}
		numbers := s.Numbers()
		for _, name := range names {
			line = append(line, cell(numbers, name))
			if several {
				line = append(line, cell(s.Min, name), cell(s.Max, name))
			}
		}
		_ = out.Write(line)
	}
	out.Flush()
	return out.Error()
}

// cell writes a number as short as it can be; nothing where there is none.
func cell(numbers map[string]float64, name string) string {
	v, ok := numbers[name]
	if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
