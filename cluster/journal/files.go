package journal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bytedance/gopkg/lang/dirtmake"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	segmentSuffix = ".seg"
	spareSuffix   = ".spare"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// numberOf reads the number in a name with a suffix.
func numberOf(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

func (j *Journal) path(name string) string { return j.opts.FS.PathJoin(j.opts.Dir, name) }

// create makes the file of the next segment, of a spare one if there is any;
// write is held.
func (j *Journal) create() (*segment, error) {
	f := &j.files
	f.Lock()
	if f.closed {
		f.Unlock()
		return nil, ErrClosed
	}
	f.last++
	s := &segment{number: f.last, name: segmentName(f.last)}
	spare := ""
	if n := len(f.spares); n > 0 {
		spare, f.spares = f.spares[n-1], f.spares[:n-1]
	}
	moved := f.moved
	f.moved = f.moved && spare == ""
	f.Unlock()
	if spare != "" && moved {
		// Else a crash could give what is written now its former name back.
		if err := j.syncDir(); err != nil {
			return nil, err
		}
	}
	if spare != "" {
		if err := j.opts.FS.Rename(j.path(spare), j.path(s.name)); err != nil {
			return nil, fmt.Errorf("journal: reuse %s as %s: %w", spare, s.name, err)
		}
	}
	file, err := j.opts.FS.OpenReadWrite(j.path(s.name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("journal: create %s: %w", s.name, err)
	}
	if info, err := file.Stat(); err == nil {
		s.blocks = info.Size()
	}
	if spare == "" {
		if err := file.Preallocate(0, j.opts.SegmentBytes); err != nil {
			return nil, errors.Join(fmt.Errorf("journal: preallocate %s: %w", s.name, err), file.Close())
		}
	}
	s.file = file
	j.write.named = true
	f.Lock()
	defer f.Unlock()
	f.segments[s.number] = s
	return s, nil
}

func (j *Journal) syncDir() error {
	d, err := j.opts.FS.OpenDir(j.opts.Dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("journal: sync directory %s: %w", j.opts.Dir, err)
	}
	return nil
}

// Read returns the record at p. What does not fit its checksums, or is another
// record than p was given for, is a CorruptError.
func (j *Journal) Read(p Position) (Record, error) {
	if p.Length > MaxData {
		return Record{}, fmt.Errorf("%w: position %v", ErrTooLarge, p)
	}
	b := dirtmake.Bytes(recordHeader+int(p.Length), recordHeader+int(p.Length)) // not cleared: all of it is read into
	nonce, err := j.readAt(b, p)
	if err != nil {
		return Record{}, err
	}
	r, f, ok := parseRecord(b, nonce)
	if !ok || f.length != p.Length {
		return Record{}, &CorruptError{p.Segment, int64(p.Offset), f.sequence, "this is not the header of the record"}
	}
	r.Data = b[recordHeader:]
	if !f.holds(r.Data) {
		return Record{}, &CorruptError{p.Segment, int64(p.Offset), f.sequence, "the data has a wrong checksum"}
	}
	return r, nil
}

// readAt reads what is at p, and returns the nonce of its segment.
func (j *Journal) readAt(b []byte, p Position) (nonce uint32, err error) {
	f := &j.files
	f.RLock()
	defer f.RUnlock()
	if f.closed {
		return 0, ErrClosed
	}
	s := f.segments[p.Segment]
	if s == nil {
		return 0, fmt.Errorf("%w: %v", ErrReleased, p)
	}
	if n, err := s.file.ReadAt(b, int64(p.Offset)); n < len(b) {
		return 0, fmt.Errorf("journal: read %s at %d: %d of %d bytes: %w", s.name, p.Offset, n, len(b), err)
	}
	return s.nonce, nil
}

// Release gives up a segment: nothing in it is needed any more. Its file is kept
// to be written again, or removed. The segment that is being written cannot be
// released; releasing one that is gone is no error. It syncs where the disk does
// not say yet that the segment was there: else a crash could take the gap for
// the journal's end.
func (j *Journal) Release(number uint64) error {
	j.syncs.Lock()
	defer j.syncs.Unlock()
	f := &j.files
	f.RLock()
	s := f.segments[number]
	f.RUnlock()
	if s == nil {
		return nil
	}
	if err := j.tell(s); err != nil {
		return err
	}
	return j.drop(s)
}

// Raise makes the disk say that all before a segment was on it, which must not be
// the first that there is. After it, number can be Options.Floor of later openings.
func (j *Journal) Raise(number uint64) error {
	j.syncs.Lock()
	defer j.syncs.Unlock()
	var before *segment
	f := &j.files
	f.RLock()
	for n, s := range f.segments {
		if n < number && (before == nil || n > before.number) {
			before = s
		}
	}
	f.RUnlock()
	if before == nil {
		return nil
	}
	return j.tell(before)
}

// Scan yields the records of a segment that is written to no more, in order. Records
// of which the data is damaged are left out; other damage is a CorruptError. Yield must not keep the data.
func (j *Journal) Scan(number uint64, yield func(Record, Position) error) error {
	b := make([]byte, recordHeader, 256<<10)
	for at := uint32(segmentHeader); ; {
		b = b[:recordHeader]
		nonce, err := j.readAt(b, Position{Segment: number, Offset: at})
		if err != nil {
			return err
		}
		r, f, ok := parseRecord(b, nonce)
		switch {
		case !ok:
			return &CorruptError{number, int64(at), 0, "there is no record"}
		case r.Kind == kindEnd:
			return nil
		}
		p := Position{number, at, f.length}
		b = slices.Grow(b[:0], int(f.length))[:f.length]
		if _, err := j.readAt(b, Position{Segment: number, Offset: at + recordHeader}); err != nil {
			return err
		}
		if r.Data = b; r.Kind != kindNote && f.holds(b) {
			if err := yield(r, p); err != nil {
				return err
			}
		}
		at += uint32(recordSize(int(f.length)))
	}
}

// tell makes the disk say that all of a segment was on it; syncs is held.
func (j *Journal) tell(s *segment) error {
	w := &j.write
	w.Lock()
	next, current := s.next, w.cur == s
	w.Unlock()
	if current {
		return fmt.Errorf("journal: segment %d is being written and cannot be released", s.number)
	}
	if j.known >= next {
		return nil
	}
	if j.stable.Load() < next {
		if err := j.syncLocked(false); err != nil {
			return err
		}
	}
	w.Lock()
	_, err := j.room([]Record{{}})
	if err == nil {
		j.put(&Record{Kind: kindNote})
		err = j.flush()
	}
	w.Unlock()
	if err != nil {
		return err
	}
	return j.syncLocked(false)
}

// drop lets a segment go; syncs is held.
func (j *Journal) drop(gone *segment) error {
	number := gone.number
	j.write.Lock()
	defer j.write.Unlock()
	f := &j.files
	f.Lock()
	s := f.segments[number]
	closed := f.closed
	delete(f.segments, number)
	f.Unlock()
	switch {
	case closed:
		return ErrClosed
	case s == nil:
		return nil
	}
	j.write.dirty = slices.DeleteFunc(j.write.dirty, func(d *segment) bool { return d == s })
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("journal: close %s: %w", s.name, err)
	}
	return j.recycle(s.name)
}

// recycle makes a spare of a file, or removes it.
func (j *Journal) recycle(name string) error {
	f := &j.files
	f.Lock()
	keep := len(f.spares) < j.opts.Spares
	f.spare++
	spare := fmt.Sprintf("%016x%s", f.spare, spareSuffix)
	f.Unlock()
	if !keep {
		if err := j.opts.FS.Remove(j.path(name)); err != nil {
			return fmt.Errorf("journal: remove %s: %w", name, err)
		}
		return nil
	}
	if err := j.opts.FS.Rename(j.path(name), j.path(spare)); err != nil {
		return fmt.Errorf("journal: keep %s as %s: %w", name, spare, err)
	}
	f.Lock()
	defer f.Unlock()
	f.spares, f.moved = append(f.spares, spare), true
	return nil
}

// Stats says what a journal holds.
type Stats struct {
	Segments int   // that are not released, the one that is written included
	Spares   int   // files that wait to be written again
	Bytes    int64 // of the segments' records and headers
}

// Stats returns what the journal holds now.
func (j *Journal) Stats() Stats {
	j.write.Lock()
	defer j.write.Unlock()
	f := &j.files
	f.RLock()
	defer f.RUnlock()
	st := Stats{Segments: len(f.segments), Spares: len(f.spares)}
	for _, s := range f.segments {
		st.Bytes += s.size
	}
	return st
}

// Close syncs and closes the journal. Later calls do nothing; everything else
// then returns ErrClosed.
func (j *Journal) Close() error {
	j.syncs.Lock()
	defer j.syncs.Unlock()
	f := &j.files
	f.RLock()
	closed := f.closed
	f.RUnlock()
	if closed {
		return nil
	}
	err := j.syncLocked(true)
	f.Lock()
	defer f.Unlock()
	f.closed = true
	for _, s := range f.segments {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
