package message

import (
	"time"
	"unicode/utf8"
)

// AppendMembers appends everything of m as members of a JSON object, without its
// braces, so that FromRecord makes an equal message of the object:
//
//	key, ttl, deliver_at   only where there are: text, 1h30m, RFC 3339
//	fields                 as AppendTyped writes them
//	headers                an object of texts
//	body                   text, or null where it is not UTF-8
//	body_base64            the body where it is not UTF-8
func (m *Message) AppendMembers(dst []byte) []byte {
	if m.Key != "" {
		dst = append(appendQuoted(append(dst, `"key":`...), m.Key), ',')
	}
	if m.TTL != 0 {
		dst = append(append(append(dst, `"ttl":"`...), m.TTL.String()...), `",`...)
	}
	if !m.DeliverAt.IsZero() {
		dst = append(appendTime(append(dst, `"deliver_at":`...), m.DeliverAt), ',')
	}
	dst = m.AppendTyped(append(dst, `"fields":`...))
	dst = AppendHeaders(append(dst, `,"headers":`...), m.Headers)
	if utf8.Valid(m.Body) {
		return appendQuoted(append(dst, `,"body":`...), string(m.Body))
	}
	return appendBase64(append(dst, `,"body":null,"body_base64":`...), m.Body)
}

// AppendHeaders appends headers as a JSON object without white space, in their
// order.
func AppendHeaders(dst []byte, headers []Header) []byte {
	dst = append(dst, '{')
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(append(appendQuoted(dst, h.Name), ':'), h.Value)
	}
	return append(dst, '}')
}

// AppendText appends s as a JSON string.
func AppendText(dst []byte, s string) []byte { return appendQuoted(dst, s) }

// ParseHeaders makes headers of what AppendHeaders wrote. Errors are those of
// FromJSON.
func ParseHeaders(text []byte) ([]Header, error) {
	p := scanner{s: text, kind: ErrJSON}
	var d jsonReader
	list, err := d.headers(&p)
	if err != nil {
		return nil, err
	}
	if _, err := finish(&p, &list); err != nil {
		return nil, err
	}
	return list, nil
}

// FromRecord makes a message of a JSON object that has the members AppendMembers
// writes; those that are not there, or null, are empty. The members store,
// durables, id, stamp and count may be there too, and say nothing here. Errors
// are those of FromJSON. The message does not share line.
func FromRecord(line []byte) (*Message, error) {
	p := scanner{s: line, kind: ErrJSON}
	d := recordReader{jsonReader: jsonReader{typed: true}, m: &Message{}, seen: make(map[string]struct{})}
	err := d.members(&p, func(at int, name string) error {
		if _, twice := d.seen[name]; twice {
			return p.fail(at, ErrDuplicate, "the member is there twice")
		}
		d.seen[name] = struct{}{}
		if p.space() == 'n' && p.word("null") {
			return nil
		}
		return d.take(&p, at, name)
	})
	if err != nil {
		return nil, err
	}
	return finish(&p, d.m)
}

// recordReader reads the members of a whole message.
type recordReader struct {
	jsonReader
	m    *Message
	seen map[string]struct{}
}

func (d *recordReader) take(p *scanner, at int, name string) (err error) {
	switch name {
	case "store", "durables", "id", "stamp", "count":
		var skipped jsonReader
		_, err = skipped.value(p, 1)
	case "fields":
		p.path = p.path[:0] // those of fields say enough
		var fields *Message
		if fields, err = d.object(p, 1); err == nil {
			d.m.Fields = fields.Fields
		}
	case "headers":
		d.m.Headers, err = d.headers(p)
	case "body":
		err = d.body(p, func(s string) ([]byte, string) { return []byte(s), "" })
	case "body_base64":
		err = d.body(p, func(s string) ([]byte, string) {
			v, problem := bytesFromText(s)
			b, _ := v.AsBytes()
			return b, problem
		})
	case "key":
		d.m.Key, err = p.text()
	case "ttl":
		err = recordText(p, func(s string) (problem string) {
			d.m.TTL, problem = ParseTTL(s)
			return problem
		})
	case "deliver_at":
		err = recordText(p, func(s string) (problem string) {
			d.m.DeliverAt, problem = ParseInstant(s)
			return problem
		})
	default:
		return p.fail(at, ErrName, "no such member; there are key, ttl, deliver_at, fields, headers, body and body_base64, "+
			"and store, durables, id, stamp and count, which say nothing")
	}
	return err
}

// ParseTTL reads the time to live of a message. problem says what is wrong, or
// is empty.
func ParseTTL(s string) (ttl time.Duration, problem string) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, "it must be a time above 0, such as 1m30s"
	}
	return d, ""
}

// ParseInstant reads when a message is to be delivered.
func ParseInstant(s string) (at time.Time, problem string) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() {
		return time.Time{}, "it is no time such as 2006-01-02T15:04:05Z"
	}
	return t, ""
}

func recordText(p *scanner, parse func(string) string) error {
	at := p.pos
	s, err := p.text()
	if err != nil {
		return err
	}
	if problem := parse(s); problem != "" {
		return p.fail(at, ErrValue, "%.80q: %s", s, problem)
	}
	return nil
}

// body reads the body, which may be there in one way only.
func (d *recordReader) body(p *scanner, decode func(string) ([]byte, string)) error {
	return recordText(p, func(s string) string {
		b, problem := decode(s)
		if problem == "" && len(b) > 0 && len(d.m.Body) > 0 {
			return "both body and body_base64 are there"
		}
		if len(b) > 0 {
			d.m.Body = b
		}
		return problem
	})
}

func (d *jsonReader) headers(p *scanner) (list []Header, err error) {
	seen := make(map[string]struct{})
	err = d.members(p, func(at int, name string) error {
		if err := ValidName(name); err != nil {
			return p.fail(at, err, "%v", err)
		}
		if _, twice := seen[name]; twice {
			return p.fail(at, ErrDuplicate, "the header is there twice")
		}
		seen[name] = struct{}{}
		if err := d.count(p, 1); err != nil {
			return err
		}
		p.space()
		value, err := p.text()
		list = append(list, Header{name, value})
		return err
	})
	return list, err
}

// members reads an object and calls one at the value of each member, which it
// reads; at is where the name was.
func (d *jsonReader) members(p *scanner, one func(at int, name string) error) error {
	if err := p.expect('{'); err != nil {
		return err
	}
	if p.space() == '}' {
		p.pos++
		return nil
	}
	outer := len(p.path)
	for {
		p.space()
		at := p.pos
		name, err := p.text()
		if err != nil {
			return err
		}
		if p.path = p.path[:outer]; outer > 0 {
			p.path = append(p.path, '.')
		}
		p.path = append(p.path, name...)
		if err := p.expect(':'); err != nil {
			return err
		}
		p.space()
		if err := one(at, name); err != nil {
			return err
		}
		p.path = p.path[:outer]
		if p.space() == '}' {
			p.pos++
			return nil
		}
		if err := p.expect(','); err != nil {
			return err
		}
	}
}
