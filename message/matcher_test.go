package message

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func mustMatcher(t testing.TB, s string) *Matcher {
	t.Helper()
	m, err := ParseMatcher(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMatch(t *testing.T) {
	m := new(Message).
		SetString("s", "text").SetString("digits", "17").SetString("empty", "").
		SetInt("n", 17).SetInt("min", math.MinInt64).SetFloat("f", 17).SetBool("b", true).
		SetBytes("raw", []byte("text")).Set("list", Strings([]string{"text"})).
		SetNested("in", new(Message).SetInt("inner", 1)).
		SetHeader("head", "text")
	b := encode(t, Options{}, m, &Message{})
	tests := []struct {
		matcher     string
		match, none bool // on m, on a message without fields
	}{
		{``, true, true},
		{` `, true, true},
		{`{}`, true, true},
		{`{"s":"text"}`, true, false},
		{`{"s":"Text"}`, false, false},
		{`{"s":"text "}`, false, false},
		{`{"s":"\u0074ext"}`, true, false},
		{`{"empty":""}`, true, false},
		{`{"n":17}`, true, false},
		{`{"n":18}`, false, false},
		{`{"min":-9223372036854775808}`, true, false},
		{`{"n":"17"}`, false, false},
		{`{"digits":17}`, false, false},
		{`{"digits":"17"}`, true, false},
		{`{"f":17}`, false, false},
		{`{"b":true}`, true, false},
		{`{"b":false}`, false, true},
		{`{"b":"true"}`, false, false},
		{`{"b":1}`, false, false},
		{`{"raw":"text"}`, false, false},
		{`{"list":"text"}`, false, false},
		{`{"list":true,"raw":true,"in":true}`, true, false},
		{`{"inner":true}`, false, false},
		{`{"inner":1}`, false, false},
		{`{"head":true}`, false, false},
		{`{"head":false}`, true, true},
		{`{"x":false,"y":false}`, true, true},
		{`{"s":"text","n":17,"x":false}`, true, false},
		{`{"s":"text","n":18}`, false, false},
		{`{"s":"text","b":false}`, false, false},
		{`{"a":false,"b":true,"c":false,"d":false,"n":17,"s":"text","z":false}`, true, false},
		{`{"a":false,"b":true,"c":false,"d":false,"n":17,"s":"text","z":true}`, false, false},
	}
	for _, tc := range tests {
		m := mustMatcher(t, tc.matcher)
		if m.Match(b, 0) != tc.match || m.Match(b, 1) != tc.none {
			t.Errorf("%s: %v and %v, want %v and %v", tc.matcher, m.Match(b, 0), m.Match(b, 1), tc.match, tc.none)
		}
	}
	var none *Matcher
	if !none.Match(b, 0) || !none.All() || none.String() != "{}" || !none.Equal(mustMatcher(t, "{ }")) {
		t.Error("a nil matcher does not match everything")
	}
}

func TestParseMatcherErrors(t *testing.T) {
	many := func(n int) string {
		var terms []string
		for i := range n {
			terms = append(terms, fmt.Sprintf(`"n%d":1`, i))
		}
		return "{" + strings.Join(terms, ",") + "}"
	}
	tests := []struct {
		text   string
		offset int
		member string
		cause  error
	}{
		{`x`, 0, "", nil},
		{`[]`, 0, "", nil},
		{`null`, 0, "", nil},
		{`{`, 1, "", nil},
		{`{"a"`, 4, "a", nil},
		{`{"a":`, 5, "a", nil},
		{`{"a":1`, 6, "", nil},
		{`{"a":1,`, 7, "", nil},
		{`{"a":1,}`, 7, "", nil},
		{`{,"a":1}`, 1, "", nil},
		{`{"a" 1}`, 5, "a", nil},
		{`{"a":1 "b":2}`, 7, "", nil},
		{`{"a":1}{}`, 7, "", nil},
		{`{} x`, 3, "", nil},
		{`{a:1}`, 1, "", nil},
		{`{"a":1.0}`, 5, "a", ErrValue},
		{`{"a":1e3}`, 5, "a", ErrValue},
		{`{"a":9223372036854775808}`, 5, "a", ErrValue},
		{`{"a":01}`, 5, "a", nil},
		{`{"a":-}`, 6, "a", nil},
		{`{"a":+1}`, 5, "a", nil},
		{`{"a":null}`, 5, "a", nil},
		{`{"a":{}}`, 5, "a", nil},
		{`{"a":["x"]}`, 5, "a", nil},
		{`{"a":tru}`, 5, "a", nil},
		{`{"a":truex}`, 9, "", nil},
		{`{"a":"x}`, 8, "a", nil},
		{`{"a":"\x"}`, 6, "a", nil},
		{`{"a":"\u12"}`, 6, "a", nil},
		{`{"a":"\ud800"}`, 6, "a", ErrUTF8},
		{`{"a":"\ud800\u0041"}`, 6, "a", ErrUTF8},
		{`{"a":"\udc00"}`, 6, "a", ErrUTF8},
		{"{\"a\":\"\n\"}", 6, "a", nil},
		{"{\"a\":\"\xff\"}", 6, "a", ErrUTF8},
		{"{\"\xff\":1}", 2, "", ErrUTF8},
		{"\xef\xbb\xbf{}", 0, "", nil},
		{`{"a":1, "a":2}`, 8, "a", ErrDuplicate},
		{`{"a":1,"\u0061":2}`, 7, "a", ErrDuplicate},
		{`{"":1}`, 1, "", ErrName},
		{`{"_a":1}`, 1, "", ErrName},
		{`{"` + strings.Repeat("n", 257) + `":1}`, 1, "", ErrName},
		{`{"a":"` + strings.Repeat("v", 257) + `"}`, 5, "a", ErrTooLarge},
		{many(MaxMatcherTerms + 1), strings.Index(many(MaxMatcherTerms+1), `"n64"`), "n64", ErrTooLarge},
		{strings.Repeat(" ", MaxMatcherSize+1), MaxMatcherSize, "", ErrTooLarge},
	}
	for _, tc := range tests {
		m, err := ParseMatcher(tc.text)
		var syntax *SyntaxError
		if m != nil || !errors.As(err, &syntax) || !errors.Is(err, ErrMatcher) {
			t.Errorf("%.60q: %v, error %v", tc.text, m, err)
			continue
		}
		if syntax.Offset != tc.offset || syntax.Member != tc.member || (tc.cause != nil && !errors.Is(err, tc.cause)) {
			t.Errorf("%.60q: offset %d, member %q, cause %v; want %d, %q, %v",
				tc.text, syntax.Offset, syntax.Member, syntax.cause, tc.offset, tc.member, tc.cause)
		}
	}
	mustMatcher(t, many(MaxMatcherTerms))
	mustMatcher(t, `{"`+strings.Repeat("n", 256)+`":"`+strings.Repeat("v", 256)+`"}`)
}

func TestMatcherTextIsCanonical(t *testing.T) {
	tests := []struct{ text, want string }{
		{" { } ", `{}`},
		{"{ \"b\" : 1 ,\n\t\"a\":\"x y\" }", `{"a":"x y","b":1}`},
		{`{"\u00e4\u20ac\ud83d\ude00":"\/\"\\\b\f\n\r\t"}`, `{"ä€😀":"/\"\\\u0008\u000c\n\r\t"}`},
		{`{"a":-0}`, `{"a":0}`},
		{`{"t":true,"f":false}`, `{"f":false,"t":true}`},
	}
	for _, tc := range tests {
		m := mustMatcher(t, tc.text)
		if m.String() != tc.want {
			t.Errorf("%s is %s, want %s", tc.text, m, tc.want)
		}
		if again := mustMatcher(t, m.String()); !again.Equal(m) || again.String() != m.String() {
			t.Errorf("%s does not read back", m)
		}
	}
	if mustMatcher(t, `{"a":1}`).Equal(mustMatcher(t, `{"a":"1"}`)) || mustMatcher(t, `{"a":1}`).Equal(nil) {
		t.Error("different matchers are equal")
	}
}
