package raftlog

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// WriteVec implements journal.Vectored.
func (f *diskFile) WriteVec(pieces [][]byte, off int64) (int, error) {
	n, err := writeVec(f.File, pieces, off)
	f.disk.written.Add(uint64(n))
	if err != nil {
		f.fail("write", err)
	}
	return n, err
}

// writeTogether is WriteAt of all pieces.
func writeTogether(file vfs.File, pieces [][]byte, off int64) (int, error) {
	return file.WriteAt(bytes.Join(pieces, nil), off)
}
