package message

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"time"
)

// Names of the objects that stand for values that JSON does not have. No field
// has such a name: what begins with '_' is reserved.
const (
	tagBytes = "_bytes"   // base64
	tagTime  = "_time"    // RFC 3339, or an array of seconds since 1970 and nanoseconds
	tagFloat = "_float64" // NaN, +Inf, -Inf, or 16 hexadecimal digits of the bits
	tagEmpty = "_empty"   // kind of the elements of an empty array that is not one of strings
)

// Years 1 to 9999: the times that RFC 3339 can say.
const (
	firstWritten = -62135596800
	lastWritten  = 253402300799
)

// AppendTyped appends the fields of m as a JSON object without white space, in
// their order, so that FromTyped makes equal fields of it. It is what AppendJSON
// writes but for values that JSON does not have, which are objects of one
// member:
//
//	bytes                   {"_bytes":"base64"}
//	time                    {"_time":"2006-01-02T15:04:05.999999999Z"}
//	time outside of years   {"_time":[seconds since 1970,nanoseconds]}
//	1 to 9999
//	infinity, NaN           {"_float64":"+Inf"}, "-Inf", "NaN"; another NaN than Go's: 16 hexadecimal digits
//	empty array             {"_empty":"int64"}, or the name of another kind; of strings: []
func (m Message) AppendTyped(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range m.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, m.Fields[i].Name), ':')
		dst = m.Fields[i].Value.appendTyped(dst)
	}
	return append(dst, '}')
}

func (v Value) appendTyped(dst []byte) []byte {
	if v.kind&KindArray != 0 && v.kind != KindStrings && v.num == 0 {
		return append(append(append(dst, `{"`+tagEmpty+`":"`...), kindNames[v.kind&^KindArray]...), `"}`...)
	}
	switch v.kind {
	case KindFloat64:
		return appendTypedFloat(dst, math.Float64frombits(v.num))
	case KindBytes:
		s, _ := v.AsBytes()
		return appendTypedBytes(dst, s)
	case KindTime:
		return appendTypedTime(dst, int64(v.num), v.nsec)
	case KindMessage:
		m, _ := v.AsNested()
		return m.AppendTyped(dst)
	case KindFloat64s:
		return appendElems(dst, v, appendTypedFloat)
	case KindBytesArray:
		return appendElems(dst, v, appendTypedBytes)
	case KindTimes:
		return appendElems(dst, v, func(dst []byte, t time.Time) []byte {
			return appendTypedTime(dst, t.Unix(), uint32(t.Nanosecond()))
		})
	case KindMessageArray:
		return appendElems(dst, v, func(dst []byte, m *Message) []byte {
			if m == nil {
				return append(dst, "{}"...)
			}
			return m.AppendTyped(dst)
		})
	}
	return v.appendJSON(dst)
}

func appendTypedFloat(dst []byte, f float64) []byte {
	switch bits := math.Float64bits(f); {
	case !math.IsNaN(f) && !math.IsInf(f, 0):
		return appendFloat(dst, f)
	case math.IsNaN(f) && bits != math.Float64bits(math.NaN()):
		text := hex.AppendEncode(nil, binary.BigEndian.AppendUint64(nil, bits))
		return append(append(append(dst, `{"`+tagFloat+`":"`...), text...), `"}`...)
	}
	return append(appendFloat(append(dst, `{"`+tagFloat+`":`...), f), '}')
}

func appendTypedBytes(dst, b []byte) []byte {
	return append(appendBase64(append(dst, `{"`+tagBytes+`":`...), b), '}')
}

func appendTypedTime(dst []byte, sec int64, nsec uint32) []byte {
	dst = append(dst, `{"`+tagTime+`":`...)
	if sec >= firstWritten && sec <= lastWritten {
		return append(appendTime(dst, time.Unix(sec, int64(nsec))), '}')
	}
	dst = append(strconv.AppendInt(append(dst, '['), sec, 10), ',')
	return append(strconv.AppendUint(dst, uint64(nsec), 10), ']', '}')
}

