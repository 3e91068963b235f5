package portable

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perdure/perdure/message"
)

// maxColumns is more than a message can have fields of its own.
const maxColumns = message.MaxNames + 64

// column is what a column means: something of the message, or a field.
type column struct {
	name string
	take func(m *message.Message, cell []byte) error // nil: it says nothing
}

// cell is a cell of a record.
type cell struct {
	text []byte
	at   int // in the record
}

// head reads the line that names the columns.
func (r *Reader) head() error {
	at := len(r.raw)
	if err := r.record(); err != nil {
		return err
	}
	if bytes.HasPrefix(r.raw[at:], byteOrderMark) {
		at += len(byteOrderMark)
		r.began = at
	}
	if err := r.split(r.raw[at:]); err != nil {
		return err
	}
	columns := make([]column, 0, len(r.cells))
	for _, c := range r.cells {
		name := string(c.text)
		if slices.ContainsFunc(columns, func(o column) bool { return o.name == name }) {
			return r.wrong(c.at, fmt.Errorf("%w: column %q is there twice", message.ErrDuplicate, name))
		}
		take, err := meaning(name)
		if err != nil {
			return r.wrong(c.at, fmt.Errorf("column %q: %w", name, err))
		}
		columns = append(columns, column{name, take})
	}
	r.columns, r.headed = columns, true
	return nil
}

// split cuts a record into cells.
func (r *Reader) split(record []byte) error {
	r.cells = r.cells[:0]
	r.content = append(r.content[:0], record...) // cells are put together in place
	record = r.content
	end := len(record)
	if end > 0 && record[end-1] == '\n' {
		end--
		if end > 0 && record[end-1] == '\r' {
			end--
		}
	}
	for at := 0; ; at++ { // over the comma
		if len(r.cells) == maxColumns {
			return r.wrong(at, fmt.Errorf("%w: more than %d columns", message.ErrTooLarge, maxColumns))
		}
		c := cell{at: at}
		if at < end && record[at] == '"' {
			text := record[at+1 : at+1]
			for at++; ; at++ {
				if at >= end {
					return r.wrong(c.at, fmt.Errorf("%w: the cell in quotes is not closed", message.ErrValue))
				}
				if record[at] == '"' {
					if at++; at >= end || record[at] != '"' {
						break
					}
				}
				text = append(text, record[at])
			}
			if at < end && record[at] != ',' {
				return r.wrong(at, fmt.Errorf("%w: %q behind a cell in quotes; want a comma, or two quotes for one", message.ErrValue, record[at]))
			}
			c.text = text
		} else {
			n := bytes.IndexByte(record[at:end], ',')
			if n < 0 {
				n = end - at
			}
			c.text = record[at : at+n]
			if i := bytes.IndexByte(c.text, '"'); i >= 0 {
				return r.wrong(at+i, fmt.Errorf("%w: a quote in a cell without quotes; put the cell in quotes and double the one in it", message.ErrValue))
			}
			at += n
		}
		r.cells = append(r.cells, c)
		if at >= end {
			return nil
		}
	}
}

// row makes a message of a record.
func (r *Reader) row(record []byte) (*message.Message, error) {
	if err := r.split(record); err != nil {
		return nil, err
	}
	if len(r.cells) != len(r.columns) {
		return nil, r.wrong(0, fmt.Errorf("%w: %d cells, and the first line names %d columns", message.ErrValue, len(r.cells), len(r.columns)))
	}
	m := &message.Message{}
	for i, c := range r.cells {
		take := r.columns[i].take
		if take == nil || len(c.text) == 0 {
			continue
		}
		if err := take(m, c.text); err != nil {
			return nil, r.wrong(c.at, fmt.Errorf("column %q: %w", r.columns[i].name, err))
		}
	}
	return m, nil
}

