package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWriteReport(t *testing.T) {
	s := Summarize("v1<&", runsOf("publish", 100, 200, 300))
	s.ReceiveTimes = newTimes()
	record(s.ReceiveTimes, time.Second)
	var b bytes.Buffer
	if err := WriteReport(&b, []*Summary{s, Summarize("v1", runsOf("stream", 7))}, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{
		"Perdure benchmark: publish, stream", "v1&lt;&amp;", "1970-01-01", "Messages a second", "Time by percentile",
		"<rect class=\"bar\"", "<path class=\"range\"", ">publish, to receive<", "All loads: 128 B, async, 1 publisher, 8 x 64 KiB.", "<td>200 (100 to 300)</td>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	for _, never := range []string{"http:", "https:", "src=", "@import", "url(", "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if n := strings.Count(page, "<svg"); n < 4 {
		t.Errorf("%d charts", n)
	}
	for rest := page; ; {
		_, from, more := strings.Cut(rest, "<svg")
		if !more {
			break
		}
		drawing, after, _ := strings.Cut(from, "</svg>")
		wellFormed(t, "<svg"+drawing+"</svg>")
		rest = after
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}

// Memory is drawn in MiB, as its chart says.
func TestMemoryIsInMiB(t *testing.T) {
	runs := runsOf("publish", 1, 2, 3)
	for _, f := range runs {
		f.PeakRSS = 300 << 20
	}
	if drawing, any := barsOf([]*Summary{Summarize("", runs)}, "peak_rss"); !any || !strings.Contains(string(drawing), ">300<") {
		t.Errorf("300 MiB are drawn as %s", drawing)
	}
}

func TestReportOfNothing(t *testing.T) {
	if err := WriteReport(io.Discard, nil, time.Now()); err != nil {
		t.Error(err)
	}
	if err := WriteReport(io.Discard, []*Summary{Summarize("", []*Figures{{Scenario: "idle"}})}, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestLabels(t *testing.T) {
	load := func(size, publishers int) *Summary {
		return &Summary{Figures: Figures{Scenario: "publish", Size: size, Publishers: publishers, Sync: true}}
	}
	list := []*Summary{load(1, 1), load(1, 4), load(2, 4)}
	for i, want := range []string{"1 B, 1 publisher", "1 B, 4 publishers", "2 B, 4 publishers"} {
		if got := list[i].label(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := inCommon(list); got != "one by one" {
		t.Errorf("in common is %q", got)
	}
	if got := list[0].label(list[:1]); got != "publish" {
		t.Errorf("a single load is %q", got)
	}
}

func TestLabelWidth(t *testing.T) {
	for _, tc := range []struct{ letters, want int }{{1, labelLeast}, {40, 296}, {500, labelMost}} {
		if got := labelWidth([]bar{{label: "x"}, {label: strings.Repeat("ä", tc.letters)}}); got != tc.want {
			t.Errorf("%d letters take %d, want %d", tc.letters, got, tc.want)
		}
	}
}

// TestManyCurves: lines of the same colour are dashed differently.
func TestManyCurves(t *testing.T) {
	h := newTimes()
	record(h, time.Millisecond)
	drawing := string(curves(slices.Repeat([]curve{{"x", h}}, colours*dashes)))
	if !strings.Contains(drawing, `text-anchor="end">99.999 %`) {
		t.Error("the last percentile is written over the edge")
	}
	for _, class := range []string{"c0 d0", "c5 d0", "c0 d1", "c5 d2"} {
		if n := strings.Count(drawing, class); n != 2 { // the line, and what explains it
			t.Errorf("%s comes %d times", class, n)
		}
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0.0123: "0.0123", 12.345: "12.3", 1234: "1.23 thousand", 123456: "123 thousand", 2_500_000: "2.5 million"} {
		if got := short(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
	for us, want := range map[float64]string{10: "10 us", 1000: "1 ms", 1e6: "1 s"} {
		if got := micros(us); got != want {
			t.Errorf("%v is %q, want %q", us, got, want)
		}
	}
}

func TestWriteHGRM(t *testing.T) {
	h := newTimes()
	record(h, 5*time.Microsecond)
	var b bytes.Buffer
	if err := WriteHGRM(&b, h); err != nil || !strings.Contains(b.String(), "#[Mean    =") || !strings.Contains(b.String(), "5.000") {
		t.Errorf("%v: %s", err, b.String())
	}
	if err := WriteHGRM(&b, newTimes()); err == nil {
		t.Error("no times were written")
	}
}
