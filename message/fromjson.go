package message

import (
	"math"
	"strconv"
	"time"
)

// FromJSON makes a message from a JSON object: each member becomes a field.
//
//	string            string
//	integer           int64 if it is spelled without fraction and exponent and fits, else float64
//	other number      float64
//	true, false       bool
//	null              no field
//	object            a nested message
//	array             an array of its elements' kind; numbers of which not all are int64 are float64;
//	                  an empty one is an array of strings
//
// A mixed array, an array with null or with arrays, a member that is there
// twice and text that is not UTF-8 are errors. Errors are *SyntaxError, with
// member and position, and wrap ErrJSON. The message does not share line.
func FromJSON(line []byte) (*Message, error) {
	p := scanner{s: line, kind: ErrJSON}
	var d jsonReader
	m, err := d.object(&p, 1)
	if err != nil {
		return nil, err
	}
	return finish(&p, m)
}

// jsonReader turns JSON into values within the limits of a message.
type jsonReader struct {
	items int
	typed bool // objects may stand for values, see AppendTyped
}

func (d *jsonReader) count(p *scanner, n int) error {
	if d.items += n; d.items > MaxItems {
		return p.fail(p.pos, ErrTooLarge, "more than %d fields and elements in one message", MaxItems)
	}
	return nil
}

func (d *jsonReader) object(p *scanner, depth int) (*Message, error) {
	if depth > MaxNesting {
		return nil, p.fail(p.pos, ErrTooLarge, "objects nest more than %d deep", MaxNesting)
	}
	m := &Message{}
	if err := p.expect('{'); err != nil {
		return nil, err
	}
	if p.space() == '}' {
		p.pos++
		return m, nil
	}
	seen := make(map[string]struct{})
	for {
		if err := d.member(p, m, seen, depth); err != nil {
			return nil, err
		}
		if p.space() == '}' {
			p.pos++
			return m, nil
		}
		if err := p.expect(','); err != nil {
			return nil, err
		}
	}
}

func (d *jsonReader) member(p *scanner, m *Message, seen map[string]struct{}, depth int) error {
	p.space()
	at := p.pos
	name, err := p.text()
	if err != nil {
		return err
	}
	if err := ValidName(name); err != nil {
		return p.fail(at, err, "%v", err)
	}
	outer := len(p.path)
	if outer > 0 {
		p.path = append(p.path, '.')
	}
	p.path = append(p.path, name...)
	if _, twice := seen[name]; twice {
		return p.fail(at, ErrDuplicate, "the member is there twice")
	}
	seen[name] = struct{}{}
	if err := d.count(p, 1); err != nil {
		return err
	}
	if err := p.expect(':'); err != nil {
		return err
	}
	v, err := d.value(p, depth)
	if err != nil {
		return err
	}
	if v.kind != 0 {
		m.Fields = append(m.Fields, Field{name, v})
	}
	p.path = p.path[:outer]
	return nil
}

// value reads a value; null is the zero Value.
func (d *jsonReader) value(p *scanner, depth int) (Value, error) {
	c := p.space()
	switch {
	case c == '"':
		s, err := p.text()
		return String(s), err
	case c == '{':
		if name, found := d.tag(p); found {
			return d.tagged(p, name)
		}
		if err := d.count(p, 1); err != nil {
			return Value{}, err
		}
		m, err := d.object(p, depth+1)
		return Nested(m), err
	case c == '[':
		return d.array(p, depth)
	case c == '-' || c >= '0' && c <= '9':
		return d.number(p)
	case p.word("true"):
		return Bool(true), nil
	case p.word("false"):
		return Bool(false), nil
	case p.word("null"):
		return Value{}, nil
	}
	return Value{}, p.fail(p.pos, nil, "expected a value, found %s", p.found())
}

func (d *jsonReader) number(p *scanner) (Value, error) {
	at := p.pos
	lit, integer, err := p.number()
	if err != nil {
		return Value{}, err
	}
	if integer {
		if n, err := strconv.ParseInt(lit, 10, 64); err == nil {
			return Int(n), nil
		}
	}
	f, err := strconv.ParseFloat(lit, 64)
	if err != nil {
		return Value{}, p.fail(at, ErrValue, "%.40s does not fit into a float64", lit)
	}
	return Float(f), nil
}

func (d *jsonReader) array(p *scanner, depth int) (Value, error) {
	p.pos++ // the bracket
	if p.space() == ']' {
		p.pos++
		return Strings(nil), nil
	}
	outer := len(p.path)
	var elems []Value
	var kind Kind
	for {
		p.path = append(strconv.AppendInt(append(p.path[:outer], '['), int64(len(elems)), 10), ']')
		if err := d.count(p, 1); err != nil {
			return Value{}, err
		}
		p.space()
		at := p.pos
		v, err := d.value(p, depth)
		if err != nil {
			return Value{}, err
		}
		if kind, err = elementKind(p, at, kind, v.kind); err != nil {
			return Value{}, err
		}
		elems = append(elems, v)
		if p.space() == ']' {
			p.pos++
			break
		}
		if err := p.expect(','); err != nil {
			return Value{}, err
		}
	}
	p.path = p.path[:outer]
	return arrayOf(p, kind, elems)
}

// elementKind returns the kind of an array's elements after one more.
func elementKind(p *scanner, at int, have, next Kind) (Kind, error) {
	number := func(k Kind) bool { return k == KindInt64 || k == KindFloat64 }
	switch {
	case next == 0:
		return 0, p.fail(at, ErrValue, "an array cannot hold null")
	case next&KindArray != 0:
		return 0, p.fail(at, ErrValue, "an array cannot hold arrays")
	case have == 0 || have == next:
		return next, nil
	case number(have) && number(next):
		return KindFloat64, nil
	}
	return 0, p.fail(at, ErrValue, "%v in an array that began with %v: elements must be of one kind", next, have)
}

func arrayOf(p *scanner, kind Kind, elems []Value) (Value, error) {
	switch kind {
	case KindString:
		return Strings(convert(elems, func(v Value) string { s, _ := v.AsString(); return s })), nil
	case KindInt64:
		return Ints(convert(elems, func(v Value) int64 { return int64(v.num) })), nil
	case KindBool:
		return Bools(convert(elems, func(v Value) bool { return v.num != 0 })), nil
	case KindMessage:
		return NestedArray(convert(elems, func(v Value) *Message { m, _ := v.AsNested(); return m })), nil
	case KindBytes:
		return BytesArray(convert(elems, func(v Value) []byte { b, _ := v.AsBytes(); return b })), nil
	case KindTime:
		return Times(convert(elems, func(v Value) time.Time { t, _ := v.AsTime(); return t })), nil
	}
	floats := make([]float64, len(elems))
	for i, v := range elems {
		if n, ok := v.AsInt(); ok {
			floats[i] = float64(n)
			if floats[i] >= math.MaxInt64 || int64(floats[i]) != n {
				return Value{}, p.fail(p.pos, ErrValue, "%d among floats loses digits as a float64", n)
			}
			continue
		}
		floats[i], _ = v.AsFloat()
	}
	return Floats(floats), nil
}

func convert[T any](elems []Value, one func(Value) T) []T {
	out := make([]T, len(elems))
	for i, v := range elems {
		out[i] = one(v)
	}
	return out
}
