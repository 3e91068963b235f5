package message

import (
	"bytes"
	"math"
	"testing"
	"time"
	"unsafe"
)

func TestValuesAnswerOnlyToTheirKind(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	values := []Value{
		{}, String("s"), Int(1), Float(1), Bool(true), Bytes([]byte("s")), Time(at), Nested(nil),
		Strings(nil), Ints([]int64{1}), Floats([]float64{1}), Bools([]bool{true}), BytesArray(nil), Times([]time.Time{at}),
		NestedArray([]*Message{nil}),
	}
	for _, v := range values {
		answers := map[Kind]bool{}
		_, answers[KindString] = v.AsString()
		_, answers[KindInt64] = v.AsInt()
		_, answers[KindFloat64] = v.AsFloat()
		_, answers[KindBool] = v.AsBool()
		_, answers[KindBytes] = v.AsBytes()
		_, answers[KindTime] = v.AsTime()
		_, answers[KindMessage] = v.AsNested()
		_, answers[KindStrings] = v.AsStrings()
		_, answers[KindInt64s] = v.AsInts()
		_, answers[KindFloat64s] = v.AsFloats()
		_, answers[KindBools] = v.AsBools()
		_, answers[KindBytesArray] = v.AsBytesArray()
		_, answers[KindTimes] = v.AsTimes()
		_, answers[KindMessageArray] = v.AsNestedArray()
		for k, ok := range answers {
			if ok != (k == v.Kind()) {
				t.Errorf("a value of kind %v answers to %v: %v", v.Kind(), k, ok)
			}
		}
		for _, w := range values {
			if v.Equal(w) != (v.Kind() == w.Kind()) {
				t.Errorf("%v equals %v: %v", v, w, v.Equal(w))
			}
		}
	}
}

func TestValueEqual(t *testing.T) {
	zone := time.FixedZone("", 7200)
	at := time.Unix(1, 2)
	same := [][2]Value{
		{Float(math.NaN()), Float(math.NaN())},
		{Time(at), Time(at.In(zone))},
		{Times([]time.Time{at}), Times([]time.Time{at.In(zone)})},
		{Nested(nil), Nested(&Message{})},
		{NestedArray([]*Message{nil}), NestedArray([]*Message{{}})},
		{Strings(nil), Strings([]string{})},
		{String(""), String(string([]byte{}))},
	}
	for _, p := range same {
		if !p[0].Equal(p[1]) {
			t.Errorf("%v and %v differ", p[0], p[1])
		}
	}
	differ := [][2]Value{
		{Float(0), Float(math.Copysign(0, -1))},
		{Time(time.Unix(1, 2)), Time(time.Unix(1, 3))},
		{String("a"), String("b")},
		{String("a"), String("ab")},
		{Bools([]bool{true, false}), Bools([]bool{true, true})},
		{Strings([]string{"a", "b"}), Strings([]string{"ab"})},
		{BytesArray([][]byte{{1}}), BytesArray([][]byte{{2}})},
		{Ints([]int64{1}), Ints([]int64{1, 1})},
		{Floats([]float64{1}), Floats([]float64{2})},
		{Nested(new(Message).SetInt("a", 1)), Nested(new(Message).SetInt("a", 2))},
	}
	for _, p := range differ {
		if p[0].Equal(p[1]) {
			t.Errorf("%v and %v are equal", p[0], p[1])
		}
	}
}

func TestValueIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Value{}); size > 24 {
		t.Errorf("a Value has %d bytes", size)
	}
}

func TestKindNames(t *testing.T) {
	for k, want := range map[Kind]string{
		KindString: "string", KindInt64: "int64", KindMessageArray: "array of message", 0: "unknown", 8: "unknown",
		KindArray: "unknown", 0x21: "unknown", 0xff: "unknown",
	} {
		if k.String() != want {
			t.Errorf("kind %#x is %q, want %q", uint8(k), k, want)
		}
	}
}

func TestSettersReplace(t *testing.T) {
	m := new(Message).SetInt("a", 1).SetString("b", "x").SetString("a", "y").SetHeader("h", "1").SetHeader("h", "2")
	if a, ok := m.Get("a"); !ok || !a.Equal(String("y")) || len(m.Fields) != 2 {
		t.Errorf("a is %v of %d fields", a, len(m.Fields))
	}
	if h, ok := m.Header("h"); !ok || h != "2" || len(m.Headers) != 1 {
		t.Errorf("h is %q of %d headers", h, len(m.Headers))
	}
	if _, ok := m.Get("none"); ok {
		t.Error("a field that is not there was found")
	}
	if _, ok := m.Header("none"); ok {
		t.Error("a header that is not there was found")
	}
	m.Reset()
	if !m.Equal(nil) || cap(m.Fields) < 2 {
		t.Error("Reset left something, or lost the room")
	}
}

func TestCloneSharesNothing(t *testing.T) {
	for seed := range uint64(100) {
		g := newGen(seed)
		m := g.message()
		raw := bytes.Clone(encode(t, Options{}, m).Bytes())
		got, err := parse(t, raw).Message(0)
		if err != nil {
			t.Fatal(err)
		}
		clone := got.Clone()
		clear(raw)
		if !clone.Equal(m) {
			t.Fatalf("the clone is\n%+v, want\n%+v", clone, m)
		}
	}
}

// TestMessageEqualSeesEverything: other tests rely on Equal.
func TestMessageEqualSeesEverything(t *testing.T) {
	make1 := func() *Message {
		m := new(Message).SetInt("a", 1).SetHeader("h", "v")
		m.Body, m.TTL, m.DeliverAt, m.Key = []byte("b"), 1, time.Unix(1, 1), "k"
		return m
	}
	for name, change := range map[string]func(m *Message){
		"value":       func(m *Message) { m.SetInt("a", 2) },
		"kind":        func(m *Message) { m.SetFloat("a", 1) },
		"field name":  func(m *Message) { m.Fields[0].Name = "b" },
		"more fields": func(m *Message) { m.SetInt("b", 1) },
		"header":      func(m *Message) { m.SetHeader("h", "w") },
		"header name": func(m *Message) { m.Headers[0].Name = "i" },
		"no headers":  func(m *Message) { m.Headers = nil },
		"body":        func(m *Message) { m.Body = []byte("c") },
		"TTL":         func(m *Message) { m.TTL = 2 },
		"deliver-at":  func(m *Message) { m.DeliverAt = time.Unix(1, 2) },
		"key":         func(m *Message) { m.Key = "" },
	} {
		m := make1()
		if !m.Equal(make1()) {
			t.Fatal("equal messages differ")
		}
		if change(m); m.Equal(make1()) || make1().Equal(m) {
			t.Errorf("another %s is not seen", name)
		}
	}
}