// FromTyped makes a message of what AppendTyped wrote. What has none of its
// objects it reads as FromJSON does, and it fails likewise.
func FromTyped(text []byte) (*Message, error) {
	p := scanner{s: text, kind: ErrJSON}
	d := jsonReader{typed: true}
	m, err := d.object(&p, 1)
	if err != nil {
		return nil, err
	}
	return finish(&p, m)
}

// tag returns the name of the object that begins here, if it stands for a value.
func (d *jsonReader) tag(p *scanner) (name string, found bool) {
	at := p.pos
	defer func() { p.pos = at }()
	p.pos++ // the brace
	if !d.typed || p.space() != '"' {
		return "", false
	}
	name, err := p.text()
	return name, err == nil && name != "" && name[0] == '_'
}

// tagged reads an object that stands for a value.
func (d *jsonReader) tagged(p *scanner, name string) (v Value, err error) {
	outer := len(p.path)
	if outer > 0 {
		p.path = append(p.path, '.')
	}
	p.path = append(p.path, name...)
	p.pos++ // the brace
	p.space()
	at := p.pos
	if _, err := p.text(); err != nil {
		return Value{}, err
	}
	if err := p.expect(':'); err != nil {
		return Value{}, err
	}
	p.space()
	switch inside := p.pos; name {
	case tagBytes:
		v, err = taggedText(p, bytesFromText)
	case tagFloat:
		v, err = taggedText(p, floatFromText)
	case tagEmpty:
		v, err = taggedText(p, emptyFromText)
	case tagTime:
		if p.pos < len(p.s) && p.s[p.pos] == '[' {
			v, err = d.instant(p, inside)
			break
		}
		v, err = taggedText(p, timeFromText)
	default:
		return Value{}, p.fail(at, ErrName, "%q stands for no value; there are %s, %s, %s and %s, and names of fields do not begin with '_'",
			name, tagBytes, tagTime, tagFloat, tagEmpty)
	}
	if err != nil {
		return Value{}, err
	}
	if err := p.expect('}'); err != nil {
		return Value{}, err
	}
	p.path = p.path[:outer]
	return v, nil
}

// taggedText reads a text and makes a value of it.
func taggedText(p *scanner, parse func(string) (Value, string)) (Value, error) {
	at := p.pos
	s, err := p.text()
	if err != nil {
		return Value{}, err
	}
	v, problem := parse(s)
	if problem != "" {
		return Value{}, p.fail(at, ErrValue, "%.80q: %s", s, problem)
	}
	return v, nil
}

func bytesFromText(s string) (Value, string) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return Value{}, "it is not base64"
	}
	return Bytes(b), ""
}

func timeFromText(s string) (Value, string) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return Value{}, "it is no time such as 2006-01-02T15:04:05Z"
	}
	return Time(t), ""
}

func floatFromText(s string) (Value, string) {
	switch s {
	case "NaN":
		return Float(math.NaN()), ""
	case "+Inf":
		return Float(math.Inf(1)), ""
	case "-Inf":
		return Float(math.Inf(-1)), ""
	}
	if b, err := hex.DecodeString(s); err == nil && len(b) == 8 {
		return Float(math.Float64frombits(binary.BigEndian.Uint64(b))), ""
	}
	return Value{}, "it is neither NaN, +Inf, -Inf nor 16 hexadecimal digits"
}

func emptyFromText(s string) (Value, string) {
	for k, name := range kindNames {
		if k != 0 && name == s {
			return Value{kind: KindArray | Kind(k)}, ""
		}
	}
	return Value{}, "there is no such kind of elements"
}

// instant reads seconds and nanoseconds.
func (d *jsonReader) instant(p *scanner, at int) (Value, error) {
	v, err := d.array(p, 0)
	if err != nil {
		return Value{}, err
	}
	n, ok := v.AsInts()
	if !ok || len(n) != 2 || n[1] < 0 || n[1] >= 1e9 {
		return Value{}, p.fail(at, ErrValue, "want [seconds since 1970, nanoseconds below 10^9], as whole numbers")
	}
	return Value{kind: KindTime, num: uint64(n[0]), nsec: uint32(n[1])}, nil
}
