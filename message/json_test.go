package message

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestFromJSON(t *testing.T) {
	in := func() *Message { return new(Message).SetInt("x", 1) }
	tests := []struct {
		json string
		want *Message
	}{
		{`{}`, &Message{}},
		{" { } \n", &Message{}},
		{`{"s":"a\u00e4\"","e":""}`, new(Message).SetString("s", "aä\"").SetString("e", "")},
		{`{"a":0,"b":-1,"c":9223372036854775807,"d":-9223372036854775808}`,
			new(Message).SetInt("a", 0).SetInt("b", -1).SetInt("c", math.MaxInt64).SetInt("d", math.MinInt64)},
		{`{"a":1.0,"b":1e3,"c":-0.5,"d":9223372036854775808}`,
			new(Message).SetFloat("a", 1).SetFloat("b", 1000).SetFloat("c", -0.5).SetFloat("d", 1<<63)},
		{`{"t":true,"f":false,"n":null}`, new(Message).SetBool("t", true).SetBool("f", false)},
		{`{"o":{"x":1},"e":{}}`, new(Message).SetNested("o", in()).SetNested("e", nil)},
		{`{"a":[]}`, new(Message).Set("a", Strings(nil))},
		{`{"a":["x","y"]}`, new(Message).Set("a", Strings([]string{"x", "y"}))},
		{`{"a":[1,-2]}`, new(Message).Set("a", Ints([]int64{1, -2}))},
		{`{"a":[1,2.5]}`, new(Message).Set("a", Floats([]float64{1, 2.5}))},
		{`{"a":[2.5,1,3]}`, new(Message).Set("a", Floats([]float64{2.5, 1, 3}))},
		{`{"a":[true,false]}`, new(Message).Set("a", Bools([]bool{true, false}))},
		{`{"a":[{"x":1},{}]}`, new(Message).Set("a", NestedArray([]*Message{in(), {}}))},
	}
	for _, tc := range tests {
		got, err := FromJSON([]byte(tc.json))
		if err != nil {
			t.Errorf("%s: %v", tc.json, err)
			continue
		}
		if !got.Equal(tc.want) {
			t.Errorf("%s is %+v, want %+v", tc.json, got, tc.want)
		}
		if err := new(Builder).Add(got); err != nil {
			t.Errorf("%s cannot be sent: %v", tc.json, err)
		}
	}
}

func TestFromJSONErrors(t *testing.T) {
	deep := strings.Repeat(`{"a":`, MaxNesting) + "{}" + strings.Repeat("}", MaxNesting)
	tests := []struct {
		json   string
		offset int
		member string
		cause  error
	}{
		{``, 0, "", nil},
		{`[]`, 0, "", nil},
		{`17`, 0, "", nil},
		{`{"a":1}x`, 7, "", nil},
		{`{"a":1}{"a":1}`, 7, "", nil},
		{`{"a":}`, 5, "a", nil},
		{`{"a":nul}`, 5, "a", nil},
		{`{"a":1,"a":1}`, 7, "a", ErrDuplicate},
		{`{"a":null,"a":1}`, 10, "a", ErrDuplicate},
		{`{"o":{"a":1,"a":1}}`, 12, "o.a", ErrDuplicate},
		{`{"_id":1}`, 1, "", ErrName},
		{`{"o":{"":1}}`, 6, "o", ErrName},
		{`{"a":[1,"x"]}`, 8, "a[1]", ErrValue},
		{`{"a":[1,2,null]}`, 10, "a[2]", ErrValue},
		{`{"a":[[1]]}`, 6, "a[0]", ErrValue},
		{`{"a":[true,1]}`, 11, "a[1]", ErrValue},
		{`{"a":[{"x":[1,{}]}]}`, 14, "a[0].x[1]", ErrValue},
		{`{"a":[0.5,9007199254740993]}`, 27, "a", ErrValue},
		{`{"a":[0.5,9223372036854775807]}`, 30, "a", ErrValue},
		{`{"a":[1`, 7, "a[0]", nil},
		{`{"a":[1,]}`, 8, "a[1]", nil},
		{`{"a":1e999}`, 5, "a", ErrValue},
		{"{\"a\":\"\xff\"}", 6, "a", ErrUTF8},
		{`{"a":"\udfff"}`, 6, "a", ErrUTF8},
		{deep, 5 * MaxNesting, strings.TrimSuffix(strings.Repeat("a.", MaxNesting), "."), ErrTooLarge},
		{`{"a":[` + strings.Repeat("1,", MaxItems) + `1]}`, 6 + 2*(MaxItems-1), fmt.Sprintf("a[%d]", MaxItems-1), ErrTooLarge},
	}
	for _, tc := range tests {
		m, err := FromJSON([]byte(tc.json))
		var syntax *SyntaxError
		if m != nil || !errors.As(err, &syntax) || !errors.Is(err, ErrJSON) {
			t.Errorf("%.60q: %v, error %v", tc.json, m, err)
			continue
		}
		if syntax.Offset != tc.offset || syntax.Member != tc.member || (tc.cause != nil && !errors.Is(err, tc.cause)) {
			t.Errorf("%.60q: offset %d, member %q, cause %v; want %d, %q, %v",
				tc.json, syntax.Offset, syntax.Member, syntax.cause, tc.offset, tc.member, tc.cause)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	m := new(Message).
		SetString("s", "a\"\\\n\x01ä").SetInt("n", -5).
		SetFloat("one", 1).SetFloat("big", 1e300).SetFloat("half", 0.5).SetFloat("nan", math.NaN()).SetFloat("inf", math.Inf(-1)).
		SetBool("b", true).SetBytes("raw", []byte{0, 255}).
		SetTime("t", time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))).
		SetNested("o", new(Message).SetInt("x", 1)).SetNested("none", nil).
		Set("a", Strings([]string{"x", "y"})).Set("i", Ints([]int64{1, 2})).Set("f", Floats([]float64{1, 2.5})).
		Set("bs", Bools([]bool{true, false})).Set("r", BytesArray([][]byte{{1}, nil})).
		Set("ts", Times([]time.Time{time.Unix(0, 0)})).Set("os", NestedArray([]*Message{nil, {}})).
		Set("e", Ints(nil))
	m.Body, m.Key = []byte("not shown"), "neither"
	const want = `{"s":"a\"\\\n\u0001ä","n":-5,` +
		`"one":1.0,"big":1e+300,"half":0.5,"nan":"NaN","inf":"-Inf",` +
		`"b":true,"raw":"AP8=","t":"2026-01-02T02:04:05.000000006Z",` +
		`"o":{"x":1},"none":{},"a":["x","y"],"i":[1,2],"f":[1.0,2.5],` +
		`"bs":[true,false],"r":["AQ==",""],"ts":["1970-01-01T00:00:00Z"],"os":[{},{}],"e":[]}`
	if got := string(m.AppendJSON([]byte("> "))); got != "> "+want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if got := Int(5).String() + (Value{}).String(); got != "5null" {
		t.Errorf("values print as %s", got)
	}
}

// TestJSONRoundTrip: what FromJSON makes prints as JSON that makes it again.
func TestJSONRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		g := newGen(seed)
		g.finite = true
		printed := g.message().AppendJSON(nil)
		m, err := FromJSON(printed)
		if err != nil {
			t.Fatalf("%s: %v", printed, err)
		}
		again, err := FromJSON(m.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !again.Equal(m) {
			t.Fatalf("%s reads back as %s", m.AppendJSON(nil), again.AppendJSON(nil))
		}
	}
}
