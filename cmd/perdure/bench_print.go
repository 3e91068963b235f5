package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/perdure/perdure/bench"
)

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
		if !s.Interested && s.Measured > 0 {
			fmt.Fprintln(p.stderr, "perdure: no durable is interested, so nothing was kept")
			break
		}
	}
	return err
}

// benchTable prints a line for each load, and below it what only its scenario
// measures.
func (p *program) benchTable(list []*bench.Summary) {
	header := []string{"load", "messages/s", "MB/s", "p50", "p99"}
	receiving := slices.ContainsFunc(list, func(s *bench.Summary) bool { return s.ReceiveMeasured > 0 })
	if receiving {
		header = append(header, "receive p50", "receive p99")
	}
	header = append(header, "server CPU per million", "written per byte", "memory")
	var rows [][]any
	for _, s := range list {
		rows = append(rows, benchRow(s, receiving))
	}
	printTable(p.stdout, header, rows)
	for _, s := range list {
		if s.Runs > 1 {
			fmt.Fprintf(p.stdout, "%s: medians of %d runs; messages/s %s to %s\n", s.Describe(), s.Runs,
				grouped(int64(s.Min["msgs_per_s"])), grouped(int64(s.Max["msgs_per_s"])))
		}
		if len(s.More) > 0 {
			var parts []string
			for _, key := range slices.Sorted(maps.Keys(s.More)) {
				parts = append(parts, key+" "+strconv.FormatFloat(s.More[key], 'f', -1, 64))
			}
			fmt.Fprintf(p.stdout, "%s: %s\n", s.Describe(), strings.Join(parts, ", "))
		}
	}
}

func benchRow(s *bench.Summary, receiving bool) []any {
	known := func(is bool, format string, v any) string {
		if !is {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	row := []any{
		s.Describe(), grouped(int64(s.MsgsPerSec)), fmt.Sprintf("%.1f", s.MBPerSec),
		known(s.Measured > 0, "%s us", grouped(s.P50)), known(s.Measured > 0, "%s us", grouped(s.P99)),
	}
	if receiving {
		row = append(row, known(s.ReceiveMeasured > 0, "%s us", grouped(s.ReceiveP50)),
			known(s.ReceiveMeasured > 0, "%s us", grouped(s.ReceiveP99)))
	}
	return append(row, known(s.ServersCPU > 0, "%.2f s", s.ServersCPU), known(s.WrittenPerByte > 0, "%.2f", s.WrittenPerByte),
		known(s.PeakRSS > 0, "%s", bytesText(uint64(s.PeakRSS))))
}
