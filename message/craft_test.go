package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// craft makes a batch of one message with the given part, dictionary and
// header flags, as a Builder never would.
func craft(flags Flags, dict, part []byte) []byte {
	var head []byte
	head = binary.LittleEndian.AppendUint32(head, uint32(len(part)))
	head = binary.LittleEndian.AppendUint32(head, 0)
	head = append(append(head, dict...), part...)
	h := BatchHeader{Flags: flags, Count: 1, HeadLen: len(head), HeadRawLen: len(head)}
	raw := make([]byte, HeaderSize)
	h.put(raw)
	return reseal(append(raw, head...))
}

// dictionaryOf encodes names, whatever they are.
func dictionaryOf(names ...string) []byte {
	d := binary.LittleEndian.AppendUint16(nil, uint16(len(names)))
	end := 0
	for _, name := range names {
		end += len(name)
		d = binary.LittleEndian.AppendUint16(d, uint16(end))
	}
	return append(d, strings.Join(names, "")...)
}

// fieldOf encodes a part with one field, named by the first name.
func fieldOf(kind Kind, value []byte) []byte {
	part := appendUvarint([]byte{hasFields, 1, 0, byte(kind)}, len(value))
	return append(part, value...)
}

func TestParseBatchRefusesDictionaries(t *testing.T) {
	part := fieldOf(KindBool, []byte{1})
	tests := map[string][]byte{
		"empty name":         dictionaryOf("a", ""),
		"long name":          dictionaryOf(strings.Repeat("n", 257)),
		"falling":            {2, 0, 2, 0, 1, 0, 'a', 'b'},
		"names cut off":      {1, 0, 200, 0, 'a'},
		"ends cut off":       {200, 0, 1, 0, 'a'},
		"too many names":     dictionaryOf(strings.Split(strings.Repeat("a", MaxNames+1), "")...),
		"one byte too few":   dictionaryOf("a")[:4],
		"no dictionary":      {},
		"the next takes one": {1, 0, 3, 0, 'a'},
	}
	for name, dict := range tests {
		b, err := ParseBatch(craft(FlagParts, dict, part))
		if err == nil {
			use(t, b)
			err = b.Validate(0)
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := ParseBatch(craft(FlagParts, dictionaryOf("a", strings.Repeat("n", 256)), part)); err != nil {
		t.Errorf("a good dictionary: %v", err)
	}
}

func TestOneEncodingOnly(t *testing.T) {
	dict := dictionaryOf("a", "b")
	tests := map[string][]byte{
		"parts flag without parts": {},
		"count not shortest":       {hasFields, 0x81, 0, 0, byte(KindBool), 1, 1},
		"name not shortest":        {hasFields, 1, 0x80, 0, byte(KindBool), 1, 1},
		"length not shortest":      {hasFields, 1, 0, byte(KindBool), 0x81, 0, 1},
		"huge length":              {hasFields, 1, 0, byte(KindBytes), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"endless length":           append([]byte{hasFields, 1, 0, byte(KindBytes)}, bytes.Repeat([]byte{0xff}, 20)...),
		"bytes behind the array":   fieldOf(KindBools, []byte{1, 1, 0}),
		"bytes behind the nested":  fieldOf(KindMessage, []byte{0, 0}),
		"array is cut off":         fieldOf(KindStrings, []byte{2, 1, 'a'}),
		"array without count":      fieldOf(KindStrings, nil),
		"nested without count":     fieldOf(KindMessage, nil),
		"empty key":                {hasKey, 0},
		"cut off key":              {hasKey, 9, 'k'},
		"header without value":     {hasHeaders, 1, 0},
		"bytes behind it all":      append(fieldOf(KindBool, []byte{1}), 0),
	}
	for name, part := range tests {
		flags := FlagParts
		if len(part) > 0 && part[0] == hasKey {
			flags |= FlagControl
		}
		b, err := ParseBatch(craft(flags, dict, part))
		if err == nil {
			use(t, b)
			err = b.Validate(0)
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", name, err)
		}
	}
	parse(t, craft(FlagParts, dict, fieldOf(KindBool, []byte{1})))
}

// TestItemsAreCountedPerMessage: what is cheap to send must not be dear to
// decode, and the messages of a batch do not count together.
func TestItemsAreCountedPerMessage(t *testing.T) {
	elements := func(kind Kind, n int, one []byte) []byte {
		return craft(FlagParts, dictionaryOf("a"), fieldOf(kind, append(appendUvarint(nil, n), bytes.Repeat(one, n)...)))
	}
	tests := map[string]struct {
		raw  []byte
		want error
	}{
		"most bools":   {elements(KindBools, MaxItems-1, []byte{1}), nil},
		"bools":        {elements(KindBools, MaxItems, []byte{1}), ErrTooLarge},
		"strings":      {elements(KindStrings, MaxItems, []byte{0}), ErrTooLarge},
		"most nested":  {elements(KindMessageArray, MaxItems/2-1, []byte{1, 0}), nil},
		"nested":       {elements(KindMessageArray, MaxItems/2, []byte{1, 0}), ErrTooLarge},
		"claimed only": {craft(FlagParts, dictionaryOf("a"), fieldOf(KindBools, []byte{0x80, 0x40, 1})), ErrCorrupt},
	}
	for name, tc := range tests {
		b, err := ParseBatch(tc.raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Validate(0); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
		if _, err := b.Message(0); !errors.Is(err, tc.want) {
			t.Errorf("%s: decoding: error %v, want %v", name, err, tc.want)
		}
	}
	m := new(Message).Set("list", Bools(make([]bool, MaxItems-1)))
	sameMessages(t, encode(t, Options{}, m, m), []*Message{m, m})
}

func TestControlFlagMustBeTrue(t *testing.T) {
	part := []byte{hasKey, 1, 'k'}
	parse(t, craft(FlagParts|FlagControl, dictionaryOf(), part))
	for _, raw := range [][]byte{
		craft(FlagParts, dictionaryOf(), part),
		craft(FlagParts|FlagControl, dictionaryOf("a"), fieldOf(KindBool, []byte{1})),
	} {
		b, err := ParseBatch(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Validate(0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v, want ErrCorrupt", err)
		}
	}
}

func TestOpenBatchWantsExactlyOneBatch(t *testing.T) {
	raw := encode(t, Options{}, &Message{Body: []byte("x")}).Bytes()
	for _, b := range [][]byte{raw[:len(raw)-1], append(bytes.Clone(raw), 0)} {
		if _, err := OpenBatch(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d of %d bytes: error %v", len(b), len(raw), err)
		}
	}
}

// TestLimitsToTheByte: the limits on messages and batches hold exactly, for
// what is in parts too.
func TestLimitsToTheByte(t *testing.T) {
	const limit = 1000
	for name, m := range map[string]*Message{
		"key":     {Key: "k"},
		"TTL":     {TTL: 1},
		"fields":  new(Message).SetInt("a", 1),
		"text":    new(Message).SetString("a", "text"),
		"arrays":  new(Message).Set("a", Strings([]string{"x", ""})).Set("b", NestedArray([]*Message{nil})),
		"headers": new(Message).SetHeader("a", "").SetHeader("b", "value"),
	} {
		part := len(new(Builder).partOf(t, m))
		for extra := range 2 {
			var b Builder
			b.SetMaxMessageSize(limit)
			m.Body = make([]byte, limit-part+extra)
			if err := b.Add(m); (err != nil) != (extra > 0) || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %d bytes over the limit of a message: %v", name, extra, err)
			}
		}
		for over := -3; over <= 3; over++ {
			var b Builder
			m.Body = nil
			if err := errors.Join(b.AddBody(nil), b.Add(m)); err != nil {
				t.Fatal(err)
			}
			fill := MaxBatchSize - b.Size() + over
			b.Reset()
			if err := b.AddBody(make([]byte, fill)); err != nil {
				t.Fatal(err)
			}
			if err := b.Add(m); (err != nil) != (over > 0) || err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("%s: %d bytes over the limit of a batch: %v", name, over, err)
			}
			parse(t, b.AppendTo(nil, Options{}))
		}
	}
}

// partOf returns the encoded part of a message.
func (b *Builder) partOf(t *testing.T, m *Message) []byte {
	t.Helper()
	b.Reset()
	if err := b.Add(m); err != nil {
		t.Fatal(err)
	}
	return b.parts
}

func TestNestingIsCountedWhenReading(t *testing.T) {
	fields := []byte{0} // no fields
	for depth := 1; depth <= MaxNesting+1; depth++ {
		b, err := ParseBatch(craft(FlagParts, dictionaryOf("a"), append([]byte{hasFields}, fields...)))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Validate(0); (err != nil) != (depth > MaxNesting) || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("depth %d: error %v", depth, err)
		}
		fields = append(appendUvarint([]byte{1, 0, byte(KindMessage)}, len(fields)), fields...)
	}
}
