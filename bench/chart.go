package bench

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Sizes of charts, in the units of their view boxes.
const (
	chartWidth  = 860
	barHeight   = 22
	labelLeast  = 80 // room for labels of bars, and how much a letter takes of it
	labelMost   = 520
	letterWidth = 7
	curveHeight = 300
	curveLeft   = 70
	curveBottom = 40
)

// bar is a line of a bar chart.
type bar struct {
	label     string
	value     float64
	low, high float64 // of several runs; both 0 where there is one
}

// bars draws values side by side, each with the range of its runs.
func bars(list []bar) template.HTML {
	var greatest float64
	for _, b := range list {
		greatest = max(greatest, b.value, b.high)
	}
	left := labelWidth(list)
	room := float64(chartWidth - left - 110)
	at := func(v float64) float64 { return float64(left) + room*ratio(v, greatest) }
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %d %d" role="img">`, chartWidth, barHeight*len(list)+6)
	for i, b := range list {
		y := float64(i * barHeight)
		fmt.Fprintf(&s, `<text x="%d" y="%.0f" text-anchor="end">%s</text>`, left-8, y+15, html.EscapeString(b.label))
		fmt.Fprintf(&s, `<rect class="bar" x="%d" y="%.0f" width="%.1f" height="%d"/>`, left, y+3, max(1, at(b.value)-float64(left)), barHeight-7)
		end := at(b.value)
		if b.high > 0 {
			fmt.Fprintf(&s, `<path class="range" d="M%.1f %.0fh%.1fM%.1f %.0fv6M%.1f %.0fv6"/>`,
				at(b.low), y+10.5, at(b.high)-at(b.low), at(b.low), y+7.5, at(b.high), y+7.5)
			end = max(end, at(b.high))
		}
		fmt.Fprintf(&s, `<text x="%.1f" y="%.0f">%s</text>`, end+6, y+15, short(b.value))
	}
	s.WriteString(`</svg>`)
	return template.HTML(s.String()) // every text in it is escaped or a number
}

// labelWidth is the room that the longest label takes, about.
func labelWidth(list []bar) int {
	width := labelLeast
	for _, b := range list {
		width = max(width, letterWidth*utf8.RuneCountInString(b.label)+16)
	}
	return min(width, labelMost)
}

// A line of a chart of percentiles.
type curve struct {
	label string
	times *hdrhistogram.Histogram
}

// nines are the percentiles on the axis: each step takes a tenth of what is left.
var nines = []float64{0, 90, 99, 99.9, 99.99, 99.999}

// curves draws times over percentiles, both axes logarithmic.
func curves(list []curve) template.HTML {
	low, high := math.Inf(1), 1.0
	for _, c := range list {
		low = min(low, float64(max(1, c.times.Min())))
		high = max(high, float64(c.times.Max()))
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if high <= low {
		high = low + 1
	}
	right, bottom := float64(chartWidth-20), float64(curveHeight-curveBottom)
	x := func(percentile float64) float64 {
		steps := -math.Log10(1 - min(percentile, nines[len(nines)-1])/100)
		return curveLeft + (right-curveLeft)*steps/float64(len(nines)-1)
	}
	y := func(us float64) float64 {
		return bottom - (bottom-10)*(math.Log10(max(1, us))-low)/(high-low)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %d %d" role="img">`, chartWidth, curveHeight+18*len(list))
	for _, n := range nines {
		at, anchor := x(n), "middle"
		if n == nines[len(nines)-1] { // there is no room to the right of it
			at, anchor = chartWidth, "end"
		}
		fmt.Fprintf(&s, `<path class="grid" d="M%.1f 10V%.1f"/><text x="%.1f" y="%.1f" text-anchor="%s">%g %%</text>`, x(n), bottom, at, bottom+16, anchor, n)
	}
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(&s, `<path class="grid" d="M%d %.1fH%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, curveLeft, y(v), right, curveLeft-6, y(v)+4, micros(v))
	}
	for i, c := range list {
		class := fmt.Sprintf(`class="line c%d d%d"`, i%colours, i/colours%dashes)
		fmt.Fprintf(&s, `<polyline %s points="`, class)
		for k := range 201 {
			p := 100 * (1 - math.Pow(10, -float64(k)/200*float64(len(nines)-1)))
			fmt.Fprintf(&s, "%.1f,%.1f ", x(p), y(float64(c.times.ValueAtQuantile(p))))
		}
		fmt.Fprintf(&s, `"/><path %s d="M%d %dh30"/><text x="%d" y="%d">%s</text>`,
			class, curveLeft, curveHeight-2+18*i, curveLeft+38, curveHeight+3+18*i, html.EscapeString(c.label))
	}
	s.WriteString(`</svg>`)
	return template.HTML(s.String()) // every text in it is escaped or a number
}

// So many lines the style sheet tells apart.
const colours, dashes = 6, 3

// short writes a number with three digits that count.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3g million", v/1e6)
	case v >= 1000:
		return fmt.Sprintf("%.3g thousand", v/1000)
	}
	return fmt.Sprintf("%.3g", v)
}

// micros writes a time on an axis.
func micros(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.0f s", us/1e6)
	case us >= 1000:
		return fmt.Sprintf("%.0f ms", us/1000)
	}
	return fmt.Sprintf("%.0f us", us)
}
