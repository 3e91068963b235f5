package wholefile

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps others from writing what f is open for, until f is closed: the kernel
// lets go of it however this process ends.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrBusy
	}
	return err
}
