// Package flights holds the sample data of the demo and the tests: 20,000 US
// domestic flights of 2001, one JSON object a line, in the order of departure.
//
// Each object has date (text, local time), delay (minutes, may be negative),
// distance (miles), origin and destination (airport codes; 220 distinct
// origins, 223 destinations).
//
// Source: on-time data of the US Bureau of Transportation Statistics (public
// domain), as sampled in the vega-datasets collection (flights-20k, version
// 3.2.1).
//
// The data travels inside the program, compressed, so that a fresh clone needs
// no file and no network. The package does not interpret the lines.
package flights

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"sync"
)

// Count is the number of lines.
const Count = 20_000

//go:embed flights-20k.jsonl.gz
var packed []byte

// unpack runs once: the lines stay in memory, about 2.3 MB with their slice
// headers, because a publisher and the checks after it both go through them.
var unpack = sync.OnceValues(func() ([][]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("embedded flights: %w", err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("embedded flights: %w", err)
	}
	lines := make([][]byte, 0, Count)
	for line := range bytes.Lines(text) {
		// The capacity ends with the line: an append by a caller must not
		// run into the next one.
		line = bytes.TrimSuffix(line, []byte("\n"))
		lines = append(lines, line[:len(line):len(line)])
	}
	return lines, nil
})

// Lines returns the flights, one JSON object each, without line ends.
//
// The first call decodes them, which takes some tens of milliseconds. All
// calls share one result: callers read it and change neither it nor its bytes.
// Safe for concurrent use. An error means that the program itself is damaged.
func Lines() ([][]byte, error) { return unpack() }
