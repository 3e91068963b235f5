package portable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/perdure/perdure/message"
)

// Reader reads messages. It is not safe for concurrent use.
type Reader struct {
	in      *bufio.Reader
	format  Format
	raw     []byte // what was read for the last message
	began   int    // of the record, in raw
	line    int    // of its first byte
	next    int    // of the byte that follows
	columns []column
	cells   []cell
	content []byte // what cells are cut from
	headed  bool
	limit   int // MaxRecord, less in tests
}

// NewReader returns a reader of a format.
func NewReader(in io.Reader, f Format) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), format: f, next: 1, limit: MaxRecord}
}

// Line returns the line on which the last record began, and that on which it
// ended.
func (r *Reader) Line() (first, last int) { return r.line, max(r.line, r.next-1) }

// Raw returns the bytes that were read for the last message, until the next call
// of Next: its record, and what came before it that is none. All that it returned
// is what was read so far.
func (r *Reader) Raw() []byte { return r.raw }

// Next returns the next message, which shares nothing with the reader, or io.EOF.
// An error about the text is an *Error; the reader may be asked for what follows.
func (r *Reader) Next() (*message.Message, error) {
	r.raw = r.raw[:0]
	if r.format == CSV && !r.headed {
		if err := r.head(); err != nil {
			return nil, err
		}
	}
	for {
		at := len(r.raw)
		if err := r.record(); err != nil {
			return nil, err
		}
		record := r.raw[at:]
		if len(bytes.TrimSpace(record)) == 0 {
			continue
		}
		switch r.format {
		case CSV:
			return r.row(record)
		case Objects:
			return r.object(record, message.FromJSON)
		}
		return r.object(record, message.FromRecord)
	}
}

// object makes a message of a line.
func (r *Reader) object(line []byte, from func([]byte) (*message.Message, error)) (*message.Message, error) {
	if r.line == 1 {
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	m, err := from(bytes.TrimRight(line, "\r\n"))
	if err != nil {
		return nil, r.wrong(0, err)
	}
	return m, nil
}

// byteOrderMark is what some programs put before text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// wrong returns an error about the record, at bytes from its beginning.
func (r *Reader) wrong(at int, err error) error {
	var syntax *message.SyntaxError
	if errors.As(err, &syntax) && r.format != CSV {
		at += syntax.Offset
		err = &located{syntax}
	}
	before := r.raw[r.began:min(r.began+at, len(r.raw))]
	lines := bytes.Count(before, []byte{'\n'})
	return &Error{Line: r.line + lines, Column: at - bytes.LastIndexByte(before, '\n'), Err: err}
}

// located is a syntax error whose position was said.
type located struct{ err *message.SyntaxError }

func (e *located) Error() string {
	if e.err.Member == "" {
		return e.err.Problem
	}
	return fmt.Sprintf("in %q: %s", e.err.Member, e.err.Problem)
}

func (e *located) Unwrap() error { return e.err }

// record appends the next record to raw: a line, of CSV as many as belong
// together.
func (r *Reader) record() error {
	at, quotes := len(r.raw), 0
	r.began = at
	r.line = r.next
	for {
		began := len(r.raw)
		err := r.readLine(at)
		switch {
		case err == io.EOF && len(r.raw) == at:
			return io.EOF
		case err != nil && err != io.EOF:
			return err
		}
		r.next++
		if r.format != CSV {
			return nil
		}
		quotes += bytes.Count(r.raw[began:], []byte{'"'})
		if quotes%2 == 0 {
			return nil
		}
		if err == io.EOF {
			return &Error{Line: r.line, Err: errors.New("a cell in quotes is not closed")}
		}
	}
}

// readLine appends the next line, with its end, to raw. What began at at must not
// be longer than a record may be.
func (r *Reader) readLine(at int) error {
	for {
		part, err := r.in.ReadSlice('\n')
		r.raw = append(r.raw, part...)
		if len(r.raw)-at > r.limit {
			return &Error{Line: r.line, Err: fmt.Errorf("%w: the record is longer than %d bytes", message.ErrTooLarge, r.limit)}
		}
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}
