//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errProc = errors.New("bench: what other processes use is known on Linux only")

// ProcessUsage is not known on this system.
func ProcessUsage(...int) (Usage, error) { return Usage{}, errProc }

// ProcessCPU is not known on this system.
func ProcessCPU(...int) (time.Duration, error) { return 0, errProc }
