package main

import (
	"os"
	"syscall"
)

// syncData waits until the bytes of a file, not its times, are on the disk.
func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
