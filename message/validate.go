package message

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Validate checks what ParseBatch does not look at: names, and the part of
// every message, to the last byte and every limit, and that the header tells
// the truth about control and deadlines. A server calls it once, before a
// batch enters the log; from then on everything in it decodes. It costs next
// to nothing for a batch that is Opaque. It allocates only for more than 32
// different names, and to decompress compressed bodies.
//
// maxMessage limits each message; 0 is HardMaxMessageSize. Errors wrap
// ErrTooLarge, ErrCorrupt, ErrName, ErrUTF8, ErrDuplicate or ErrValue and name
// the message and the member.
func (b Batch) Validate(maxMessage int) error {
	if maxMessage <= 0 || maxMessage > HardMaxMessageSize {
		maxMessage = HardMaxMessageSize
	}
	if err := b.checkSizes(maxMessage); err != nil {
		return err
	}
	if _, err := b.bodies(); err != nil {
		return err
	}
	if !b.hasParts {
		return nil
	}
	if err := b.checkNames(); err != nil {
		return err
	}
	c := checker{batch: &b}
	for i := range b.count {
		if err := c.part(b.part(i)); err != nil {
			return fmt.Errorf("message %d of the batch: %w", i, err)
		}
	}
	if c.deadline != b.EarliestDeadline() || c.control != b.HasControl() {
		return corruptf("batch header says deadline %d, control %v; its messages say %d, %v",
			b.EarliestDeadline(), b.HasControl(), c.deadline, c.control)
	}
	return nil
}

// checkSizes looks at single messages only if all together could break the
// limit.
func (b *Batch) checkSizes(maxMessage int) error {
	le := binary.LittleEndian
	dir := b.directory()
	if len(dir) == 0 {
		return corruptf("no batch")
	}
	if total := int(le.Uint32(dir[len(dir)-4:])) + len(b.head) - b.partsAt; total <= maxMessage {
		return nil
	}
	for i := range b.count {
		start, end := b.bounds(i, b.stride-4)
		if size := end - start + len(b.part(i)); size > maxMessage {
			return fmt.Errorf("message %d of the batch: %w", i, tooLarge(size, maxMessage))
		}
	}
	return nil
}

// checkNames checks the dictionary. A few names are compared with each other
// and many are put into a set, so that the time stays linear.
func (b *Batch) checkNames() error {
	const few = 32
	var set map[string]struct{}
	if b.dict.names > few {
		set = make(map[string]struct{}, b.dict.names)
	}
	for n := range b.dict.names {
		name := b.dict.name(n)
		if err := ValidName(text(name)); err != nil {
			return err
		}
		twice := false
		if set != nil {
			_, twice = set[text(name)]
			set[text(name)] = struct{}{}
		} else {
			for k := range n {
				twice = twice || string(b.dict.name(k)) == string(name)
			}
		}
		if twice {
			return fmt.Errorf("%w: %q is twice in the dictionary", ErrDuplicate, name)
		}
	}
	return nil
}

// checker walks through message parts without building anything.
type checker struct {
	batch    *Batch
	items    int
	deadline int64 // the earliest
	control  bool  // some message has control
}

// part checks one message part.
func (c *checker) part(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c.items = 0
	r := reader{b: p}
	contents := r.byte()
	if contents == 0 || contents&^knownContents != 0 {
		return corruptf("message part has contents %#x", contents)
	}
	if err := c.checkControl(&r, contents); err != nil {
		return err
	}
	if contents&hasFields != 0 {
		if err := c.fields(&r, 1); err != nil {
			return err
		}
	}
	if contents&hasHeaders != 0 {
		if err := c.headers(&r); err != nil {
			return err
		}
	}
	if r.failed || len(r.b) > 0 {
		return corruptf("message part does not end where it should")
	}
	return nil
}

func (c *checker) checkControl(r *reader, contents byte) error {
	c.control = c.control || contents&(hasTTL|hasDeliverAt|hasKey) != 0
	if contents&hasTTL != 0 {
		ttl := int64(r.uint64())
		if ttl <= 0 {
			return fmt.Errorf("%w: TTL of %d ns", ErrValue, ttl)
		}
		if c.deadline == 0 || ttl < c.deadline {
			c.deadline = ttl
		}
	}
	if contents&hasDeliverAt != 0 {
		r.uint64()
	}
	if contents&hasKey != 0 {
		key := r.prefixed()
		if len(key) == 0 {
			return corruptf("key is empty or cut off")
		}
		return validKey(text(key))
	}
	return nil
}

