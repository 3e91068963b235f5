package message

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON text byte by byte. It is ours because encoding/json
// neither reports positions of what it accepts, nor duplicates, and repairs
// text that is not UTF-8 instead of refusing it. It takes time linear in the
// text.
type scanner struct {
	s    []byte
	pos  int
	kind error  // ErrMatcher or ErrJSON
	path []byte // of the member being read
}

// fail returns an error at a position.
func (s *scanner) fail(pos int, cause error, format string, args ...any) error {
	return &SyntaxError{
		Offset: pos, Member: string(s.path), Problem: fmt.Sprintf(format, args...),
		kind: s.kind, cause: cause,
	}
}

// space skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) space() byte {
	for s.pos < len(s.s) {
		switch c := s.s[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// expect skips white space and takes c.
func (s *scanner) expect(c byte) error {
	if s.space() != c || s.pos == len(s.s) {
		return s.fail(s.pos, nil, "expected %q, found %s", c, s.found())
	}
	s.pos++
	return nil
}

// found describes what is at the present position.
func (s *scanner) found() string {
	if s.pos >= len(s.s) {
		return "the end of the text"
	}
	r, _ := utf8.DecodeRune(s.s[s.pos:])
	return strconv.QuoteRune(r)
}

// finish returns v if nothing but white space follows.
func finish[T any](s *scanner, v *T) (*T, error) {
	if s.space(); s.pos < len(s.s) {
		return nil, s.fail(s.pos, nil, "unexpected %s after the object", s.found())
	}
	return v, nil
}

// word takes a literal such as true.
func (s *scanner) word(w string) bool {
	if len(s.s)-s.pos < len(w) || string(s.s[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// text reads a string in quotes. The result does not share the input.
func (s *scanner) text() (string, error) {
	if err := s.expect('"'); err != nil {
		return "", err
	}
	start := s.pos
	var out []byte // set once an escape was met
	for s.pos < len(s.s) {
		switch c := s.s[s.pos]; {
		case c == '"':
			raw := s.s[start:s.pos]
			s.pos++
			if out == nil {
				return string(raw), nil
			}
			return string(append(out, raw...)), nil
		case c == '\\':
			out = append(out, s.s[start:s.pos]...)
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			start = s.pos
		case c < ' ':
			return "", s.fail(s.pos, nil, "control character %#02x in a string, write it as \\u%04x", c, c)
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, size := utf8.DecodeRune(s.s[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return "", s.fail(s.pos, ErrUTF8, "byte %#02x is not UTF-8", c)
			}
			s.pos += size
		}
	}
	return "", s.fail(s.pos, nil, "the string is not closed")
}

// escape reads what a backslash introduces.
func (s *scanner) escape() (rune, error) {
	at := s.pos
	s.pos++ // the backslash
	if s.pos >= len(s.s) {
		return 0, s.fail(s.pos, nil, "the string is not closed")
	}
	c := s.s[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := s.hex4()
		if !ok {
			return 0, s.fail(at, nil, "\\u needs four hexadecimal digits")
		}
		if !utf16.IsSurrogate(r) {
			return r, nil
		}
		if s.word(`\u`) {
			if low, ok := s.hex4(); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return r, nil
				}
			}
		}
		return 0, s.fail(at, ErrUTF8, "half of a surrogate pair is no character")
	}
	return 0, s.fail(at, nil, "unknown escape")
}

func (s *scanner) hex4() (r rune, ok bool) {
	if len(s.s)-s.pos < 4 {
		return 0, false
	}
	for range 4 {
		c := s.s[s.pos]
		s.pos++
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number reads a JSON number and reports whether it is spelled as an integer:
// without fraction and exponent.
func (s *scanner) number() (lit string, integer bool, err error) {
	start := s.pos
	integer = true
	s.take('-')
	switch {
	case s.take('0'):
	case s.digits() > 0:
	default:
		return "", false, s.fail(s.pos, nil, "expected a digit, found %s", s.found())
	}
	if s.take('.') {
		integer = false
		if s.digits() == 0 {
			return "", false, s.fail(s.pos, nil, "expected a digit, found %s", s.found())
		}
	}
	if s.take('e') || s.take('E') {
		integer = false
		if !s.take('+') {
			s.take('-')
		}
		if s.digits() == 0 {
			return "", false, s.fail(s.pos, nil, "expected a digit, found %s", s.found())
		}
	}
	if s.pos < len(s.s) && s.s[s.pos] >= '0' && s.s[s.pos] <= '9' {
		return "", false, s.fail(start, nil, "a number does not begin with 0")
	}
	return string(s.s[start:s.pos]), integer, nil
}

func (s *scanner) take(c byte) bool {
	if s.pos < len(s.s) && s.s[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.s) && s.s[s.pos] >= '0' && s.s[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}
