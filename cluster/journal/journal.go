package journal

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Limits of Options.
const (
	// DefaultSegmentBytes is the size of a segment unless set.
	DefaultSegmentBytes = 32 << 20
	// MinSegmentBytes is the least size of a segment.
	MinSegmentBytes = 4 << 10
	// MaxSegmentBytes is the greatest; offsets have 32 bits.
	MaxSegmentBytes = 1 << 30
)

// The journal's own records.
const (
	kindNote Kind = 0xfe // says only how much was on disk
	kindEnd  Kind = 0xff // ends a segment
)

// maxKeptBuffer bounds the buffer of a write that is kept for the next.
const maxKeptBuffer = 8 << 20

// Options are the settings of a Journal. Dir and FS are required.
type Options struct {
	// Dir belongs to the journal alone and exists.
	Dir string
	FS  vfs.FS
	// SegmentBytes is the size of a segment; a record that is larger has one of
	// its own. DefaultSegmentBytes unless set.
	SegmentBytes int64
	// Spares is how many released segments are kept to be written again. Blocks
	// that were written before sync in about half of the time. 2 unless set; below
	// 0 is none.
	Spares int
	// Ahead is how far zeros are written ahead of small appends to a file that was
	// not written before; 0 is not at all. A sync then neither changes the file's
	// size nor marks blocks as written, which takes as long again as the sync.
	Ahead int64
	// Nonce is drawn anew, from a source that cannot be guessed, for each opening.
	Nonce uint32
	// After is a segment above which new ones are numbered, whatever is there:
	// others may still know those up to it.
	After uint64
	// Floor is a segment that Raise was called with, or 0: the segments below it
	// are not read by Open.
	Floor uint64
}

func (o *Options) prepare() error {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.Spares == 0 {
		o.Spares = 2
	}
	switch {
	case o.Dir == "" || o.FS == nil:
		return fmt.Errorf("journal: no directory given: set Options.Dir and Options.FS")
	case o.SegmentBytes < MinSegmentBytes || o.SegmentBytes > MaxSegmentBytes:
		return fmt.Errorf("journal: segments of %d bytes: want %d to %d", o.SegmentBytes, MinSegmentBytes, MaxSegmentBytes)
	}
	return nil
}

// Journal is an open journal. Append and Sync may run at the same time, each on
// one goroutine at a time; Read, Release and Stats on any.
type Journal struct {
	opts    Options
	current atomic.Uint64 // number of the segment that is written
	stable  atomic.Uint64 // every record below this sequence is on disk
	known   uint64        // and the disk says that every one below this is; syncs is held
	syncs   sync.Mutex    // held while files are synced or closed
	zeros   []byte        // for ahead; write is held

	write struct {
		sync.Mutex
		next  uint64 // sequence
		chain uint32
		cur   *segment
		dirty []*segment // written since their last sync, in order; cur may be the last
		named bool       // a name of a file changed since the directory was synced
		claim uint64     // what the last record says was on disk
		buf   []byte
		loose []loosePart // what is written from where it is, between parts of buf
		size  int64       // of both
		parts [][]byte
		err   error // why nothing can be written any more
	}
	files struct {
		sync.RWMutex // held for reading while a file is read
		segments     map[uint64]*segment
		spares       []string
		spare        uint64 // number of the last name of a spare
		moved        bool   // a segment became a spare since the directory was synced
		last         uint64 // number of the last segment
		closed       bool
	}
}

// segment is one file. size is guarded by write.
type segment struct {
	number uint64
	nonce  uint32 // of the opening that made it
	name   string
	file   vfs.File
	size   int64  // up to its last record
	blocks int64  // up to here the file was written before
	next   uint64 // sequence behind that
	dirty  bool
}

