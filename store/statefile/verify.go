package statefile

import (
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/perdure/perdure/message"
)

// Verify reads a whole file, and reports whether every record of it can be read,
// is where it belongs, agrees with the others, and is what the manifest says. What
// it passes is loaded where the definition has its stores and durables. visit, if it
// is not nil, sees each record; nothing is trusted before Verify returned no error.
// Of each durable Verify has the pending set in memory, about as it is in the file: a
// file of which it would need more than 256 MiB, and eight times what was read, it
// refuses.
func Verify(in io.Reader, visit func(Record) error) (*Manifest, Totals, error) {
	r, err := NewReader(in)
	if err != nil {
		return nil, Totals{}, err
	}
	m := r.Manifest()
	t, s := NewTally(m.LastSession), soundness{time: m.Time, idle: MaxIdle, size: &r.totals.Size, limit: keptLimit}
	err = r.Each(func(x Record) error {
		for _, check := range []func(Record) error{t.Put, s.put} {
			if err := check(x); err != nil {
				return &Error{Code: Altered, Reason: err.Error()}
			}
		}
		if visit != nil {
			return visit(x)
		}
		return nil
	})
	if err != nil {
		return nil, Totals{}, err
	}
	r.section = SectionManifest
	if sum := t.Summary(); !reflect.DeepEqual(sum, m.Summary) {
		return nil, Totals{}, r.wrong(Altered, int64(headerLen), "it says %s, the records are %s", m.Summary.line(), sum.line())
	}
	if err := s.end(m); err != nil {
		return nil, Totals{}, r.wrong(Altered, int64(headerLen), "%v", err)
	}
	return m, r.Totals(), nil
}

// Each calls visit with each record up to the end of the file. An [Error] that
// visit returns is completed with the place of the record's block.
func (r *Reader) Each(visit func(Record) error) error {
	var records Records
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		records.Start(b.Section, b.Count, b.Content)
		for {
			x, err := records.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = visit(x)
			} else {
				err = &Error{Code: Altered, Reason: err.Error()}
			}
			var wrong *Error
			if errors.As(err, &wrong) && wrong.Section == 0 {
				wrong.Section, wrong.Position = b.Section, b.Position
				wrong.Reason = fmt.Sprintf("record ending at %d of the block's %d bytes: %s", records.Offset(), len(b.Content), wrong.Reason)
			}
			if err != nil {
				r.err = err
				return err
			}
		}
	}
}

// check reports whether b holds the batch that it says.
func (b *Batch) check() error {
	p, err := message.ParseBatch(b.Bytes)
	if err != nil {
		return fmt.Errorf("batch %v: %w", b.First, err)
	}
	if p.Count() != int(b.Count) {
		return fmt.Errorf("batch %v has %d messages, not %d", b.First, p.Count(), b.Count)
	}
	if err := p.Validate(0); err != nil {
		return fmt.Errorf("batch %v: %w", b.First, err)
	}
	return nil
}

// line describes s in a line.
func (s *Summary) line() string {
	batches, messages, bytes, pending := s.Totals()
	return fmt.Sprintf("%d stores, %d batches, %d messages, %d bytes, %d pending, %d sessions, state hash %.16q",
		len(s.Stores), batches, messages, bytes, pending, s.Sessions, s.StateHash)
}
