//go:build !linux

package raftlog

import "github.com/cockroachdb/pebble/v2/vfs"

func writeVec(file vfs.File, pieces [][]byte, off int64) (int, error) {
	return writeTogether(file, pieces, off)
}
