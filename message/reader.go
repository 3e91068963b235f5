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

// text returns b as a string that shares its memory.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