// Append appends records with one write, in order, and appends their positions
// to to. They may be read at once. The data is not used after it returns. A group lies in one
// segment, which is larger than others if it must be.
func (j *Journal) Append(to []Position, records []Record) ([]Position, error) {
	w := &j.write
	w.Lock()
	defer w.Unlock()
	for i := range records {
		if len(records[i].Data) > MaxData {
			return to, fmt.Errorf("%w, this one %d", ErrTooLarge, len(records[i].Data))
		}
		if records[i].Summed && len(records[i].Data) < summedAtLeast {
			return to, fmt.Errorf("journal: data of %d bytes cannot carry its checksum: do not set Record.Summed", len(records[i].Data))
		}
	}
	for len(records) > 0 {
		n, err := j.room(records)
		if err != nil {
			return to, err
		}
		at := w.cur.size
		for i := range records[:n] {
			to = append(to, Position{w.cur.number, uint32(at + w.size), uint32(len(records[i].Data))})
			r := records[i]
			r.More = r.More && i < n-1
			j.put(&r)
		}
		if err := j.flush(); err != nil {
			return to, err
		}
		records = records[n:]
	}
	return to, nil
}

// room says how many of records go into the current segment, at least a group: it
// begins another where none fits. A group that is larger than a segment has one of
// its own.
func (j *Journal) room(records []Record) (n int, err error) {
	w := &j.write
	for {
		if w.err != nil {
			return 0, w.err
		}
		if w.cur != nil {
			size := w.cur.size + recordHeader // room for the end
			for i := range records {
				size += recordSize(len(records[i].Data))
				if size > j.opts.SegmentBytes && (n > 0 || w.cur.size > segmentHeader) {
					break
				}
				if !records[i].More || i == len(records)-1 {
					n = i + 1
				}
			}
			if n > 0 {
				return n, nil
			}
		}
		if err := j.roll(); err != nil {
			return 0, err
		}
	}
}

// loosePart is data that comes behind the first so many bytes of a buffer.
type loosePart struct {
	behind int
	data   []byte
}

// looseBytes is from where on data is not copied, but written from where it is.
const looseBytes = 4 << 10

// Vectored is a file that writes several pieces, in order, as one.
type Vectored interface {
	WriteVec(pieces [][]byte, off int64) (int, error)
}

// put encodes one record of the current segment. The data is used until flush.
func (j *Journal) put(r *Record) {
	w := &j.write
	w.claim = j.stable.Load()
	before := len(w.buf)
	_, vectored := w.cur.file.(Vectored)
	if vectored && len(r.Data) >= looseBytes {
		w.buf, w.chain = appendRecordHeader(w.buf, r, w.next, w.claim, w.chain, w.cur.nonce)
		w.loose = append(w.loose, loosePart{len(w.buf), r.Data})
		w.buf = appendPadding(w.buf, len(r.Data))
		w.size += int64(len(r.Data))
	} else {
		w.buf, w.chain = appendRecord(w.buf, r, w.next, w.claim, w.chain, w.cur.nonce)
	}
	w.size += int64(len(w.buf) - before)
	w.next++
}

// flush writes what was put.
func (j *Journal) flush() error {
	w := &j.write
	s := w.cur
	if err := j.writeAt(s); err != nil {
		return j.fail(fmt.Errorf("journal: write %s: %w", s.name, err))
	}
	s.size, s.next = s.size+w.size, w.next
	if !s.dirty {
		s.dirty = true
		w.dirty = append(w.dirty, s)
	}
	w.buf, w.size = w.buf[:0], 0
	if cap(w.buf) > maxKeptBuffer {
		w.buf = nil
	}
	return nil
}

// smallAppend is the most that zeros are written ahead of: many bytes at once
// would be written twice.
const smallAppend = 16 << 10

const zeroBytes = 4 << 10

