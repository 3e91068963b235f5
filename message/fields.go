package message

import "encoding/binary"

// FieldReader steps through the top level fields of one message without
// decoding or allocating. Of a part that is damaged it yields what comes
// before the damage.
type FieldReader struct {
	dict   dictionary
	rest   []byte
	left   int
	number int
	kind   Kind
	raw    []byte
}

// Fields returns a reader of the fields of message i. It panics if i is not
// below Count.
func (b Batch) Fields(i int) FieldReader {
	rest, left := b.fields(i)
	return FieldReader{dict: b.dict, rest: rest, left: left}
}

// fields returns the encoded fields of message i and how many it says they
// are.
func (b *Batch) fields(i int) (fields []byte, n int) {
	p := b.part(i)
	if len(p) < 2 || p[0]&hasFields == 0 {
		return nil, 0
	}
	r := reader{b: p[1:]}
	if contents := p[0]; contents&(hasTTL|hasDeliverAt|hasKey) != 0 {
		if contents&hasTTL != 0 {
			r.bytes(8)
		}
		if contents&hasDeliverAt != 0 {
			r.bytes(8)
		}
		if contents&hasKey != 0 {
			r.prefixed()
		}
	}
	n = r.uvarint()
	return r.b, n
}

// Next goes to the next field and reports whether there is one.
func (f *FieldReader) Next() bool {
	if f.left <= 0 {
		return false
	}
	f.left--
	var ok bool
	f.number, f.kind, f.raw, f.rest, ok = field(f.rest)
	if !ok || f.number >= f.dict.names {
		f.left = 0
		return false
	}
	return true
}

// Number returns the field's name as its number in the dictionary.
func (f *FieldReader) Number() int { return f.number }

// Name returns the field's name, sharing the bytes of the batch.
func (f *FieldReader) Name() string { return text(f.dict.name(f.number)) }

// Kind returns the kind of the field's value.
func (f *FieldReader) Kind() Kind { return f.kind }

// Raw returns the encoded value, sharing the bytes of the batch.
func (f *FieldReader) Raw() []byte { return f.raw }

// Int returns an int64 value; false if the value is of another kind.
func (f *FieldReader) Int() (int64, bool) { return intValue(f.kind, f.raw) }

// Text returns the bytes of a string value, sharing the bytes of the batch;
// false if the value is of another kind.
func (f *FieldReader) Text() ([]byte, bool) { return f.raw, f.kind == KindString }

func intValue(kind Kind, raw []byte) (int64, bool) {
	if kind != KindInt64 || len(raw) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(raw)), true
}
