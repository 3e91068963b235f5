//go:build !linux

package bench

import (
	"errors"
	"time"
)

// ProcessCPU is not known on this system.
func ProcessCPU(...int) (time.Duration, error) {
	return 0, errors.New("bench: the processor time of other processes is known on Linux only")
}
