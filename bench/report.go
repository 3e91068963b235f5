package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

//go:embed report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Parse(reportPage))

type reportData struct {
	Title, About string
	Charts       []reportChart
	Tables       []reportTable
	Ranges       bool
}

type reportChart struct {
	Title, Note string
	Drawing     template.HTML
}

type reportTable struct {
	Scenario string
	Loads    []string
	Rows     []reportRow
}

type reportRow struct {
	Name  string
	Cells []string
}

// charted are the numbers that have a bar chart, where they are not all 0.
var charted = []struct{ key, title, note string }{
	{"msgs_per_s", "Messages a second", "more is better"},
	{"mb_per_s", "Megabytes of bodies a second", "more is better; 1 MB is 1,000,000 bytes"},
	{"p99_us", "Publish to confirmation, 99 %, microseconds", "less is better"},
	{"receive_p99_us", "Publish to receive, 99 %, microseconds", "less is better"},
	{"servers_cpu_s_per_million", "Processor seconds of all servers for a million messages", "less is better"},
	{"written_per_byte", "Bytes written to the disk of each server per byte of body", "less is better"},
	{"clients_cpu_s_per_million", "Processor seconds of the clients for a million messages", "less is better"},
	{"fsyncs_per_million", "Fsyncs of all servers for a million messages", "less is better"},
	{"allocs_per_message", "Objects that all servers allocate for a message", "less is better"},
	{"alloc_bytes_per_message", "Bytes that all servers allocate for a message", "less is better"},
	{"peak_rss", "Resident memory of the largest server, MiB", "less is better"},
	{"peak_rss_anon", "Anonymous memory of the largest server, MiB", "less is better"},
	{"gap_ms_p50", "Failover: confirmation to confirmation, milliseconds", "less is better"},
	{"cores_per_server", "Processors that an idle server keeps busy", "less is better"},
}

// WriteReport writes a page with charts that needs nothing but itself.
func WriteReport(w io.Writer, list []*Summary, now time.Time) error {
	d := reportData{Title: "Perdure benchmark", About: fmt.Sprintf("%s on %d processors, %s/%s, %s.",
		now.UTC().Format("2006-01-02 15:04 MST"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())}
	if len(list) > 0 {
		d.Title += ": " + strings.Join(scenarioNames(list), ", ")
		if list[0].Version != "" {
			d.About = "perdure " + list[0].Version + ", " + d.About
		}
	}
	if common := inCommon(list); common != "" {
		d.About += " All loads: " + common + "."
	}
	for _, c := range charted {
		if drawing, any := barsOf(list, c.key); any {
			d.Charts = append(d.Charts, reportChart{c.title, c.note, drawing})
		}
	}
	if lines := curvesOf(list); len(lines) > 0 {
		d.Charts = append(d.Charts, reportChart{"Time by percentile", "left of a point lies that part of the messages; both axes are logarithmic", curves(lines)})
	}
	for _, name := range scenarioNames(list) {
		d.Tables = append(d.Tables, tableOf(name, list))
	}
	for _, s := range list {
		d.Ranges = d.Ranges || s.Runs > 1
	}
	if err := reportTemplate.Execute(w, d); err != nil {
		return fmt.Errorf("bench: report: %w", err)
	}
	return nil
}

// scenarioNames returns the scenarios in the order in which they first come.
func scenarioNames(list []*Summary) []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s.Scenario] {
			seen[s.Scenario] = true
			names = append(names, s.Scenario)
		}
	}
	return names
}

func barsOf(list []*Summary, key string) (template.HTML, bool) {
	var chart []bar
	unit := 1.0
	if strings.HasPrefix(key, "peak_rss") {
		unit = 1 << 20
	}
	for _, s := range list {
		if v := s.Numbers()[key]; v != 0 {
			chart = append(chart, bar{s.label(list), v / unit, s.Min[key] / unit, s.Max[key] / unit})
		}
	}
	return bars(chart), len(chart) > 0
}

func curvesOf(list []*Summary) []curve {
	var lines []curve
	for _, s := range list {
		if h := s.Times; h != nil && h.TotalCount() > 0 {
			lines = append(lines, curve{s.label(list) + ", to confirmation", h})
		}
		if h := s.ReceiveTimes; h != nil && h.TotalCount() > 0 {
			lines = append(lines, curve{s.label(list) + ", to receive", h})
		}
	}
	return lines
}

// label names a load among others: by what not all of them have in common.
func (s *Summary) label(list []*Summary) string {
	var own []string
	if len(scenarioNames(list)) > 1 {
		own = append(own, s.Scenario)
	}
	for _, part := range s.parts() {
		if slices.ContainsFunc(list, func(other *Summary) bool { return !slices.Contains(other.parts(), part) }) {
			own = append(own, part)
		}
	}
	if len(own) == 0 {
		return s.Scenario
	}
	return strings.Join(own, ", ")
}

// inCommon is what label leaves out.
func inCommon(list []*Summary) string {
	if len(list) == 0 {
		return ""
	}
	var parts []string
	for _, part := range list[0].parts() {
		if !slices.ContainsFunc(list, func(other *Summary) bool { return !slices.Contains(other.parts(), part) }) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

func tableOf(scenario string, list []*Summary) reportTable {
	t := reportTable{Scenario: scenario}
	var own []*Summary
	var figures []*Figures
	for _, s := range list {
		if s.Scenario == scenario {
			own, figures = append(own, s), append(figures, &s.Figures)
			t.Loads = append(t.Loads, s.Describe())
		}
	}
	for _, key := range keys(figures...) {
		row := reportRow{Name: key}
		for _, s := range own {
			text := cell(s.Numbers(), key)
			if s.Runs > 1 && text != "" {
				text += " (" + cell(s.Min, key) + " to " + cell(s.Max, key) + ")"
			}
			row.Cells = append(row.Cells, text)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
