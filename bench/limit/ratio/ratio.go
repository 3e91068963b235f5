package ratio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Units of figures.
const (
	MsgsPerSecond = "msgs_per_s"
	MBPerSecond   = "mb_per_s"          // of bodies, 1 MB = 1,000,000 bytes
	P50           = "p50_us"            // microseconds
	P99           = "p99_us"            // microseconds
	CPU           = "cpu_s_per_million" // of all servers, for a million messages

	// Written is no row of its own: bytes that each server wrote to its disk, for
	// a byte of body.
	Written = "written_per_byte"
)

// units is their order in a table.
var units = []string{MsgsPerSecond, MBPerSecond, P50, P99, CPU}

// Figures are what one run of one system measured, by unit.
type Figures map[string]float64

// A Load names what both systems do.
type Load struct {
	Scenario   string `json:"scenario"`
	Size       int    `json:"size"` // bytes of a body
	Durability string `json:"durability"`
}

// String returns the load as scenario/size/durability.
func (l Load) String() string { return fmt.Sprintf("%s/%d/%s", l.Scenario, l.Size, l.Durability) }

// A Row compares one unit of one load. Ours and Peer are medians.
type Row struct {
	Load
	Unit     string  `json:"unit"`
	Ours     float64 `json:"ours"`
	Peer     float64 `json:"peer"`
	PeerName string  `json:"peer_name"`
	Ratio    float64 `json:"ratio"` // Ours / Peer, in every unit
	OursMin  float64 `json:"ours_min"`
	OursMax  float64 `json:"ours_max"`
	PeerMin  float64 `json:"peer_min"`
	PeerMax  float64 `json:"peer_max"`
	Runs     int     `json:"runs"`                // of each side
	OursPath string  `json:"ours_path,omitempty"` // of several ways, the fastest
	PeerPath string  `json:"peer_path,omitempty"`
	// Bytes that each server wrote to its disk for a byte of body; medians.
	OursWritten float64 `json:"ours_written_per_byte,omitempty"`
	PeerWritten float64 `json:"peer_written_per_byte,omitempty"`
}

// Median returns the middle of values, or the mean of the two in the middle. Of
// none it is not a number.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// Quantile returns, in microseconds, the least time that at least the part q of
// times do not exceed. It sorts times. Of none it is not a number.
func Quantile(times []time.Duration, q float64) float64 {
	if len(times) == 0 {
		return math.NaN()
	}
	slices.Sort(times)
	i := int(math.Ceil(q*float64(len(times)))) - 1
	return float64(times[max(i, 0)].Nanoseconds()) / 1e3
}

// values collects one unit over runs. Runs that lack it give no value.
func values(runs []Figures, unit string) []float64 {
	var v []float64
	for _, f := range runs {
		if x, ok := f[unit]; ok {
			v = append(v, x)
		}
	}
	return v
}

// Rows compares all units that either side measured, in the order of the
// package's units. A unit that one side lacks in some run, or whose ratio is not
// a number, is part of the error; the other rows are valid.
func Rows(load Load, peer string, ours, theirs []Figures) ([]Row, error) {
	if len(ours) == 0 || len(ours) != len(theirs) {
		return nil, fmt.Errorf("%v against %s: %d runs against %d: they must be pairs", load, peer, len(ours), len(theirs))
	}
	var rows []Row
	var errs []error
	for _, unit := range units {
		a, b := values(ours, unit), values(theirs, unit)
		if len(a) == 0 && len(b) == 0 {
			continue
		}
		r := Row{
			Load: load, Unit: unit, PeerName: peer, Runs: len(ours),
			Ours: Median(a), Peer: Median(b),
		}
		r.Ratio = r.Ours / r.Peer
		if len(a) != len(ours) || len(b) != len(theirs) || math.IsNaN(r.Ratio) || math.IsInf(r.Ratio, 0) {
			errs = append(errs, fmt.Errorf("%v against %s: %s cannot be compared: ours %v, theirs %v", load, peer, unit, a, b))
			continue
		}
		r.OursMin, r.OursMax = slices.Min(a), slices.Max(a)
		r.PeerMin, r.PeerMax = slices.Min(b), slices.Max(b)
		if a, b := values(ours, Written), values(theirs, Written); len(a) > 0 && len(b) > 0 {
			r.OursWritten, r.PeerWritten = Median(a), Median(b)
		}
		rows = append(rows, r)
	}
	return rows, errors.Join(errs...)
}

// A Run measures once.
type Run func(ctx context.Context) (Figures, error)

// Alternate runs ours, theirs, ours, theirs ..., pairs times. The first error
// ends it.
func Alternate(ctx context.Context, pairs int, ours, theirs Run) (a, b []Figures, err error) {
	for i := range pairs {
		x, err := ours(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("run %d of ours: %w", i+1, err)
		}
		y, err := theirs(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("run %d of the peer: %w", i+1, err)
		}
		a, b = append(a, x), append(b, y)
	}
	return a, b, nil
}

// A Path is one way to put a load on a system.
type Path struct {
	Name string
	Run  Run
}

// Best tries every path, rounds times in turns, and returns the one with the
// highest median of unit. One path is returned untried. A path that fails is out
// of the contest; only if all fail is there an error.
func Best(ctx context.Context, rounds int, unit string, paths []Path) (Path, error) {
	if len(paths) == 1 {
		return paths[0], nil
	}
	tried := make([][]float64, len(paths))
	failed := make([]error, len(paths))
	for range rounds {
		for i, p := range paths {
			if failed[i] != nil {
				continue
			}
			f, err := p.Run(ctx)
			if err == nil && f[unit] == 0 {
				err = fmt.Errorf("it measured no %s", unit)
			}
			if err != nil {
				failed[i] = fmt.Errorf("%s: %w", p.Name, err)
				continue
			}
			tried[i] = append(tried[i], f[unit])
		}
	}
	best, found := -1, 0.0
	for i := range paths {
		if m := Median(tried[i]); failed[i] == nil && cmp.Compare(m, found) > 0 {
			best, found = i, m
		}
	}
	if best < 0 {
		return Path{}, fmt.Errorf("no path works: %w", errors.Join(failed...))
	}
	return paths[best], nil
}
