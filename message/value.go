package message

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// Kind says what a Value holds. The numbers are part of the format.
type Kind uint8

// KindArray is set in the kinds of arrays; the rest is the kind of the
// elements.
const KindArray Kind = 0x10

// The kinds.
const (
	KindString  Kind = 1
	KindInt64   Kind = 2
	KindFloat64 Kind = 3
	KindBool    Kind = 4
	KindBytes   Kind = 5
	KindTime    Kind = 6
	KindMessage Kind = 7

	KindStrings      = KindArray | KindString
	KindInt64s       = KindArray | KindInt64
	KindFloat64s     = KindArray | KindFloat64
	KindBools        = KindArray | KindBool
	KindBytesArray   = KindArray | KindBytes
	KindTimes        = KindArray | KindTime
	KindMessageArray = KindArray | KindMessage
)

var kindNames = [...]string{"none", "string", "int64", "float64", "bool", "bytes", "time", "message"}

// String returns the name of the kind, such as "int64" or "array of string".
func (k Kind) String() string {
	switch elem := k &^ KindArray; {
	case !k.valid():
		return "unknown"
	case k&KindArray != 0:
		return "array of " + kindNames[elem]
	default:
		return kindNames[elem]
	}
}

func (k Kind) valid() bool {
	elem := k &^ KindArray
	return elem >= KindString && elem <= KindMessage
}

// Value is a typed value of a field. The zero Value holds nothing and cannot
// be sent. Values share the memory of the slice, string or message they were
// made from: whoever made one must not change it while the Value lives.
// Values are compared with Equal.
type Value struct {
	_    [0]func() // == would compare pointers
	kind Kind
	nsec uint32         // of a time
	num  uint64         // a number, seconds of a time, or the length behind ptr
	ptr  unsafe.Pointer // bytes of a string, elements of a slice, or *Message
}

// String makes a string value. It must be UTF-8, or adding it fails.
func String(s string) Value {
	return Value{kind: KindString, num: uint64(len(s)), ptr: unsafe.Pointer(unsafe.StringData(s))}
}

// Int makes an int64 value.
func Int(n int64) Value { return Value{kind: KindInt64, num: uint64(n)} }

// Float makes a float64 value. Its bits are kept, NaN included.
func Float(f float64) Value { return Value{kind: KindFloat64, num: math.Float64bits(f)} }

// Bool makes a bool value.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// Time makes a time value: an instant with nanoseconds. Its location is not
// kept.
func Time(t time.Time) Value {
	return Value{kind: KindTime, num: uint64(t.Unix()), nsec: uint32(t.Nanosecond())}
}

// Bytes makes a value of opaque bytes.
func Bytes(b []byte) Value { return sliceValue(KindBytes, b) }

// Nested makes a value that is a message with fields only. A nil message is
// one without fields.
func Nested(m *Message) Value { return Value{kind: KindMessage, ptr: unsafe.Pointer(m)} }

// Strings makes an array of strings.
func Strings(s []string) Value { return sliceValue(KindStrings, s) }

// Ints makes an array of int64.
func Ints(s []int64) Value { return sliceValue(KindInt64s, s) }

// Floats makes an array of float64.
func Floats(s []float64) Value { return sliceValue(KindFloat64s, s) }

// Bools makes an array of bool.
func Bools(s []bool) Value { return sliceValue(KindBools, s) }

// BytesArray makes an array of opaque bytes.
func BytesArray(s [][]byte) Value { return sliceValue(KindBytesArray, s) }

// Times makes an array of times.
func Times(s []time.Time) Value { return sliceValue(KindTimes, s) }

// NestedArray makes an array of messages with fields only.
func NestedArray(s []*Message) Value { return sliceValue(KindMessageArray, s) }

// Kind returns what the value holds; 0 for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// AsString returns a string value; false if v is of another kind.
func (v Value) AsString() (string, bool) {
	if v.kind != KindString {
		return "", false
	}
	return unsafe.String((*byte)(v.ptr), int(v.num)), true
}

// AsInt returns an int64 value; false if v is of another kind.
func (v Value) AsInt() (int64, bool) {
	if v.kind != KindInt64 {
		return 0, false
	}
	return int64(v.num), true
}

// AsFloat returns a float64 value; false if v is of another kind.
func (v Value) AsFloat() (float64, bool) {
	if v.kind != KindFloat64 {
		return 0, false
	}
	return math.Float64frombits(v.num), true
}

// AsBool returns a bool value; false, false if v is of another kind.
func (v Value) AsBool() (value, ok bool) {
	if v.kind != KindBool {
		return false, false
	}
	return v.num != 0, true
}

// AsTime returns a time value in UTC; false if v is of another kind.
func (v Value) AsTime() (time.Time, bool) {
	if v.kind != KindTime {
		return time.Time{}, false
	}
	return time.Unix(int64(v.num), int64(v.nsec)).UTC(), true
}

