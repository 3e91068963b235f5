package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/perdure/perdure/bench"
)

// rateReached is the part of a rate below which somebody has to be told: the
// load began or ended within what is measured, and that is not all of it.
const rateReached = 0.95

// printBench prints what all loads measured. One load is an object in JSON,
// several are an array.
func (p *program) printBench(o *benchOptions, list []*bench.Summary) error {
	var err error
	switch {
	case o.output == benchCSV:
		err = bench.WriteCSV(p.stdout, list)
	case o.output == benchJSON && len(list) == 1:
		err = p.writeJSON(p.stdout, list[0])
	case o.output == benchJSON:
		err = p.writeJSON(p.stdout, list)
	default:
		p.benchTable(list)
	}
	for _, s := range list {
		if reached, open := s.More[bench.RateReached]; open && reached < rateReached {
			fmt.Fprintf(p.stderr, "perdure: rate not reached: %s of %s messages a second were consumed; the times are those of too much load\n",
				whole(s.MsgsPerSec), grouped(s.Rate))
		}
	}
	for _, s := range list {
		if !s.Interested && s.Measured > 0 {
			fmt.Fprintln(p.stderr, "perdure: no durable is interested, so nothing was kept")
			break
		}
	}
	return err
}

// benchColumn is a number in one of both tables.
type benchColumn struct {
	title, key string
	text       func(float64) string
}

// What the load saw, and what it cost.
var (
	benchSpeed = []benchColumn{
		{"messages/s", "msgs_per_s", whole}, {"MB/s", "mb_per_s", decimals(1)},
		{"p50", "p50_us", inMicros}, {"p99", "p99_us", inMicros},
		{"receive p50", "receive_p50_us", inMicros}, {"receive p99", "receive_p99_us", inMicros},
	}
	benchCost = []benchColumn{
		{"servers' CPU/million", "servers_cpu_s_per_million", inSeconds}, {"clients' CPU/million", "clients_cpu_s_per_million", inSeconds},
		{"written/byte", "written_per_byte", decimals(2)}, {"fsyncs/million", "fsyncs_per_million", whole},
		{"allocations/message", "allocs_per_message", decimals(2)}, {"bytes/message", "alloc_bytes_per_message", whole},
		{"peak memory", "peak_rss", inBytes}, {"anonymous", "peak_rss_anon", inBytes},
	}
)

func whole(v float64) string     { return grouped(int64(math.Round(v))) }
func inMicros(v float64) string  { return whole(v) + " us" }
func inSeconds(v float64) string { return fmt.Sprintf("%.2f s", v) }
func inBytes(v float64) string   { return bytesText(uint64(v)) }

func decimals(n int) func(float64) string {
	return func(v float64) string { return strconv.FormatFloat(v, 'f', n, 64) }
}

// benchTable prints what loads saw, what they cost, what only their scenario
// measures, and who says so.
func (p *program) benchTable(list []*bench.Summary) {
	p.benchColumns(list, benchSpeed)
	fmt.Fprintln(p.stdout)
	p.benchColumns(list, benchCost)
	fmt.Fprintln(p.stdout)
	for _, s := range list {
		if len(s.More) > 0 {
			var parts []string
			for _, key := range slices.Sorted(maps.Keys(s.More)) {
				parts = append(parts, key+" "+strconv.FormatFloat(s.More[key], 'f', -1, 64))
			}
			fmt.Fprintf(p.stdout, "%s: %s\n", s.Describe(), strings.Join(parts, ", "))
		}
	}
	runs := "one run"
	if list[0].Runs > 1 {
		runs = fmt.Sprintf("medians of %d runs, below them the least and the greatest", list[0].Runs)
	}
	fmt.Fprintf(p.stdout, "perdure %s, %s\n", list[0].Version, runs)
}

// benchColumns prints some numbers, a line for each load, and two more where
// there were several runs. Columns of nothing are left out.
func (p *program) benchColumns(list []*bench.Summary, columns []benchColumn) {
	columns = slices.DeleteFunc(slices.Clone(columns), func(c benchColumn) bool {
		return strings.HasPrefix(c.key, "receive_") && !slices.ContainsFunc(list, func(s *bench.Summary) bool { return s.ReceiveMeasured > 0 })
	})
	header := []string{"load"}
	for _, c := range columns {
		header = append(header, c.title)
	}
	var rows [][]any
	line := func(name string, numbers map[string]float64) {
		row := []any{name}
		for _, c := range columns {
			text := "-" // 0 is not known, or not measured
			if v := numbers[c.key]; v > 0 || c.key == "msgs_per_s" {
				text = c.text(v)
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	for _, s := range list {
		line(s.Describe(), s.Numbers())
		if s.Runs > 1 {
			line("  least", s.Min)
			line("  greatest", s.Max)
		}
	}
	printTable(p.stdout, header, rows)
}
