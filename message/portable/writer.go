package portable

import (
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure/message"
)

// Writer writes records. It is not safe for concurrent use.
type Writer struct {
	out    io.Writer
	csv    bool
	headed bool
	buf    []byte
	cell   []byte
}

// NewWriter returns a writer of a format that is written: JSONLines or CSV.
func NewWriter(out io.Writer, f Format) *Writer { return &Writer{out: out, csv: f == CSV} }

// Write writes a record.
func (w *Writer) Write(r *Record) error {
	w.buf = w.buf[:0]
	if w.csv {
		w.head()
		w.row(r)
	} else {
		w.object(r)
	}
	_, err := w.out.Write(w.buf)
	return err
}

// Close writes what is still to be written where there was no record. It does not
// close what it writes to.
func (w *Writer) Close() error {
	if !w.csv || w.headed {
		return nil
	}
	w.buf = w.buf[:0]
	w.head()
	_, err := w.out.Write(w.buf)
	return err
}

func (w *Writer) object(r *Record) {
	b := append(message.AppendText(append(w.buf, `{"store":`...), r.Store), `,"durables":`...)
	b = appendNames(b, r.Durables)
	b = strconv.AppendUint(append(b, `,"id":`...), uint64(r.ID), 10)
	b = append(r.Stamp.UTC().AppendFormat(append(b, `,"stamp":"`...), time.RFC3339Nano), '"')
	b = strconv.AppendUint(append(b, `,"count":`...), r.Count, 10)
	w.buf = append(r.Message.AppendMembers(append(b, ',')), "}\n"...)
}

func appendNames(dst []byte, names []string) []byte {
	dst = append(dst, '[')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = message.AppendText(dst, name)
	}
	return append(dst, ']')
}

// head writes the names of the columns, once.
func (w *Writer) head() {
	if !w.headed {
		w.headed = true
		w.buf = append(append(w.buf, strings.Join(columns, ",")...), '\n')
	}
}

func (w *Writer) row(r *Record) {
	m := r.Message
	w.text(r.Store)
	w.put(appendNames(w.cell[:0], r.Durables))
	w.put(strconv.AppendUint(w.cell[:0], uint64(r.ID), 10))
	w.put(r.Stamp.UTC().AppendFormat(w.cell[:0], time.RFC3339Nano))
	w.put(strconv.AppendUint(w.cell[:0], r.Count, 10))
	w.text(m.Key)
	w.cell = w.cell[:0]
	if m.TTL != 0 {
		w.cell = append(w.cell, m.TTL.String()...)
	}
	w.put(w.cell)
	w.cell = w.cell[:0]
	if !m.DeliverAt.IsZero() {
		w.cell = m.DeliverAt.UTC().AppendFormat(w.cell, time.RFC3339Nano)
	}
	w.put(w.cell)
	w.cell = w.cell[:0]
	if len(m.Fields) > 0 {
		w.cell = m.AppendTyped(w.cell)
	}
	w.put(w.cell)
	w.cell = w.cell[:0]
	if len(m.Headers) > 0 {
		w.cell = message.AppendHeaders(w.cell, m.Headers)
	}
	w.put(w.cell)
	if utf8.Valid(m.Body) {
		w.put(m.Body)
		w.put(nil)
	} else {
		w.put(nil)
		w.cell = base64.StdEncoding.AppendEncode(w.cell[:0], m.Body)
		w.put(w.cell)
	}
	w.buf[len(w.buf)-1] = '\n'
}

func (w *Writer) text(s string) { w.put(append(w.cell[:0], s...)) }

// put writes a cell and the comma behind it, in quotes where it needs them.
func (w *Writer) put(cell []byte) {
	quoted := len(cell) > 0 && (cell[0] == ' ' || cell[len(cell)-1] == ' ')
	for _, c := range cell {
		quoted = quoted || c == '"' || c == ',' || c == '\n' || c == '\r'
	}
	if !quoted {
		w.buf = append(append(w.buf, cell...), ',')
		return
	}
	w.buf = append(w.buf, '"')
	for _, c := range cell {
		if c == '"' {
			w.buf = append(w.buf, '"')
		}
		w.buf = append(w.buf, c)
	}
	w.buf = append(w.buf, '"', ',')
}
