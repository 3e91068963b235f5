package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the journal in a directory, which is empty for a new one, and gives
// every record to replay, in order; its data is valid during the call only. A
// torn tail is cut off. What was found is on disk when Open returns, and the
// next record begins a segment of its own. A record of which the data is damaged
// comes without it; other damage is a CorruptError, and then nothing has changed.
func Open(opts Options, replay func(Record, Position) error) (*Journal, error) {
	if err := opts.prepare(); err != nil {
		return nil, err
	}
	j := &Journal{opts: opts}
	j.files.segments = map[uint64]*segment{}
	j.write.next = 1
	if err := j.open(replay); err != nil {
		for _, s := range j.files.segments {
			err = errors.Join(err, s.file.Close())
		}
		return nil, err
	}
	return j, nil
}

func (j *Journal) open(replay func(Record, Position) error) error {
	numbers, err := j.list()
	if err != nil {
		return err
	}
	j.files.last = max(j.files.last, j.opts.After)
	var whole []*scan
	var torn *scan
	known := uint64(0) // to have been on disk
	floor, numbers, err := j.floor(numbers)
	if err != nil {
		return err
	}
	for i, n := range numbers {
		s, err := j.scan(n)
		if err != nil {
			return err
		}
		if s.on != nil && i+1 < len(numbers) {
			if s, err = j.goOn(s, numbers[i+1]); err != nil {
				return err
			}
		}
		known = max(known, s.stable)
		if s.bad == nil {
			whole = append(whole, s)
			continue
		}
		if !s.begun {
			s.next = 1
			if n := len(whole); n > 0 {
				s.next = whole[n-1].next
			}
		}
		// Only the last segment has no end, unless the machine lost power.
		behind, err := j.judge(s, numbers[i+1:])
		if err != nil {
			return err
		}
		known = max(known, behind)
		torn = s
		break
	}
	if torn != nil && torn.begun {
		whole = append(whole, torn)
	}
	if cut := gap(whole, known); cut < len(whole) {
		whole, torn = whole[:cut], nil
	}
	if err := j.check(whole); err != nil {
		return err
	}
	if floor && (len(whole) == 0 || known < whole[0].head.first) {
		return &CorruptError{j.opts.Floor, 0, 0, "nothing says that what lies before it was on disk, as its caller does"}
	}
	for _, s := range whole {
		if err := j.read(s, replay); err != nil {
			return err
		}
	}
	return j.settle(whole, torn, numbers)
}

// goOn returns how a segment goes on behind a record of which only the data is bad,
// if the next segment says that it was on disk.
func (j *Journal) goOn(s *scan, next uint64) (*scan, error) {
	other, err := j.scan(next)
	if err != nil {
		return nil, err
	}
	if err := other.file.Close(); err != nil {
		return nil, fmt.Errorf("journal: close %s: %w", other.name, err)
	}
	delete(j.files.segments, next)
	if other.begun && other.stable > s.bad.Sequence {
		return s.on, nil
	}
	return s, nil
}

// floor opens the segments below Options.Floor, which are not read, and returns
// the others. some says that there were any.
func (j *Journal) floor(numbers []uint64) (some bool, rest []uint64, err error) {
	n := 0
	for ; n < len(numbers) && numbers[n] < j.opts.Floor; n++ {
		s, err := j.openSegment(numbers[n])
		if err != nil {
			return false, nil, err
		}
		info, err := s.file.Stat()
		if err != nil {
			return false, nil, fmt.Errorf("journal: open %s: %w", s.name, err)
		}
		s.size = info.Size()
		b := make([]byte, segmentHeader)
		if err := readUpTo(s.name, s.file, b, 0); err != nil {
			return false, nil, err
		}
		// If it is damaged, what is read from the segment will not fit.
		h, _ := parseHead(b)
		s.nonce = h.nonce
	}
	return n > 0, numbers[n:], nil
}

func (j *Journal) openSegment(number uint64) (*segment, error) {
	name := segmentName(number)
	file, err := j.opts.FS.OpenReadWrite(j.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", name, err)
	}
	s := &segment{number: number, name: name, file: file}
	j.files.segments[number] = s
	return s, nil
}

