package message

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"time"
	"unicode/utf8"
)

// Bits of the first byte of a message part.
const (
	hasTTL = 1 << iota
	hasDeliverAt
	hasKey
	hasFields
	hasHeaders

	knownContents = hasTTL | hasDeliverAt | hasKey | hasFields | hasHeaders
)

// nameSet remembers which names one message has used.
type nameSet [MaxNames / 64]uint64

// add reports whether the name is new.
func (s *nameSet) add(n uint16) bool {
	word, bit := &s[n/64], uint64(1)<<(n%64)
	isNew := *word&bit == 0
	*word |= bit
	return isNew
}

// appendPart encodes everything of m but its body behind b.parts.
func (b *Builder) appendPart(m *Message) error {
	start := len(b.parts)
	b.room += start // from here on: the highest len(b.parts)
	b.guess = 0
	b.parts = append(b.parts, 0)
	contents := byte(0)
	if m.hasControl() {
		c, err := b.appendControl(m)
		if err != nil {
			return err
		}
		contents |= c
	}
	if len(m.Fields) > 0 {
		contents |= hasFields
		if err := b.appendFields(m.Fields, 1); err != nil {
			return err
		}
	}
	if len(m.Headers) > 0 {
		contents |= hasHeaders
		if err := b.appendHeaders(m.Headers); err != nil {
			return err
		}
	}
	b.parts[start] = contents
	return b.take(0)
}

func (b *Builder) appendControl(m *Message) (contents byte, err error) {
	if m.TTL < 0 {
		return 0, fmt.Errorf("%w: TTL %v is negative", ErrValue, m.TTL)
	}
	if m.TTL > 0 {
		contents |= hasTTL
		b.parts = binary.LittleEndian.AppendUint64(b.parts, uint64(m.TTL))
	}
	if !m.DeliverAt.IsZero() {
		nanos := m.DeliverAt.UnixNano()
		if !time.Unix(0, nanos).Equal(m.DeliverAt) {
			return 0, fmt.Errorf("%w: deliver-at %v is not between 1678 and 2262", ErrValue, m.DeliverAt)
		}
		contents |= hasDeliverAt
		b.parts = binary.LittleEndian.AppendUint64(b.parts, uint64(nanos))
	}
	if m.Key != "" {
		if err := validKey(m.Key); err != nil {
			return 0, err
		}
		contents |= hasKey
		b.parts = appendUvarint(b.parts, len(m.Key))
		b.parts = append(b.parts, m.Key...)
	}
	return contents, nil
}

func (b *Builder) appendFields(fields []Field, depth int) error {
	if depth > MaxNesting {
		return fmt.Errorf("%w: messages nest more than %d deep", ErrTooLarge, MaxNesting)
	}
	if err := b.count(len(fields)); err != nil {
		return err
	}
	b.parts = appendUvarint(b.parts, len(fields))
	var used nameSet
	for i := range fields {
		f := &fields[i]
		n, err := b.number(f.Name)
		if err == nil && !used.add(n) {
			err = ErrDuplicate
		}
		if err == nil {
			b.parts = appendUvarint(b.parts, int(n))
			err = b.appendValue(&f.Value, depth)
		}
		if err != nil {
			return fmt.Errorf("field %.*q: %w", MaxNameLen, f.Name, err)
		}
	}
	return nil
}

func (b *Builder) appendHeaders(headers []Header) error {
	if err := b.count(len(headers)); err != nil {
		return err
	}
	b.parts = appendUvarint(b.parts, len(headers))
	var used nameSet
	for i := range headers {
		h := &headers[i]
		n, err := b.number(h.Name)
		if err == nil && !used.add(n) {
			err = ErrDuplicate
		}
		if err == nil {
			b.parts = appendUvarint(b.parts, int(n))
			err = b.appendText(h.Value)
		}
		if err != nil {
			return fmt.Errorf("header %.*q: %w", MaxNameLen, h.Name, err)
		}
	}
	return nil
}

// appendValue encodes kind, length and value.
func (b *Builder) appendValue(v *Value, depth int) error {
	b.parts = append(b.parts, byte(v.kind))
	le := binary.LittleEndian
	switch v.kind {
	case KindString:
		s, _ := v.AsString()
		return b.appendText(s)
	case KindBytes:
		s, _ := v.AsBytes()
		return b.appendBytes(s)
	case KindInt64, KindFloat64:
		b.parts = le.AppendUint64(append(b.parts, 8), v.num)
	case KindBool:
		b.parts = append(b.parts, 1, byte(v.num))
	case KindTime:
		b.parts = le.AppendUint64(append(b.parts, 12), v.num)
		b.parts = le.AppendUint32(b.parts, v.nsec)
	case KindMessage:
		m, _ := v.AsNested()
		return b.appendNested(m, depth+1)
	default:
		if !v.kind.valid() {
			return fmt.Errorf("%w: it holds nothing", ErrValue)
		}
		return b.appendArray(v, depth)
	}
	return b.take(0)
}

