package message

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// odd makes values that JSON does not have, or nearly does not.
func (g gen) odd() Value {
	values := []Value{
		Float(math.Float64frombits(0x7ff0000000000123)), Float(math.Float64frombits(0xfff8000000000001)),
		Float(math.Inf(-1)), Float(math.Copysign(0, -1)), Float(math.SmallestNonzeroFloat64), Float(math.MaxFloat64), Float(1 << 60),
		Time(time.Unix(math.MinInt64, 0)), Time(time.Unix(math.MaxInt64, 999_999_999)), Time(time.Time{}),
		Time(time.Unix(firstWritten-1, 999_999_999)), Time(time.Unix(lastWritten, 1)), Time(time.Unix(lastWritten+1, 0)),
		Ints(nil), Floats(nil), Bools(nil), BytesArray(nil), Times(nil), NestedArray(nil), Strings(nil), Bytes(nil),
		Ints([]int64{math.MinInt64, math.MaxInt64}), Floats([]float64{1, math.NaN(), math.Inf(1)}),
		Times([]time.Time{time.Unix(1<<40, 5), {}}), NestedArray([]*Message{nil, {}}), Nested(nil),
		String("\u2028\ufeff\ufffd\x00\x7f\r\n</script>"),
	}
	return values[g.IntN(len(values))]
}

func TestTypedIsLossless(t *testing.T) {
	for seed := range uint64(3000) {
		g := newGen(seed)
		m := g.message()
		for range g.IntN(4) {
			m.Set(g.name(), g.odd())
		}
		text := m.AppendTyped(nil)
		got, err := FromTyped(text)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, text, err)
		}
		if want := (&Message{Fields: m.Fields}); !got.Equal(want) {
			t.Fatalf("seed %d: %s became %+v", seed, text, got)
		}
		record := append(m.AppendMembers([]byte("{")), '}')
		if got, err = FromRecord(record); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, record, err)
		}
		if !got.Equal(m) {
			t.Fatalf("seed %d: %s became %+v", seed, record, got)
		}
	}
}

func TestTypedText(t *testing.T) {
	m := new(Message).SetString("s", "x").SetInt("n", 1).SetBytes("b", []byte{0xff}).
		SetTime("t", time.Unix(0, 5)).SetTime("old", time.Unix(firstWritten-1, 0)).SetFloat("f", math.NaN()).
		Set("e", Ints(nil)).SetNested("in", new(Message).SetBytes("b", nil)).SetHeader("h", "é")
	m.Body, m.Key, m.TTL, m.DeliverAt = []byte("text"), "k", 90*time.Second, time.Unix(1, 0)
	const want = `"key":"k","ttl":"1m30s","deliver_at":"1970-01-01T00:00:01Z",` +
		`"fields":{"s":"x","n":1,"b":{"_bytes":"/w=="},"t":{"_time":"1970-01-01T00:00:00.000000005Z"},"old":{"_time":[-62135596801,0]},` +
		`"f":{"_float64":"NaN"},"e":{"_empty":"int64"},"in":{"b":{"_bytes":""}}},"headers":{"h":"é"},"body":"text"`
	if got := string(m.AppendMembers(nil)); got != want {
		t.Errorf("members are\n%s, want\n%s", got, want)
	}
	m.Body = []byte{0xff}
	if got := string(m.AppendMembers(nil)); !strings.HasSuffix(got, `,"body":null,"body_base64":"/w=="`) {
		t.Errorf("members are %s", got)
	}
}

func TestFromRecordReads(t *testing.T) {
	for _, tc := range []struct {
		text string
		want *Message
	}{
		{`{}`, &Message{}},
		{`{"body":null,"fields":null,"key":null}`, &Message{}},
		{` { "store" : "s", "durables":["a",""], "id":18446744073709551615, "stamp":"x", "count":0 , "body":"b" } `, &Message{Body: []byte("b")}},
		{`{"fields":{"x":null,"y":{}}}`, new(Message).SetNested("y", nil)},
		{`{"fields":{"x":{"\u005fbytes":"AA=="}}}`, new(Message).SetBytes("x", []byte{0})},
		{`{"fields":{"x":{"_float64":"fff0000000000000"}}}`, new(Message).SetFloat("x", math.Inf(-1))},
	} {
		got, err := FromRecord([]byte(tc.text))
		if err != nil || !got.Equal(tc.want) {
			t.Errorf("%s is %+v, %v; want %+v", tc.text, got, err, tc.want)
		}
	}
}

func TestFromRecordRefuses(t *testing.T) {
	for _, tc := range []struct {
		text   string
		offset int
		cause  error
	}{
		{``, 0, nil},
		{`{"body":"a"} x`, 13, nil},
		{`{"bodi":"a"}`, 1, ErrName},
		{`{"body":"a","body":"b"}`, 12, ErrDuplicate},
		{`{"body":"a","body_base64":"AA=="}`, 26, ErrValue},
		{`{"body":{"_bytes":""}}`, 8, nil},
		{`{"body":"` + "\xff" + `"}`, 9, ErrUTF8},
		{`{"body":"\ud800"}`, 9, ErrUTF8},
		{`{"body_base64":"AA=?"}`, 15, ErrValue},
		{`{"ttl":"-1s"}`, 7, ErrValue},
		{`{"deliver_at":"now"}`, 14, ErrValue},
		{`{"headers":{"h":1}}`, 16, nil},
		{`{"headers":{"h":"a","h":"b"}}`, 20, ErrDuplicate},
		{`{"headers":{"_h":"a"}}`, 12, ErrName},
		{`{"fields":{"_bytes":"AA=="}}`, 11, ErrName},
		{`{"fields":{"x":{"_blob":"AA=="}}}`, 16, ErrName},
		{`{"fields":{"x":{"_bytes":"AA==","y":1}}}`, 31, nil},
		{`{"fields":{"x":{"_time":[1]}}}`, 24, ErrValue},
		{`{"fields":{"x":{"_time":[1,1000000000]}}}`, 24, ErrValue},
		{`{"fields":{"x":{"_time":["a","b"]}}}`, 24, ErrValue},
		{`{"fields":{"x":{"_float64":"1.5"}}}`, 27, ErrValue},
		{`{"fields":{"x":{"_empty":"array"}}}`, 25, ErrValue},
		{`{"fields":{"x":[{"_empty":"int64"}]}}`, 16, ErrValue},
	} {
		_, err := FromRecord([]byte(tc.text))
		var at *SyntaxError
		if !errors.As(err, &at) || !errors.Is(err, ErrJSON) || at.Offset != tc.offset || tc.cause != nil && !errors.Is(err, tc.cause) {
			t.Errorf("%s: %v; want %v at %d", tc.text, err, tc.cause, tc.offset)
		}
	}
	// Values of the kinds that JSON has not are none to FromJSON.
	if _, err := FromJSON([]byte(`{"x":{"_bytes":"AA=="}}`)); !errors.Is(err, ErrName) {
		t.Errorf("FromJSON: %v", err)
	}
}

// FuzzFromRecord reads arbitrary text. What it takes can be written and read
// again, and is the same.
func FuzzFromRecord(f *testing.F) {
	for seed := range uint64(40) {
		g := newGen(seed)
		f.Add(append(g.message().Set("odd", g.odd()).AppendMembers([]byte("{")), '}'))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := FromRecord(text)
		if err != nil {
			if !errors.Is(err, ErrJSON) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := FromRecord(append(m.AppendMembers([]byte("{")), '}'))
		if err != nil || !again.Equal(m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
