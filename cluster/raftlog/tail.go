package raftlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// cutTail ends Pebble's newest log file where its last whole record ends.
//
// It is for mode async after the machine stopped: what was not synced may have
// reached the disk in any order, so that a hole can be followed by blocks that
// say they were synced, for Pebble was told so. Pebble would call that damage
// and refuse all of it. All copies are marked already as ones that may have
// forgotten, so the whole records before the hole are what is left, and nobody
// takes it for more. Older log files were synced when they were closed: in them,
// a hole is damage.
func cutTail(d *disk, dir string) error {
	name, number, err := newestLogFile(d, dir)
	if err != nil || name == "" {
		return err
	}
	path := d.PathJoin(dir, name)
	f, err := d.FS.Open(path)
	if err != nil {
		return fmt.Errorf("raftlog: open %s: %w", path, err)
	}
	whole, torn, err := wholeRecords(f, number)
	if err == nil && torn {
		d.opts.Logger.Warn("log engine: the end of the log is torn and is cut off", slog.String("path", path), slog.Int64("kept", whole))
		err = keepPrefix(d, dir, name, f, whole)
	}
	return errors.Join(err, f.Close())
}

// newestLogFile returns "" if there is none.
func newestLogFile(fs vfs.FS, dir string) (name string, number wal.NumWAL, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", 0, fmt.Errorf("raftlog: list %s: %w", dir, err)
	}
	for _, n := range names {
		if num, _, ok := wal.ParseLogFilename(n); ok && num >= number {
			name, number = n, num
		}
	}
	return name, number, nil
}

// wholeRecords returns where the last whole record ends, and whether something
// other than the end of the log follows.
func wholeRecords(f vfs.File, number wal.NumWAL) (end int64, torn bool, err error) {
	r := newRecordReader(record.NewReader, f, uint64(number))
	for {
		end = r.Offset()
		rec, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return end, false, nil
		case record.IsInvalidRecord(err):
			return end, true, nil
		default:
			return 0, false, fmt.Errorf("raftlog: read the log: %w", err)
		}
	}
}

// newRecordReader names the type of a file number, which Pebble does not export.
func newRecordReader[N ~uint64](open func(io.Reader, N) *record.Reader, f io.Reader, number uint64) *record.Reader {
	return open(f, N(number))
}

// keepPrefix replaces a file by its first n bytes, durably.
func keepPrefix(fs vfs.FS, dir, name string, f vfs.File, n int64) error {
	data := make([]byte, n)
	if _, err := f.ReadAt(data, 0); err != nil && n > 0 {
		return fmt.Errorf("raftlog: read %s: %w", name, err)
	}
	return replaceFile(fs, dir, name, data)
}
