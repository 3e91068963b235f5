package statefile

import (
	"math"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// MaxRuns is how many runs one [Pending] record holds, and how many messages
// one [Counts] record. Only the last record of a durable has fewer.
const MaxRuns = 1024

// maxOutcomes is how many outcomes a session remembers.
const maxOutcomes = 64

// Record is a piece of the state: a pointer to one of the types below. Stores
// are named by their position among the stores of the file, durables likewise.
type Record interface {
	// Section returns where the record belongs.
	Section() Section
	// appendTo appends the record, a batch without its bytes.
	appendTo(dst []byte) []byte
	// parse reads the record, and may keep parts of what it reads.
	parse(c *cursor)
}

// Store is what a store knows beside its batches and durables. Stores ascend by
// name.
type Store struct {
	Name    string
	Epoch   uint16
	Counter uint64 // of the last id given
}

// Durable is what a durable knows beside its pending set and counts. Durables
// ascend by store and name.
type Durable struct {
	Store    uint32
	Name     string
	Kind     durable.Kind
	Matcher  string
	Prefetch uint32
	Dynamic  bool
	Template string

	Watermark message.ID
	Matched   uint64
	Acked     uint64

	Attachments uint64 // number of the last
	Attachment  [3]uint64
	// Marks are as [durable.Marks] encodes them, with one for the present leader
	// if it has said that it delivers: where the state is loaded, it is gone.
	Marks []byte
}

// Pending are runs of pending messages of a durable.
type Pending struct {
	Durable uint32
	Runs    []Run
}

// Run is N ids from First on.
type Run struct {
	First message.ID
	N     uint64
}

// Counts are messages of a durable whose deliveries have ended without an
// acknowledgement, and how often.
type Counts struct {
	Durable uint32
	Ended   []Ended
}

// Ended is how many deliveries of a message have ended.
type Ended struct {
	ID    message.ID
	Times uint32
}

// Session is what a store remembers of a publisher. Sessions come in the order
// of their last use.
type Session struct {
	ID       uint64
	Store    uint32
	Last     uint64 // last sequence accepted
	Attempt  uint32
	Closed   bool
	Idle     int64 // nanoseconds since the last use
	Outcomes []Outcome
}

// Outcome is what a publisher was told; the last one belongs to sequence Last.
type Outcome struct {
	First      message.ID
	Count      uint32
	Interested bool
	Sum        uint64
}

// Batch is a batch of which somebody wants something. Batches ascend by store
// and id.
type Batch struct {
	Store uint32
	First message.ID
	Count uint32
	Stamp int64 // cluster time of publishing, nanoseconds since 1970
	Len   uint32
	// Bytes are the batch as it was published, Len of them. They are not part of
	// the state hash: they have checksums of their own.
	Bytes []byte
}

// Section implements [Record].
func (*Store) Section() Section { return SectionStores }

// Section implements [Record].
func (*Durable) Section() Section { return SectionDurables }

// Section implements [Record].
func (*Pending) Section() Section { return SectionPending }

// Section implements [Record].
func (*Counts) Section() Section { return SectionCounts }

// Section implements [Record].
func (*Session) Section() Section { return SectionSessions }

// Section implements [Record].
func (*Batch) Section() Section { return SectionBatches }

func (s *Store) appendTo(dst []byte) []byte {
	return putInts(putText(dst, s.Name), uint64(s.Epoch), s.Counter)
}

func (s *Store) parse(c *cursor) {
	*s = Store{Name: c.text(message.MaxNameLen), Epoch: uint16(c.int(math.MaxUint16)), Counter: c.int(message.MaxCounter)}
}

// last returns the last id given, or where the first of its epoch follows.
func (s *Store) last() message.ID { return message.MakeID(s.Epoch, s.Counter) }

func (d *Durable) appendTo(dst []byte) []byte {
	dst = putInts(dst, uint64(d.Store))
	dst = putInts(putText(dst, d.Name), uint64(d.Kind), uint64(d.Prefetch), flags(d.Dynamic))
	dst = putText(putText(dst, d.Matcher), d.Template)
	dst = putInts(dst, uint64(d.Watermark), d.Matched, d.Acked, d.Attachments)
	dst = putInts(dst, d.Attachment[:]...)
	return append(putInts(dst, uint64(len(d.Marks))), d.Marks...)
}

func (d *Durable) parse(c *cursor) {
	*d = Durable{Store: c.uint32(), Name: c.text(message.MaxNameLen), Kind: durable.Kind(c.int(255)), Prefetch: c.uint32()}
	d.Dynamic = c.int(1) == 1
	d.Matcher, d.Template = c.text(message.MaxMatcherSize), c.text(message.MaxNameLen)
	d.Watermark = message.ID(c.uint64())
	d.Matched, d.Acked, d.Attachments = c.uint64(), c.uint64(), c.uint64()
	for i := range d.Attachment {
		d.Attachment[i] = c.uint64()
	}
	d.Marks = c.bytes(c.uint64())
}

// appendTo stores each run as its distance from the end of the one before.
func (p *Pending) appendTo(dst []byte) []byte {
	dst = putInts(dst, uint64(p.Durable), uint64(len(p.Runs)))
	next := uint64(0)
	for _, r := range p.Runs {
		dst = putInts(dst, uint64(r.First)-next, r.N)
		next = uint64(r.First) + r.N
	}
	return dst
}

func (p *Pending) parse(c *cursor) {
	*p = Pending{Durable: c.uint32(), Runs: p.Runs[:0]}
	next := uint64(0)
	for n := c.count(MaxRuns, 2); n > 0; n-- {
		gap, length := c.uint64(), c.uint64()
		first := next + gap
		if gap == 0 || length == 0 || first < next || first+length < first {
			c.fail() // runs do not touch, and end before ids do
			return
		}
		p.Runs = append(p.Runs, Run{First: message.ID(first), N: length})
		next = first + length
	}
}

func (p *Counts) appendTo(dst []byte) []byte {
	dst = putInts(dst, uint64(p.Durable), uint64(len(p.Ended)))
	last := uint64(0)
	for _, e := range p.Ended {
		dst = putInts(dst, uint64(e.ID)-last, uint64(e.Times))
		last = uint64(e.ID)
	}
	return dst
}

func (p *Counts) parse(c *cursor) {
	*p = Counts{Durable: c.uint32(), Ended: p.Ended[:0]}
	last := uint64(0)
	for n := c.count(MaxRuns, 2); n > 0; n-- {
		gap, times := c.uint64(), c.uint32()
		if gap == 0 || times == 0 || last+gap < last {
			c.fail()
			return
		}
		last += gap
		p.Ended = append(p.Ended, Ended{ID: message.ID(last), Times: times})
	}
}

func (s *Session) appendTo(dst []byte) []byte {
	dst = putInts(dst, s.ID, uint64(s.Store), s.Last, uint64(s.Attempt), flags(s.Closed), uint64(s.Idle))
	for _, o := range s.Outcomes {
		dst = putInts(dst, uint64(o.First), uint64(o.Count), flags(o.Interested), o.Sum)
	}
	return dst
}

func (s *Session) parse(c *cursor) {
	*s = Session{
		ID: c.uint64(), Store: c.uint32(), Last: c.uint64(), Attempt: c.uint32(), Closed: c.int(1) == 1,
		Idle: int64(c.int(math.MaxInt64)), Outcomes: s.Outcomes[:0],
	}
	for n := min(s.Last, maxOutcomes); n > 0 && !c.failed; n-- {
		s.Outcomes = append(s.Outcomes, Outcome{
			First: message.ID(c.uint64()), Count: c.uint32(), Interested: c.int(1) == 1, Sum: c.uint64(),
		})
	}
}

func (b *Batch) appendTo(dst []byte) []byte {
	return putInts(dst, uint64(b.Store), uint64(b.First), uint64(b.Count), uint64(b.Stamp), uint64(b.Len))
}

func (b *Batch) parse(c *cursor) {
	*b = Batch{
		Store: c.uint32(), First: message.ID(c.uint64()), Count: uint32(c.int(message.MaxBatchMessages)),
		Stamp: int64(c.int(math.MaxInt64)), Len: uint32(c.int(message.MaxEncodedSize)),
	}
	b.Bytes = c.bytes(uint64(b.Len))
}

// last returns the id of the last message.
func (b *Batch) last() message.ID { return b.First + message.ID(b.Count) - 1 }