// meaning says what a column does to a message.
func meaning(name string) (func(*message.Message, []byte) error, error) {
	if !strings.HasPrefix(name, "_") {
		return fieldColumn(name)
	}
	switch name {
	case columnStore, columnDurables, columnID, columnStamp, columnCount:
		return nil, nil
	case columnKey:
		return func(m *message.Message, cell []byte) error { m.Key = string(cell); return text(cell) }, nil
	case columnTTL:
		return func(m *message.Message, cell []byte) (err error) {
			ttl, problem := message.ParseTTL(string(cell))
			m.TTL = ttl
			return valueProblem(cell, problem)
		}, nil
	case columnDeliverAt:
		return func(m *message.Message, cell []byte) (err error) {
			at, problem := message.ParseInstant(string(cell))
			m.DeliverAt = at
			return valueProblem(cell, problem)
		}, nil
	case columnFields:
		return func(m *message.Message, cell []byte) error {
			fields, err := message.FromTyped(cell)
			if err != nil {
				return err
			}
			for _, f := range fields.Fields {
				if err := addField(m, f.Name, f.Value); err != nil {
					return err
				}
			}
			return nil
		}, nil
	case columnHeaders:
		return func(m *message.Message, cell []byte) (err error) {
			m.Headers, err = message.ParseHeaders(cell)
			return err
		}, nil
	case columnBody:
		return func(m *message.Message, cell []byte) error { return setBody(m, bytes.Clone(cell)) }, nil
	case columnBase64:
		return func(m *message.Message, cell []byte) error {
			body, err := base64.StdEncoding.Strict().AppendDecode(nil, cell)
			if err != nil {
				return valueProblem(cell, "it is not base64")
			}
			return setBody(m, body)
		}, nil
	}
	return nil, fmt.Errorf("%w: there is no such column; there are %s, and names of fields do not begin with '_'", message.ErrName, strings.Join(columns, ", "))
}

func setBody(m *message.Message, body []byte) error {
	if len(m.Body) > 0 {
		return fmt.Errorf("%w: both %s and %s are there", message.ErrValue, columnBody, columnBase64)
	}
	m.Body = body
	return nil
}

func text(cell []byte) error {
	if !utf8.Valid(cell) {
		return fmt.Errorf("%w: %.80q", message.ErrUTF8, cell)
	}
	return nil
}

func valueProblem(cell []byte, problem string) error {
	if problem == "" {
		return nil
	}
	return fmt.Errorf("%w: %.80q: %s", message.ErrValue, cell, problem)
}

// fieldColumn is a column of a field, whose kind may be behind its name.
func fieldColumn(name string) (func(*message.Message, []byte) error, error) {
	field, kind := name, "string"
	if i := strings.LastIndexByte(name, ':'); i >= 0 && kinds[name[i+1:]] != nil {
		field, kind = name[:i], name[i+1:]
	}
	if err := message.ValidName(field); err != nil {
		return nil, err
	}
	parse := kinds[kind]
	return func(m *message.Message, cell []byte) error {
		v, problem := parse(string(cell))
		if problem != "" {
			return valueProblem(cell, problem)
		}
		return addField(m, field, v)
	}, nil
}

// addField adds a field. Columns are few, and fields in one cell differ already;
// that no name is there twice is also the builder's to check.
func addField(m *message.Message, name string, v message.Value) error {
	if len(m.Fields) < maxColumns {
		if _, twice := m.Get(name); twice {
			return fmt.Errorf("%w: field %q", message.ErrDuplicate, name)
		}
	}
	m.Fields = append(m.Fields, message.Field{Name: name, Value: v})
	return nil
}

// kinds are what a cell may be read as.
var kinds = map[string]func(string) (message.Value, string){
	"string": func(s string) (message.Value, string) {
		if !utf8.ValidString(s) {
			return message.Value{}, "it is not UTF-8; a column NAME:bytes has base64"
		}
		return message.String(s), ""
	},
	"int64": func(s string) (message.Value, string) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return message.Value{}, "it is no whole number within 64 bits"
		}
		return message.Int(n), ""
	},
	"float64": func(s string) (message.Value, string) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return message.Value{}, "it is no number that fits into a float64"
		}
		return message.Float(f), ""
	},
	"bool": func(s string) (message.Value, string) {
		if s != "true" && s != "false" {
			return message.Value{}, "it is neither true nor false"
		}
		return message.Bool(s == "true"), ""
	},
	"bytes": func(s string) (message.Value, string) {
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil {
			return message.Value{}, "it is not base64"
		}
		return message.Bytes(b), ""
	},
	"time": func(s string) (message.Value, string) {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return message.Value{}, "it is no time such as 2006-01-02T15:04:05Z"
		}
		return message.Time(t), ""
	},
}