// list returns the numbers of the segments, ascending, and notes the spares.
func (j *Journal) list() ([]uint64, error) {
	names, err := j.opts.FS.List(j.opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal: list %s: %w", j.opts.Dir, err)
	}
	var numbers []uint64
	f := &j.files
	for _, name := range names {
		if n, ok := numberOf(name, segmentSuffix); ok {
			numbers = append(numbers, n)
			f.last = max(f.last, n)
		} else if n, ok := numberOf(name, spareSuffix); ok {
			was, err := j.was(name)
			if err != nil {
				return nil, err
			}
			// It may hold a segment that a crash undid. None may have its number, or
			// another crash could bring that back.
			f.last = max(f.last, was)
			f.spares = append(f.spares, name)
			f.spare = max(f.spare, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// was returns the number of the segment that a spare file holds, 0 if none.
func (j *Journal) was(name string) (uint64, error) {
	file, err := j.opts.FS.Open(j.path(name))
	if err != nil {
		return 0, fmt.Errorf("journal: open %s: %w", name, err)
	}
	b := make([]byte, segmentHeader)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, errors.Join(fmt.Errorf("journal: read %s: %w", name, err), file.Close())
	}
	h, wrong := parseHead(b[:n])
	if wrong != "" {
		h.number = 0
	}
	return h.number, file.Close()
}

// scan is what a segment holds, as far as it is good.
type scan struct {
	*segment
	head    head
	begun   bool   // its header is good
	ended   bool   // its end is there
	end     int64  // behind the last good record
	next    uint64 // sequence behind it
	chain   uint32
	stable  uint64 // the highest that it says
	records []found
	bad     *CorruptError // why it goes no further, nil if it ended
	on      *scan         // how it goes on if a later segment says that all of it was on disk
}

// found is a record of a segment.
type found struct {
	record Record // without its data
	at     Position
}

// scan opens a segment and walks its records.
func (j *Journal) scan(number uint64) (*scan, error) {
	seg, err := j.openSegment(number)
	if err != nil {
		return nil, err
	}
	s := &scan{segment: seg}
	info, err := seg.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", seg.name, err)
	}
	return s, s.walk(io.NewSectionReader(seg.file, 0, info.Size()))
}

// walk reads records until one is not good, or the end.
func (s *scan) walk(r *io.SectionReader) error {
	header := make([]byte, segmentHeader)
	if err := s.readAt(r, header, 0); err != nil {
		return err
	}
	h, wrong := parseHead(header)
	if wrong == "" && h.number != s.number {
		wrong = fmt.Sprintf("it was segment %d", h.number)
	}
	if wrong != "" {
		s.bad = &CorruptError{s.number, 0, 0, wrong}
		return nil
	}
	s.nonce = h.nonce
	s.head, s.begun, s.end, s.next, s.chain, s.stable = h, true, segmentHeader, h.first, h.chain, h.stable
	b := make([]byte, recordHeader)
	var data []byte
	group := *s     // at the beginning of the group
	var doubt *scan // at the first record of which only the data is bad
	defer func() {
		bad := s.bad
		if bad != nil {
			*s = group
		}
		s.bad = bad
		if doubt != nil && s.stable <= doubt.bad.Sequence {
			// Nobody in it says that it was on disk.
			on := *s
			*s = *doubt
			s.on = &on
		}
	}()
	for !s.ended {
		if err := s.readAt(r, b, s.end); err != nil {
			return err
		}
		rec, f, ok := parseRecord(b, s.nonce)
		what := ""
		switch {
		case !ok:
			what = "there is no record"
		case f.sequence != s.next || f.chain != s.chain:
			what = fmt.Sprintf("record %d is not the next one", f.sequence)
		default:
			if cap(data) < int(f.length) {
				data = make([]byte, f.length)
			}
			data = data[:f.length]
			if err := s.readAt(r, data, s.end+recordHeader); err != nil {
				return err
			}
			rec.Damaged = !f.holds(data)
			if rec.Damaged && doubt == nil {
				d := group
				d.bad = &CorruptError{s.number, s.end, s.next, "the data has a wrong checksum"}
				doubt = &d
			}
		}
		if what != "" {
			s.bad = &CorruptError{s.number, s.end, s.next, what}
			return nil
		}
		switch rec.Kind {
		case kindEnd:
			s.ended = true
		case kindNote:
		default:
			s.records = append(s.records, found{rec, Position{s.number, uint32(s.end), f.length}})
		}
		s.end += recordSize(int(f.length))
		s.next, s.chain, s.stable = s.next+1, f.sum, max(s.stable, f.stable)
		if !rec.More {
			group = *s
		}
	}
	return nil
}

// readAt reads what there is; behind the end of the file there are zeros.
func (s *scan) readAt(r *io.SectionReader, b []byte, at int64) error {
	return readUpTo(s.name, r, b, at)
}

func readUpTo(name string, r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("journal: read %s at %d: %w", name, at, err)
	}
	clear(b[n:])
	return nil
}

// judge decides whether the journal ends where s goes no further: it does, unless
// something behind says that more was on disk.
// It returns the highest claim that it found.
func (j *Journal) judge(s *scan, behind []uint64) (known uint64, err error) {
	nonces := j.nonces()
	if known, err = s.ahead(nonces); err != nil {
		return 0, err
	}
	for _, n := range behind {
		other, err := j.scan(n)
		if err != nil {
			return 0, err
		}
		if !other.begun {
			other.next = s.next
		}
		more, err := other.ahead(nonces)
		if err != nil {
			return 0, err
		}
		known = max(known, other.stable, more)
	}
	if known > s.next {
		return 0, s.bad
	}
	return known, nil
}

// nonces returns those of the segments that are open.
func (j *Journal) nonces() map[uint32]bool {
	nonces := map[uint32]bool{}
	for _, s := range j.files.segments {
		nonces[s.nonce] = true
	}
	return nonces
}

// gap returns how many of the segments are the journal. Where some are missing,
// they were released if what lay before the next one is known to have been on
// disk; else they never were, and the journal ends before them.
func gap(whole []*scan, known uint64) int {
	next := uint64(1)
	for i, s := range whole {
		if s.head.first > next && known < s.head.first {
			return i
		}
		next = s.next
	}
	return len(whole)
}

// ahead returns the highest claim of what was on disk, among headers of records
// behind the end of s.
//
// A claim counts only with the nonce of the segment, or if that is not known with
// one of others: data that looks like a record proves nothing.
func (s *scan) ahead(others map[uint32]bool) (known uint64, err error) {
	nonces := others
	if s.begun {
		nonces = map[uint32]bool{s.nonce: true}
	}
	info, err := s.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("journal: %s: %w", s.name, err)
	}
	b := make([]byte, 1<<20)
	if !s.begun {
		// Without the header, the first record says which nonce it was: nobody but the
		// journal writes there.
		first := b[:recordHeader]
		if err := readUpTo(s.name, s.file, first, segmentHeader); err != nil {
			return 0, err
		}
		if first[0] == recordMagic {
			nonces = maps.Clone(others)
			nonces[binary.BigEndian.Uint32(first[52:])^crc32.Checksum(first[:52], castagnoli)] = true
		}
	}
	for at := max(s.end, segmentHeader); at < info.Size(); at += int64(len(b)) - recordHeader {
		n, err := s.file.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("journal: read %s at %d: %w", s.name, at, err)
		}
		for i := 0; i+recordHeader <= n; i += align {
			if b[i] != recordMagic {
				continue
			}
			for nonce := range nonces {
				if _, f, ok := parseRecord(b[i:], nonce); ok && f.sequence >= s.next {
					known = max(known, f.stable)
				}
			}
		}
	}
	return known, nil
}

