package statefile

import (
	"errors"
	"io"
)

// errRecord says that the content of a block is not its records.
var errRecord = errors.New("a record does not decode, or something follows the last")

// Records takes the content of a block apart, into records that it uses again.
type Records struct {
	section Section
	left    uint32
	size    int
	c       cursor

	store   Store
	durable Durable
	pending Pending
	counts  Counts
	session Session
	batch   Batch
}

// Start begins with the records of another block.
func (r *Records) Start(section Section, count uint32, content []byte) {
	r.section, r.left, r.size, r.c = section, count, len(content), cursor{b: content}
}

// Next returns the next record, which is valid until Next is called again, and
// io.EOF after the last.
func (r *Records) Next() (Record, error) {
	if r.left == 0 {
		if len(r.c.b) > 0 {
			return nil, errRecord
		}
		return nil, io.EOF
	}
	r.left--
	var x Record
	switch r.section {
	case SectionStores:
		x = &r.store
	case SectionDurables:
		x = &r.durable
	case SectionPending:
		x = &r.pending
	case SectionCounts:
		x = &r.counts
	case SectionSessions:
		x = &r.session
	case SectionBatches:
		x = &r.batch
	default:
		return nil, errRecord
	}
	x.parse(&r.c)
	if r.c.failed {
		return nil, errRecord
	}
	return x, nil
}

// Offset returns how much of the content the records returned so far have
// taken. A batch's bytes are the end of its record.
func (r *Records) Offset() int { return r.size - len(r.c.b) }
