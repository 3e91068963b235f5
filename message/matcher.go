package message

import (
	"cmp"
	"slices"
	"strconv"
)

// Matcher selects messages by their top level fields. It never changes and is
// safe for concurrent use. A nil Matcher matches every message.
type Matcher struct {
	terms []term // ascending by name, no name twice
}

// op is what a term asks for.
type op uint8

const (
	opString  op = iota // a string field that equals text
	opInt               // an int64 field that equals num
	opPresent           // a field of any kind
	opAbsent            // no field
)

// term is one member of a matcher.
type term struct {
	name string
	op   op
	text string
	num  int64
}

// ParseMatcher reads a matcher: a JSON object whose members are all to be
// satisfied by a message.
//
//	"name": "text"   the field is a string and equal
//	"name": 17       the field is an int64 and equal
//	"name": true     there is a field of that name, of any kind
//	"name": false    there is none
//
// Strings have at most 256 bytes, integers fit into int64 and are spelled
// without fraction or exponent, names follow ValidName, and no name is used
// twice. White space outside quotes does not count. Empty text and {} match
// every message. Nothing is coerced: 17 does not match "17", 17.0 or an array.
//
// Errors are *SyntaxError, with the position, and wrap ErrMatcher.
func ParseMatcher(s string) (*Matcher, error) {
	p := scanner{kind: ErrMatcher}
	if len(s) > MaxMatcherSize {
		return nil, p.fail(MaxMatcherSize, ErrTooLarge, "a matcher has at most %d bytes, this one has %d", MaxMatcherSize, len(s))
	}
	p.s = []byte(s)
	m := &Matcher{}
	if p.space(); p.pos == len(p.s) {
		return m, nil
	}
	if err := p.expect('{'); err != nil {
		return nil, err
	}
	if p.space() == '}' {
		p.pos++
		return finish(&p, m)
	}
	for {
		if err := m.parseTerm(&p); err != nil {
			return nil, err
		}
		if p.space() == '}' {
			p.pos++
			break
		}
		if err := p.expect(','); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.terms, func(a, b term) int { return cmp.Compare(a.name, b.name) })
	return finish(&p, m)
}

func (m *Matcher) parseTerm(p *scanner) error {
	p.space()
	at := p.pos
	name, err := p.text()
	if err != nil {
		return err
	}
	if err := ValidName(name); err != nil {
		return p.fail(at, err, "%v", err)
	}
	p.path = append(p.path[:0], name...)
	if slices.ContainsFunc(m.terms, func(t term) bool { return t.name == name }) {
		return p.fail(at, ErrDuplicate, "the member is there twice")
	}
	if len(m.terms) == MaxMatcherTerms {
		return p.fail(at, ErrTooLarge, "a matcher has at most %d members", MaxMatcherTerms)
	}
	if err := p.expect(':'); err != nil {
		return err
	}
	t := term{name: name}
	if err := t.parseValue(p); err != nil {
		return err
	}
	m.terms = append(m.terms, t)
	p.path = p.path[:0]
	return nil
}

func (t *term) parseValue(p *scanner) error {
	c := p.space()
	at := p.pos
	switch {
	case c == '"':
		text, err := p.text()
		if err != nil {
			return err
		}
		if len(text) > MaxNameLen {
			return p.fail(at, ErrTooLarge, "the string has %d bytes, at most %d are allowed", len(text), MaxNameLen)
		}
		t.op, t.text = opString, text
	case c == '-' || c >= '0' && c <= '9':
		lit, integer, err := p.number()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(lit, 10, 64)
		if !integer || err != nil {
			return p.fail(at, ErrValue, "%.40s is not an integer of 64 bits, and matchers compare only these", lit)
		}
		t.op, t.num = opInt, n
	case p.word("true"):
		t.op = opPresent
	case p.word("false"):
		t.op = opAbsent
	default:
		return p.fail(at, nil, "expected a string, an integer, true or false, found %s", p.found())
	}
	return nil
}

// All reports whether m matches every message.
func (m *Matcher) All() bool { return m == nil || len(m.terms) == 0 }

// String returns the canonical text: members ascending by the bytes of their
// names, no white space. ParseMatcher reads it back as an equal Matcher.
func (m *Matcher) String() string {
	if m.All() {
		return "{}"
	}
	out := []byte{'{'}
	for i := range m.terms {
		t := &m.terms[i]
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendQuoted(out, t.name), ':')
		switch t.op {
		case opString:
			out = appendQuoted(out, t.text)
		case opInt:
			out = strconv.AppendInt(out, t.num, 10)
		default:
			out = strconv.AppendBool(out, t.op == opPresent)
		}
	}
	return string(append(out, '}'))
}

// Equal reports whether both matchers have the same members.
func (m *Matcher) Equal(o *Matcher) bool {
	if m.All() || o.All() {
		return m.All() == o.All()
	}
	return slices.Equal(m.terms, o.terms)
}

// Match reports whether message i matches. It allocates nothing. It panics if
// i is not below Count.
func (m *Matcher) Match(b Batch, i int) bool {
	return m.All() || m.match(&b, i)
}

func (m *Matcher) match(b *Batch, i int) bool {
	var met uint64 // a bit for each term; MaxMatcherTerms are that many
	for fields, n := b.fields(i); n > 0; n-- {
		number, kind, raw, rest, ok := field(fields)
		if !ok || number >= b.dict.names {
			break
		}
		fields = rest
		k := m.find(b.dict.name(number))
		if k < 0 {
			continue
		}
		if !m.terms[k].accepts(kind, raw) {
			return false
		}
		met |= 1 << k
	}
	for k := range m.terms {
		if m.terms[k].op != opAbsent && met&(1<<k) == 0 {
			return false
		}
	}
	return true
}

// find returns the term of a name, -1 if there is none. Most matchers have one
// or two terms.
func (m *Matcher) find(name []byte) int {
	if len(m.terms) <= 4 {
		for k := range m.terms {
			if m.terms[k].name == string(name) {
				return k
			}
		}
		return -1
	}
	// By hand: with slices.BinarySearchFunc the batch would escape to the heap.
	low, high := 0, len(m.terms)
	for low < high {
		if mid := (low + high) / 2; m.terms[mid].name < string(name) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(m.terms) && m.terms[low].name == string(name) {
		return low
	}
	return -1
}

// accepts reports whether a field of the term's name satisfies it.
func (t *term) accepts(kind Kind, raw []byte) bool {
	switch t.op {
	case opString:
		return kind == KindString && string(raw) == t.text
	case opInt:
		n, ok := intValue(kind, raw)
		return ok && n == t.num
	default:
		return t.op == opPresent
	}
}
