package bench

import (
	"fmt"
	"io"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// hgrmTicks is how many lines each halving of the distance to 100 % has.
const hgrmTicks = 5

// WriteHGRM writes times in the format that tools for HDR histograms read.
// Values are microseconds.
func WriteHGRM(w io.Writer, times *hdrhistogram.Histogram) error {
	if times == nil || times.TotalCount() == 0 {
		return fmt.Errorf("bench: no times were measured; the scenario has none")
	}
	_, err := times.PercentilesPrint(w, hgrmTicks, 1)
	return err
}
