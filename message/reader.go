package message

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// reader takes values off the front of a message part. Once something is
// missing it stays failed, returns zero values and has nothing left.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) fail() {
	r.b, r.failed = nil, true
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// uvarint reads a number below 2^32 in its shortest form: each value has one
// encoding.
func (r *reader) uvarint() int {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		n := r.b[0]
		r.b = r.b[1:]
		return int(n)
	}
	n, width := binary.Uvarint(r.b)
	if width <= 0 || n > math.MaxInt32 || uvarintLen(int(n)) != width {
		r.fail()
		return 0
	}
	r.b = r.b[width:]
	return int(n)
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

// bytes reads n bytes, sharing them.
func (r *reader) bytes(n int) []byte {
	if uint(n) > uint(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// prefixed reads a length and as many bytes.
func (r *reader) prefixed() []byte { return r.bytes(r.uvarint()) }

// dictionary is the names of a batch: a table of ends, then the bytes. It is
// passed by value, since a pointer to its Batch in an iterator would move the
// Batch to the heap.
type dictionary struct {
	b     []byte
	names int
}

// parseDictionary takes the dictionary off the front of b.
func parseDictionary(b []byte) (d dictionary, rest []byte, err error) {
	if len(b) < 2 {
		return d, nil, corruptf("the dictionary is cut off")
	}
	d.names = int(binary.LittleEndian.Uint16(b))
	b = b[2:]
	table := 2 * d.names
	if d.names > MaxNames || len(b) < table {
		return d, nil, corruptf("dictionary of %d names in %d bytes", d.names, len(b))
	}
	end := 0
	for at := 0; at < table; at += 2 {
		next := int(binary.LittleEndian.Uint16(b[at:]))
		if next <= end || next-end > MaxNameLen {
			return d, nil, corruptf("name %d of the dictionary has %d bytes", at/2, next-end)
		}
		end = next
	}
	if len(b)-table < end {
		return d, nil, corruptf("the dictionary is cut off")
	}
	d.b = b[: table+end : table+end]
	return d, b[table+end:], nil
}

// name returns the bytes of name n, which must be below names.
func (d dictionary) name(n int) []byte {
	start, end := 2*d.names, 2*d.names+int(binary.LittleEndian.Uint16(d.b[2*n:]))
	if n > 0 {
		start += int(binary.LittleEndian.Uint16(d.b[2*n-2:]))
	}
	return d.b[start:end]
}

// field takes a field off the front of b. It is the innermost loop of
// matching, so numbers and lengths of one byte, the usual ones, are read
// without a call.
func field(b []byte) (number int, kind Kind, raw, rest []byte, ok bool) {
	if len(b) >= 3 && b[0] < 0x80 && b[2] < 0x80 {
		end := 3 + int(b[2])
		if end > len(b) {
			return 0, 0, nil, nil, false
		}
		return int(b[0]), Kind(b[1]), b[3:end:end], b[end:], true
	}
	r := reader{b: b}
	number = r.uvarint()
	kind = Kind(r.byte())
	raw = r.prefixed()
	return number, kind, raw, r.b, !r.failed
}

// text returns b as a string that shares its memory.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
