package bench

import (
	"syscall"
	"time"
)

// pause sleeps in the kernel: the runtime's timers are up to a millisecond late
// in a program that has nothing else to do, which is more than most of what is
// measured here.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal ends it early; the caller looks at the clock
}