// count reads a number of elements that take at least size bytes each.
func (c *checker) count(r *reader, size int) (int, error) {
	n := r.uvarint()
	if c.items += n; c.items > MaxItems {
		return 0, fmt.Errorf("%w: more than %d fields, headers and elements in one message", ErrTooLarge, MaxItems)
	}
	if r.failed || n*size > len(r.b) {
		return 0, corruptf("%d elements in %d bytes", n, len(r.b))
	}
	return n, nil
}

// member checks that a name exists and is used once.
func (c *checker) member(n int, used *nameSet) error {
	if n >= c.batch.dict.names {
		return corruptf("name %d of %d", n, c.batch.dict.names)
	}
	if !used.add(uint16(n)) {
		return ErrDuplicate
	}
	return nil
}

// name returns a name for an error.
func (c *checker) name(n int) []byte {
	if n >= c.batch.dict.names {
		return nil
	}
	return c.batch.dict.name(n)
}

func (c *checker) fields(r *reader, depth int) error {
	if depth > MaxNesting {
		return fmt.Errorf("%w: messages nest more than %d deep", ErrTooLarge, MaxNesting)
	}
	n, err := c.count(r, 3)
	if err != nil {
		return err
	}
	var used nameSet
	for range n {
		number, kind, raw, rest, ok := field(r.b)
		if !ok {
			return corruptf("a field is cut off")
		}
		r.b = rest
		if err := c.member(number, &used); err != nil {
			return fmt.Errorf("field %q: %w", c.name(number), err)
		}
		if err := c.value(kind, raw, depth); err != nil {
			return fmt.Errorf("field %q: %w", c.name(number), err)
		}
	}
	return nil
}

func (c *checker) headers(r *reader) error {
	n, err := c.count(r, 2)
	if err != nil {
		return err
	}
	var used nameSet
	for range n {
		number := r.uvarint()
		value := r.prefixed()
		if r.failed {
			return corruptf("a header is cut off")
		}
		err := c.member(number, &used)
		if err == nil && !utf8.Valid(value) {
			err = ErrUTF8
		}
		if err != nil {
			return fmt.Errorf("header %q: %w", c.name(number), err)
		}
	}
	return nil
}

// value checks the encoded value of a field.
func (c *checker) value(kind Kind, v []byte, depth int) error {
	if !kind.valid() {
		return corruptf("value of kind %#x", uint8(kind))
	}
	if kind&KindArray != 0 {
		return c.array(kind, v, depth)
	}
	switch kind {
	case KindBytes:
		return nil
	case KindString:
		if !utf8.Valid(v) {
			return ErrUTF8
		}
		return nil
	case KindMessage:
		return c.nested(v, depth+1)
	}
	if len(v) != fixedSize(kind) {
		return corruptf("%v value of %d bytes", kind, len(v))
	}
	return checkFixed(kind, v)
}

func (c *checker) array(kind Kind, v []byte, depth int) error {
	elem := kind &^ KindArray
	size := fixedSize(elem)
	r := reader{b: v}
	n, err := c.count(&r, max(size, 1))
	if err != nil {
		return err
	}
	for k := range n {
		if size > 0 {
			err = checkFixed(elem, r.bytes(size))
		} else if e := r.prefixed(); r.failed {
			err = corruptf("it is cut off")
		} else if elem == KindString && !utf8.Valid(e) {
			err = ErrUTF8
		} else if elem == KindMessage {
			err = c.nested(e, depth+1)
		}
		if err != nil {
			return fmt.Errorf("element %d: %w", k, err)
		}
	}
	if len(r.b) > 0 {
		return corruptf("array has %d bytes too many", len(r.b))
	}
	return nil
}

func (c *checker) nested(v []byte, depth int) error {
	if c.items++; c.items > MaxItems {
		return fmt.Errorf("%w: more than %d fields, headers and elements in one message", ErrTooLarge, MaxItems)
	}
	r := reader{b: v}
	if err := c.fields(&r, depth); err != nil {
		return err
	}
	if len(r.b) > 0 {
		return corruptf("nested message has %d bytes too many", len(r.b))
	}
	return nil
}

// fixedSize returns the encoded size of values that always have the same; 0
// for others.
func fixedSize(kind Kind) int {
	switch kind {
	case KindInt64, KindFloat64:
		return 8
	case KindBool:
		return 1
	case KindTime:
		return 12
	}
	return 0
}

// checkFixed refuses values of fixed size that no Builder writes.
func checkFixed(kind Kind, v []byte) error {
	if kind == KindBool && v[0] > 1 {
		return corruptf("bool value %d", v[0])
	}
	if kind == KindTime && binary.LittleEndian.Uint32(v[8:]) > 999_999_999 {
		return corruptf("time with more than a second of nanoseconds")
	}
	return nil
}
