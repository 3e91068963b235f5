package message

import (
	"encoding/binary"
	"math"
	"time"
)

// Message decodes message i. What it returns shares the bytes of the batch
// (see Message); only the slices of fields, headers and arrays are allocated,
// and nothing for a message that is only a body. Errors wrap ErrRange or what
// Validate returns.
func (b Batch) Message(i int) (Message, error) {
	var m Message
	err := b.Decode(i, &m)
	return m, err
}

// Decode decodes message i into m, reusing the slices of m. Else it is
// Message.
func (b Batch) Decode(i int, m *Message) error {
	m.Reset()
	body, err := b.Body(i)
	if err != nil {
		return err
	}
	p := b.part(i)
	if len(p) > 0 {
		// Checking first costs a second pass over bytes in the cache. It keeps
		// this decoder free of error paths, and bounds what it allocates.
		c := checker{batch: &b}
		if err := c.part(p); err != nil {
			return err
		}
		b.decodePart(p, m)
	}
	m.Body = body
	return nil
}

// decodePart decodes a part that a checker has accepted.
func (b *Batch) decodePart(p []byte, m *Message) {
	r := reader{b: p}
	contents := r.byte()
	if contents&hasTTL != 0 {
		m.TTL = time.Duration(r.uint64())
	}
	if contents&hasDeliverAt != 0 {
		m.DeliverAt = time.Unix(0, int64(r.uint64())).UTC()
	}
	if contents&hasKey != 0 {
		m.Key = text(r.prefixed())
	}
	if contents&hasFields != 0 {
		m.Fields = b.decodeFields(&r, m.Fields)
	}
	if contents&hasHeaders != 0 {
		n := r.uvarint()
		if cap(m.Headers) < n {
			m.Headers = make([]Header, 0, n)
		}
		for range n {
			name := text(b.dict.name(r.uvarint()))
			m.Headers = append(m.Headers, Header{name, text(r.prefixed())})
		}
	}
}

func (b *Batch) decodeFields(r *reader, fields []Field) []Field {
	n := r.uvarint()
	if cap(fields) < n {
		fields = make([]Field, 0, n)
	}
	for range n {
		number, kind, raw, rest, _ := field(r.b)
		r.b = rest
		fields = append(fields, Field{text(b.dict.name(number)), b.decodeValue(kind, raw)})
	}
	return fields
}

func (b *Batch) decodeValue(kind Kind, v []byte) Value {
	switch kind {
	case KindString:
		return String(text(v))
	case KindBytes:
		return Bytes(v)
	case KindInt64, KindFloat64:
		return Value{kind: kind, num: binary.LittleEndian.Uint64(v)}
	case KindBool:
		return Bool(v[0] != 0)
	case KindTime:
		return Value{kind: kind, num: binary.LittleEndian.Uint64(v), nsec: binary.LittleEndian.Uint32(v[8:])}
	case KindMessage:
		return Nested(b.decodeNested(v))
	}
	r := reader{b: v}
	n := r.uvarint()
	switch kind {
	case KindStrings:
		return sliceValue(kind, decodeArray(n, func() string { return text(r.prefixed()) }))
	case KindBytesArray:
		return sliceValue(kind, decodeArray(n, r.prefixed))
	case KindMessageArray:
		return sliceValue(kind, decodeArray(n, func() *Message { return b.decodeNested(r.prefixed()) }))
	case KindInt64s:
		return sliceValue(kind, decodeArray(n, func() int64 { return int64(r.uint64()) }))
	case KindFloat64s:
		return sliceValue(kind, decodeArray(n, func() float64 { return math.Float64frombits(r.uint64()) }))
	case KindBools:
		return sliceValue(kind, decodeArray(n, func() bool { return r.byte() != 0 }))
	case KindTimes:
		return sliceValue(kind, decodeArray(n, func() time.Time {
			sec := int64(r.uint64())
			return time.Unix(sec, int64(binary.LittleEndian.Uint32(r.bytes(4)))).UTC()
		}))
	}
	return Value{}
}

func decodeArray[T any](n int, next func() T) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = next()
	}
	return s
}

func (b *Batch) decodeNested(v []byte) *Message {
	r := reader{b: v}
	return &Message{Fields: b.decodeFields(&r, nil)}
}

// Control returns TTL in nanoseconds, deliver-at in Unix nanoseconds and key
// of message i without decoding the rest; zero where the message has none.
// The key shares the bytes of the batch. It panics if i is not below Count.
func (b Batch) Control(i int) (ttl, deliverAt int64, key []byte) {
	r := reader{b: b.part(i)}
	contents := r.byte()
	if contents&hasTTL != 0 {
		ttl = int64(r.uint64())
	}
	if contents&hasDeliverAt != 0 {
		deliverAt = int64(r.uint64())
	}
	if contents&hasKey != 0 {
		key = r.prefixed()
	}
	return ttl, deliverAt, key
}
