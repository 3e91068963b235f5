package server

import "syscall"

// freeBytes is what the disk of a directory has room for; false if nobody knows.
func freeBytes(dir string) (free uint64, ok bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
