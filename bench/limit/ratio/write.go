package ratio

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteJSON writes rows as one array, a row on a line. Values keep six
// significant digits: there is no more to measure.
func WriteJSON(w io.Writer, rows []Row) error {
	for i, r := range rows {
		for _, v := range []*float64{
			&r.Ours, &r.Peer, &r.Ratio, &r.OursMin, &r.OursMax, &r.PeerMin, &r.PeerMax, &r.OursWritten, &r.PeerWritten,
		} {
			*v = digits(*v, 6)
		}
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("row %v %s: %w", r.Load, r.Unit, err)
		}
		before := ",\n"
		if i == 0 {
			before = "[\n"
		}
		if _, err := fmt.Fprintf(w, "%s%s", before, line); err != nil {
			return err
		}
	}
	end := "\n]\n"
	if len(rows) == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// WriteTable writes rows for people: medians, with least and greatest.
func WriteTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tsize\tdurability\tunit\tours\t(min-max)\tpeer\t(min-max)\tpeer is\tours/peer\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t(%s-%s)\t%s\t(%s-%s)\t%s\t%s\t\n", r.Scenario, r.Size, r.Durability, r.Unit,
			short(r.Ours), short(r.OursMin), short(r.OursMax), short(r.Peer), short(r.PeerMin), short(r.PeerMax),
			r.PeerName, short(r.Ratio))
	}
	return t.Flush()
}

// String returns all figures in a line.
func (f Figures) String() string {
	var parts []string
	for _, unit := range units {
		if v, ok := f[unit]; ok {
			parts = append(parts, unit+" "+short(v))
		}
	}
	return strings.Join(parts, ", ")
}

// short keeps three significant digits, and all digits before the point.
func short(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(digits(v, 3), 'f', -1, 64)
}

// digits rounds v to n significant digits.
func digits(v float64, n int) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', n, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}
