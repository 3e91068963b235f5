package journal

import (
	"errors"
	"fmt"
)

// ErrClosed means that the journal was closed.
var ErrClosed = errors.New("journal: closed")

// ErrReleased means that the segment of a position was released.
var ErrReleased = errors.New("journal: the segment was released")

// ErrTooLarge means that the data of a record is over MaxData.
var ErrTooLarge = fmt.Errorf("journal: a record has at most %d bytes of data", MaxData)

// CorruptError says that what was on disk has changed since.
type CorruptError struct {
	Segment  uint64
	Offset   int64
	Sequence uint64 // of the record, 0 where it is not known
	What     string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: segment %d is damaged at byte %d (record %d): %s", e.Segment, e.Offset, e.Sequence, e.What)
}
