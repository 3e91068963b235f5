package raftlog

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// maxPieces is how many pieces the system takes at once (IOV_MAX).
const maxPieces = 1024

// writeVec writes pieces at off without putting them together, if file is one of
// the system's. It uses up the slice.
func writeVec(file vfs.File, pieces [][]byte, off int64) (int, error) {
	fd := file.Fd()
	if fd == vfs.InvalidFd {
		return writeTogether(file, pieces, off)
	}
	total := 0
	for len(pieces) > 0 {
		n, err := unix.Pwritev(int(fd), pieces[:min(maxPieces, len(pieces))], off+int64(total))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return total, err
		}
		total += n
		for len(pieces) > 0 && n >= len(pieces[0]) {
			n -= len(pieces[0])
			pieces = pieces[1:]
		}
		if n > 0 {
			pieces[0] = pieces[0][n:]
		}
	}
	return total, nil
}
