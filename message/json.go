package message

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the fields of m as a JSON object without white space, in
// their order. Bytes become base64, times RFC 3339 in UTC, floats always have
// a fraction or an exponent, and infinities and NaN become strings. Headers,
// body and control are the caller's to print.
func (m Message) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range m.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, m.Fields[i].Name), ':')
		dst = m.Fields[i].Value.appendJSON(dst)
	}
	return append(dst, '}')
}

func (v Value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case KindString:
		s, _ := v.AsString()
		return appendQuoted(dst, s)
	case KindInt64:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case KindFloat64:
		return appendFloat(dst, math.Float64frombits(v.num))
	case KindBool:
		return strconv.AppendBool(dst, v.num != 0)
	case KindBytes:
		s, _ := v.AsBytes()
		return appendBase64(dst, s)
	case KindTime:
		t, _ := v.AsTime()
		return appendTime(dst, t)
	case KindMessage:
		m, _ := v.AsNested()
		return m.AppendJSON(dst)
	case KindStrings:
		return appendElems(dst, v, appendQuoted)
	case KindInt64s:
		return appendElems(dst, v, func(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) })
	case KindFloat64s:
		return appendElems(dst, v, appendFloat)
	case KindBools:
		return appendElems(dst, v, strconv.AppendBool)
	case KindBytesArray:
		return appendElems(dst, v, appendBase64)
	case KindTimes:
		return appendElems(dst, v, appendTime)
	case KindMessageArray:
		return appendElems(dst, v, func(dst []byte, m *Message) []byte {
			if m == nil {
				return append(dst, "{}"...)
			}
			return m.AppendJSON(dst)
		})
	}
	return append(dst, "null"...)
}

func appendElems[T any](dst []byte, v Value, appendOne func([]byte, T) []byte) []byte {
	s, _ := sliceOf[T](v, v.kind)
	dst = append(dst, '[')
	for i := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendOne(dst, s[i])
	}
	return append(dst, ']')
}

func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendQuoted(dst, strconv.FormatFloat(f, 'g', -1, 64))
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', -1, 64)
	for _, c := range dst[at:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, '.', '0')
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func appendTime(dst []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}

// appendQuoted appends s as a JSON string with as few escapes as JSON allows,
// which makes it canonical. What is not UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
