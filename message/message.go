package message

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// Message is what a publisher sends: typed fields, headers and an opaque
// body, each of which may be empty.
//
// A Message that was decoded from a Batch shares the batch's bytes, the
// strings included: it must not be changed in place, and lives no longer than
// these bytes stay as they are. Clone makes a copy of its own.
type Message struct {
	Fields  []Field  // no name twice; matchers look at them
	Headers []Header // no name twice; matchers do not look at them
	Body    []byte   // opaque

	// TTL, DeliverAt and Key are part of the format; servers of this version
	// refuse messages that have one, because they would not act on it.

	// TTL is how long the message is worth delivering after it was stored, in
	// the time in which its cluster runs. 0 is for ever; negative is an error.
	TTL time.Duration
	// DeliverAt is the instant before which the message is not delivered; the
	// zero time is at once. It lies between the years 1678 and 2262.
	DeliverAt time.Time
	// Key is what last-value and map durables keep the message under, at most
	// 256 bytes of UTF-8. Empty is none.
	Key string
}

// Field is a named, typed value. The name has 1 to 256 bytes of UTF-8 and
// does not begin with '_'.
type Field struct {
	Name  string
	Value Value
}

// Header is a named text. The name follows the rule of field names; the value
// is UTF-8 and may be empty.
type Header struct {
	Name, Value string
}

// Get returns the value of a field of the message itself, not of a nested
// one; false if there is none of that name.
func (m *Message) Get(name string) (Value, bool) {
	for i := range m.Fields {
		if m.Fields[i].Name == name {
			return m.Fields[i].Value, true
		}
	}
	return Value{}, false
}

// Header returns the value of a header; false if there is none of that name.
func (m *Message) Header(name string) (string, bool) {
	for i := range m.Headers {
		if m.Headers[i].Name == name {
			return m.Headers[i].Value, true
		}
	}
	return "", false
}

// Set sets a field, replacing an earlier one of that name, and returns m.
// Names and values are checked when the message is added to a Builder.
func (m *Message) Set(name string, v Value) *Message {
	for i := range m.Fields {
		if m.Fields[i].Name == name {
			m.Fields[i].Value = v
			return m
		}
	}
	m.Fields = append(m.Fields, Field{name, v})
	return m
}

// SetString sets a string field and returns m, as Set does.
func (m *Message) SetString(name, v string) *Message { return m.Set(name, String(v)) }

// SetInt sets an int64 field and returns m, as Set does.
func (m *Message) SetInt(name string, v int64) *Message { return m.Set(name, Int(v)) }

// SetFloat sets a float64 field and returns m, as Set does.
func (m *Message) SetFloat(name string, v float64) *Message { return m.Set(name, Float(v)) }

// SetBool sets a bool field and returns m, as Set does.
func (m *Message) SetBool(name string, v bool) *Message { return m.Set(name, Bool(v)) }

// SetBytes sets a bytes field and returns m, as Set does. The message shares
// v.
func (m *Message) SetBytes(name string, v []byte) *Message { return m.Set(name, Bytes(v)) }

// SetTime sets a time field and returns m, as Set does.
func (m *Message) SetTime(name string, v time.Time) *Message { return m.Set(name, Time(v)) }

// SetNested sets a field that is a message and returns m, as Set does.
func (m *Message) SetNested(name string, v *Message) *Message { return m.Set(name, Nested(v)) }

// SetHeader sets a header, replacing an earlier one of that name, and returns
// m.
func (m *Message) SetHeader(name, value string) *Message {
	for i := range m.Headers {
		if m.Headers[i].Name == name {
			m.Headers[i].Value = value
			return m
		}
	}
	m.Headers = append(m.Headers, Header{name, value})
	return m
}

// Reset empties the message and keeps the room of its slices. The body is let
// go of, since it may belong to somebody else.
func (m *Message) Reset() {
	clear(m.Fields)
	clear(m.Headers)
	*m = Message{Fields: m.Fields[:0], Headers: m.Headers[:0]}
}

// Equal reports whether both messages have the same fields and headers in the
// same order, the same body and the same control. A nil message equals one
// without content.
func (m *Message) Equal(o *Message) bool {
	var none Message
	if m == nil {
		m = &none
	}
	if o == nil {
		o = &none
	}
	if len(m.Fields) != len(o.Fields) || len(m.Headers) != len(o.Headers) || m.TTL != o.TTL ||
		m.Key != o.Key || !m.DeliverAt.Equal(o.DeliverAt) || !bytes.Equal(m.Body, o.Body) {
		return false
	}
	for i := range m.Fields {
		if m.Fields[i].Name != o.Fields[i].Name || !m.Fields[i].Value.Equal(o.Fields[i].Value) {
			return false
		}
	}
	for i := range m.Headers {
		if m.Headers[i] != o.Headers[i] {
			return false
		}
	}
	return true
}

// hasControl reports whether the message carries TTL, deliver-at or key.
func (m *Message) hasControl() bool {
	return m.TTL != 0 || m.Key != "" || !m.DeliverAt.IsZero()
}

// opaque reports whether the message is nothing but a body.
func (m *Message) opaque() bool {
	return len(m.Fields) == 0 && len(m.Headers) == 0 && !m.hasControl()
}

// Clone returns a copy of m that shares no memory with it.
func (m *Message) Clone() *Message {
	if m == nil {
		return nil
	}
	c := *m
	c.Body = bytes.Clone(m.Body)
	c.Key = strings.Clone(m.Key)
	c.Headers = slices.Clone(m.Headers)
	for i, h := range c.Headers {
		c.Headers[i] = Header{strings.Clone(h.Name), strings.Clone(h.Value)}
	}
	c.Fields = slices.Clone(m.Fields)
	for i, f := range c.Fields {
		c.Fields[i] = Field{strings.Clone(f.Name), f.Value.clone()}
	}
	return &c
}