// AsNested returns a nested message, never nil; false if v is of another
// kind.
func (v Value) AsNested() (*Message, bool) {
	if v.kind != KindMessage {
		return nil, false
	}
	if v.ptr == nil {
		return &Message{}, true
	}
	return (*Message)(v.ptr), true
}

// AsBytes returns opaque bytes; false if v is of another kind.
func (v Value) AsBytes() ([]byte, bool) { return sliceOf[byte](v, KindBytes) }

// AsStrings returns an array of strings; false if v is of another kind.
func (v Value) AsStrings() ([]string, bool) { return sliceOf[string](v, KindStrings) }

// AsInts returns an array of int64; false if v is of another kind.
func (v Value) AsInts() ([]int64, bool) { return sliceOf[int64](v, KindInt64s) }

// AsFloats returns an array of float64; false if v is of another kind.
func (v Value) AsFloats() ([]float64, bool) { return sliceOf[float64](v, KindFloat64s) }

// AsBools returns an array of bool; false if v is of another kind.
func (v Value) AsBools() ([]bool, bool) { return sliceOf[bool](v, KindBools) }

// AsBytesArray returns an array of opaque bytes; false if v is of another
// kind.
func (v Value) AsBytesArray() ([][]byte, bool) { return sliceOf[[]byte](v, KindBytesArray) }

// AsTimes returns an array of times; false if v is of another kind.
func (v Value) AsTimes() ([]time.Time, bool) { return sliceOf[time.Time](v, KindTimes) }

// AsNestedArray returns an array of messages; false if v is of another kind.
func (v Value) AsNestedArray() ([]*Message, bool) { return sliceOf[*Message](v, KindMessageArray) }

// Equal reports whether both values have the same kind and content. Floats
// are compared by their bits, times as instants, nested messages with
// Message.Equal.
func (v Value) Equal(w Value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case KindInt64, KindFloat64, KindBool, KindTime, 0:
		return v.num == w.num && v.nsec == w.nsec
	case KindMessage:
		a, _ := v.AsNested()
		b, _ := w.AsNested()
		return a.Equal(b)
	case KindStrings:
		return equalSlices[string](v, w, func(a, b string) bool { return a == b })
	case KindFloat64s:
		return equalSlices[float64](v, w, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
	case KindInt64s:
		return equalSlices[int64](v, w, func(a, b int64) bool { return a == b })
	case KindBytesArray:
		return equalSlices[[]byte](v, w, slices.Equal)
	case KindTimes:
		return equalSlices[time.Time](v, w, time.Time.Equal)
	case KindMessageArray:
		return equalSlices[*Message](v, w, (*Message).Equal)
	default: // strings, bytes and bools are bytes in memory
		return string(unsafe.Slice((*byte)(v.ptr), int(v.num))) == string(unsafe.Slice((*byte)(w.ptr), int(w.num)))
	}
}

// String describes the value for logs and tests: as JSON where JSON has it.
func (v Value) String() string { return string(v.appendJSON(nil)) }

// clone returns a copy that shares no memory with v.
func (v Value) clone() Value {
	switch v.kind {
	case KindString:
		s, _ := v.AsString()
		return String(strings.Clone(s))
	case KindBytes:
		return cloneSlice(v, func(b byte) byte { return b })
	case KindMessage:
		m, _ := v.AsNested()
		return Nested(m.Clone())
	case KindStrings:
		return cloneSlice(v, strings.Clone)
	case KindInt64s:
		return cloneSlice(v, func(n int64) int64 { return n })
	case KindFloat64s:
		return cloneSlice(v, func(f float64) float64 { return f })
	case KindBools:
		return cloneSlice(v, func(b bool) bool { return b })
	case KindBytesArray:
		return cloneSlice(v, bytes.Clone)
	case KindTimes:
		return cloneSlice(v, func(t time.Time) time.Time { return t })
	case KindMessageArray:
		return cloneSlice(v, (*Message).Clone)
	}
	return v
}

func cloneSlice[T any](v Value, one func(T) T) Value {
	s, _ := sliceOf[T](v, v.kind)
	c := make([]T, len(s))
	for i := range s {
		c[i] = one(s[i])
	}
	return sliceValue(v.kind, c)
}

func sliceValue[T any](kind Kind, s []T) Value {
	return Value{kind: kind, num: uint64(len(s)), ptr: unsafe.Pointer(unsafe.SliceData(s))}
}

// sliceOf returns the slice that sliceValue took apart, with no spare room so
// that an append copies.
func sliceOf[T any](v Value, kind Kind) ([]T, bool) {
	if v.kind != kind {
		return nil, false
	}
	return unsafe.Slice((*T)(v.ptr), int(v.num)), true
}

func equalSlices[T any](v, w Value, equal func(a, b T) bool) bool {
	a, _ := sliceOf[T](v, v.kind)
	b, _ := sliceOf[T](w, w.kind)
	return slices.EqualFunc(a, b, equal)
}