// check compares what segments say of each other.
func (j *Journal) check(whole []*scan) error {
	for i, s := range whole[:max(0, len(whole)-1)] {
		next := whole[i+1]
		follows := next.head.first == s.next && next.head.chain == s.chain^next.head.nonce
		// Where segments between them were released, all that is known is the order.
		if !follows && (next.head.first <= s.next || next.number == s.number+1) {
			return &CorruptError{next.number, 0, next.head.first, fmt.Sprintf("it does not follow segment %d, which ends before record %d", s.number, s.next)}
		}
	}
	return nil
}

// read gives the records of a segment to replay.
func (j *Journal) read(s *scan, replay func(Record, Position) error) error {
	var data []byte
	for _, f := range s.records {
		if cap(data) < int(f.at.Length) {
			data = make([]byte, f.at.Length)
		}
		f.record.Data = data[:f.at.Length]
		if f.record.Damaged {
			f.record.Data = nil
		} else if _, err := s.file.ReadAt(f.record.Data, int64(f.at.Offset)+recordHeader); err != nil && len(f.record.Data) > 0 {
			return fmt.Errorf("journal: read %s at %d: %w", s.name, f.at.Offset, err)
		}
		if err := replay(f.record, f.at); err != nil {
			return err
		}
	}
	return nil
}

// settle makes the disk say what was found: what lay behind a torn segment is
// gone, the segment ends, and all of it is on disk.
func (j *Journal) settle(whole []*scan, torn *scan, numbers []uint64) error {
	w := &j.write
	for _, s := range whole {
		s.size, s.segment.next = s.end, s.next
		w.next, w.chain = s.next, s.chain
		s.dirty = true
		w.dirty = append(w.dirty, s.segment)
	}
	dropped := false
	for _, n := range numbers {
		if slices.ContainsFunc(whole, func(k *scan) bool { return k.number == n }) {
			continue
		}
		if err := j.drop(j.files.segments[n]); err != nil {
			return err
		}
		dropped = true
	}
	// They are gone before the end is there: else the next opening would find
	// segments that do not follow it.
	if dropped {
		if err := j.syncDir(); err != nil {
			return err
		}
	}
	if torn != nil && torn.begun {
		w.cur = torn.segment
		j.put(&Record{Kind: kindEnd})
		if err := j.flush(); err != nil {
			return err
		}
		w.cur = nil
	}
	w.named = true
	return j.Sync()
}
