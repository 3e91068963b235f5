package main

import (
	"fmt"
	"hash/crc32"
	"os"
)

// segmentSize is what a server preallocates, and writes over and over. It is
// written once before: blocks that a log recycles cost less than new ones.
const segmentSize = 256 << 20 // bytes

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is the file that a server appends to. One goroutine owns it.
type segment struct {
	file *os.File
	size int64
	next int64
	sync bool
}

func openSegment(path string, size int64, sync bool) (*segment, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("segment: %w", err)
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("preallocate a segment: %w", err)
	}
	return &segment{file: f, size: size, sync: sync}, nil
}

// append writes items and, if the segment syncs, waits until the disk has them:
// once for all.
func (s *segment) append(items []item) error {
	for _, i := range items {
		_ = crc32.Checksum(i.batch, castagnoli) // what a log would keep beside it
		if s.next+int64(len(i.batch)) > s.size {
			s.next = 0
		}
		if _, err := s.file.WriteAt(i.batch, s.next); err != nil {
			return fmt.Errorf("append: %w", err)
		}
		s.next += int64(len(i.batch))
	}
	if !s.sync {
		return nil
	}
	if err := syncData(s.file); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	return nil
}
