package bench

import (
	"syscall"
	"time"
)

// setTimerSlack is PR_SET_TIMERSLACK, of a thread.
const setTimerSlack = 29

// pause sleeps in the kernel: the runtime's timers are up to a millisecond late
// in a program that has nothing else to do, and the kernel's 50 microseconds
// unless it is asked for better. Both are much of what is measured here.
func pause(d time.Duration) {
	// Each time, since the next call may be on another thread. Where it is refused
	// the sleep is as exact as it was.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal ends it early; the caller looks at the clock
}
