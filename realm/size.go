package realm

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var errSize = errors.New("is not a size; write a whole number of bytes or such as 64k, 512MB, 1GiB")

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
}

// ParseSize reads a number of bytes such as 4096, 64k, 512MB or 1GiB. With an i
// the unit is a power of 1,024, without a power of 1,000.
func ParseSize(s string) (int64, error) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil {
		return 0, errSize
	}
	unit, ok := unitOf(strings.TrimLeft(s[digits:], " "))
	if !ok {
		return 0, errSize
	}
	if n > math.MaxInt64/unit {
		return 0, errors.New("is above 8 EiB; write a smaller size")
	}
	return n * unit, nil
}

// unitOf accepts KiB, Ki, KB and K, in any case, and likewise the greater ones.
func unitOf(s string) (int64, bool) {
	s = strings.ToUpper(s)
	if s == "" || s == "B" {
		return 1, true
	}
	for _, u := range sizeUnits {
		name := strings.ToUpper(u.name)
		if s == name || s == strings.TrimSuffix(name, "B") {
			return u.bytes, true
		}
	}
	return 0, false
}

// FormatSize writes a size as shortly as it can so that ParseSize reads the
// same number.
func FormatSize(n int64) string {
	best := strconv.FormatInt(n, 10)
	for _, u := range sizeUnits {
		if n <= 0 || n%u.bytes != 0 {
			continue
		}
		if s := strconv.FormatInt(n/u.bytes, 10) + u.name; len(s) <= len(best) {
			best = s
		}
	}
	return best
}

// parseDuration reads a duration above zero.
func parseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit; write such as %sms or %ss", s, s, s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write such as 50ms or 1m30s", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%s is not above zero; write such as 50ms, or remove the key for the default", s)
	}
	return d, nil
}