// ahead writes zeros where a small append is about to begin new blocks. They need
// no sync of their own: behind the last record anything may lie.
func (j *Journal) ahead(s *segment) error {
	end := s.size + j.write.size
	if j.opts.Ahead == 0 || j.write.size > smallAppend || end <= s.blocks {
		return nil
	}
	to := min(end+j.opts.Ahead, j.opts.SegmentBytes)
	if j.zeros == nil {
		j.zeros = make([]byte, zeroBytes)
	}
	// In small pieces, because what one call wrote may be written back as a whole
	// by every sync of a part of it.
	for at := s.size; at < to; {
		n := min(zeroBytes-at%zeroBytes, to-at)
		if _, err := s.file.WriteAt(j.zeros[:n], at); err != nil {
			return err
		}
		at += n
	}
	s.blocks = max(to, end)
	return nil
}

// writeAt writes what was put behind what a segment has.
func (j *Journal) writeAt(s *segment) error {
	w := &j.write
	if err := j.ahead(s); err != nil {
		return err
	}
	if len(w.loose) == 0 {
		_, err := s.file.WriteAt(w.buf, s.size)
		return err
	}
	from := 0
	for _, l := range w.loose {
		w.parts = append(w.parts, w.buf[from:l.behind], l.data)
		from = l.behind
	}
	if from < len(w.buf) {
		w.parts = append(w.parts, w.buf[from:])
	}
	_, err := s.file.(Vectored).WriteVec(w.parts, s.size)
	clear(w.parts)
	clear(w.loose)
	w.parts, w.loose = w.parts[:0], w.loose[:0]
	return err
}

// fail notes why nothing can be written any more; write is held.
func (j *Journal) fail(err error) error {
	if j.write.err == nil {
		j.write.err = err
	}
	return j.write.err
}

// roll ends the current segment, if there is one, and begins the next.
func (j *Journal) roll() error {
	w := &j.write
	if w.cur != nil {
		j.put(&Record{Kind: kindEnd})
		if err := j.flush(); err != nil {
			return err
		}
	}
	s, err := j.create()
	if err != nil {
		return j.fail(err)
	}
	// The nonce makes what follows different from whatever the file held.
	w.chain ^= j.opts.Nonce
	s.nonce = j.opts.Nonce
	h := head{number: s.number, first: w.next, chain: w.chain, nonce: j.opts.Nonce, stable: j.stable.Load()}
	w.cur, w.buf = s, h.append(w.buf)
	w.size += segmentHeader
	j.current.Store(s.number)
	return j.flush()
}

// Sync returns when everything that was appended before it is on disk. With
// nothing to do it does nothing.
func (j *Journal) Sync() error {
	j.syncs.Lock()
	defer j.syncs.Unlock()
	return j.syncLocked(false)
}

// syncLocked syncs, and if last is set lets nothing be written any more.
func (j *Journal) syncLocked(last bool) error {
	w := &j.write
	w.Lock()
	next, claim, dirty, named, err := w.next, w.claim, w.dirty, w.named, w.err
	w.dirty, w.named = nil, false
	for _, s := range dirty {
		s.dirty = false
	}
	if last && err == nil {
		w.err = ErrClosed
	}
	w.Unlock()
	if err != nil {
		return err
	}
	for _, s := range dirty {
		if err := s.file.SyncData(); err != nil {
			return j.failed(fmt.Errorf("journal: sync %s: %w", s.name, err))
		}
	}
	if named {
		if err := j.syncDir(); err != nil {
			return j.failed(err)
		}
	}
	j.stable.Store(max(next, j.stable.Load()))
	j.known = max(claim, j.known)
	return nil
}

func (j *Journal) failed(err error) error {
	j.write.Lock()
	defer j.write.Unlock()
	return j.fail(err)
}

// Full returns the numbers of the segments that are written to no more, ascending.
func (j *Journal) Full() []uint64 {
	j.write.Lock()
	defer j.write.Unlock()
	f := &j.files
	f.RLock()
	defer f.RUnlock()
	numbers := make([]uint64, 0, len(f.segments))
	for n, s := range f.segments {
		if s != j.write.cur {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Current returns the number of the segment that is written, 0 before the first
// record after Open: what is appended from now on is in it or in a later one.
func (j *Journal) Current() uint64 { return j.current.Load() }