func (b *Builder) appendArray(v *Value, depth int) error {
	if err := b.count(int(v.num)); err != nil {
		return err
	}
	at := b.open()
	b.parts = appendUvarint(b.parts, int(v.num))
	le := binary.LittleEndian
	var err error
	switch v.kind {
	case KindStrings:
		s, _ := v.AsStrings()
		err = each(s, b.appendText)
	case KindBytesArray:
		s, _ := v.AsBytesArray()
		err = each(s, b.appendBytes)
	case KindMessageArray:
		s, _ := v.AsNestedArray()
		err = each(s, func(m *Message) error { return b.appendNested(m, depth+1) })
	case KindInt64s:
		s, _ := v.AsInts()
		for _, n := range s {
			b.parts = le.AppendUint64(b.parts, uint64(n))
		}
	case KindFloat64s:
		s, _ := v.AsFloats()
		for _, f := range s {
			b.parts = le.AppendUint64(b.parts, math.Float64bits(f))
		}
	case KindBools:
		s, _ := v.AsBools()
		for _, x := range s {
			b.parts = append(b.parts, byte(Bool(x).num))
		}
	case KindTimes:
		s, _ := v.AsTimes()
		for _, t := range s {
			b.parts = le.AppendUint64(b.parts, uint64(t.Unix()))
			b.parts = le.AppendUint32(b.parts, uint32(t.Nanosecond()))
		}
	}
	if err != nil {
		return err
	}
	b.close(at)
	return b.take(0)
}

func each[T any](elems []T, encode func(T) error) error {
	for i := range elems {
		if err := encode(elems[i]); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// appendNested encodes the fields of a nested message behind their length.
func (b *Builder) appendNested(m *Message, depth int) error {
	if err := b.count(1); err != nil {
		return err
	}
	at := b.open()
	if m == nil {
		m = &Message{}
	}
	if len(m.Headers) > 0 || len(m.Body) > 0 || m.hasControl() {
		return fmt.Errorf("%w: a nested message has fields only, no headers, body, TTL, deliver-at or key", ErrValue)
	}
	if err := b.appendFields(m.Fields, depth); err != nil {
		return err
	}
	b.close(at)
	return b.take(0)
}

func (b *Builder) appendText(s string) error {
	if err := b.take(len(s)); err != nil {
		return err
	}
	if !utf8.ValidString(s) {
		return ErrUTF8
	}
	b.parts = appendUvarint(b.parts, len(s))
	b.parts = append(b.parts, s...)
	return nil
}

func (b *Builder) appendBytes(s []byte) error {
	if err := b.take(len(s)); err != nil {
		return err
	}
	b.parts = appendUvarint(b.parts, len(s))
	b.parts = append(b.parts, s...)
	return nil
}

// take reports whether n more bytes fit into the message.
func (b *Builder) take(n int) error {
	if len(b.parts)+n > b.room {
		return fmt.Errorf("%w: at most %d are allowed for a message", ErrTooLarge, b.limit())
	}
	return nil
}

// count adds n to the items of the message.
func (b *Builder) count(n int) error {
	if b.items += n; b.items > MaxItems {
		return fmt.Errorf("%w: more than %d fields, headers and elements in one message", ErrTooLarge, MaxItems)
	}
	return nil
}

// open leaves room for the shortest length; close fills it in, moving what
// follows if the length needs more bytes. Most nested values are short.
func (b *Builder) open() int {
	b.parts = append(b.parts, 0)
	return len(b.parts)
}

func (b *Builder) close(at int) {
	n := len(b.parts) - at
	if width := uvarintLen(n); width > 1 {
		b.parts = append(b.parts, make([]byte, width-1)...)
		copy(b.parts[at+width-1:], b.parts[at:at+n])
	}
	appendUvarint(b.parts[:at-1], n)
}

func appendUvarint(dst []byte, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	return binary.AppendUvarint(dst, uint64(n))
}

func uvarintLen(n int) int { return max(1, (bits.Len(uint(n))+6)/7) }
