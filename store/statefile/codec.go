package statefile

import (
	"encoding/binary"
	"math"

	"github.com/perdure/perdure/durable"
)

// Records are sequences of unsigned varints, of the shortest form, and of texts
// with their length before them.

func putInts(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func putText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func flags(bits ...bool) (v uint64) {
	for i, b := range bits {
		if b {
			v |= 1 << i
		}
	}
	return v
}

// cursor reads what putInts and putText wrote. After a failure everything is
// zero, and failed says so.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) fail() { c.failed, c.b = true, nil }

func (c *cursor) int(limit uint64) uint64 {
	v, used := durable.Uvarint(c.b)
	if used <= 0 || v > limit {
		c.fail()
		return 0
	}
	c.b = c.b[used:]
	return v
}

func (c *cursor) uint64() uint64 { return c.int(math.MaxUint64) }
func (c *cursor) uint32() uint32 { return uint32(c.int(math.MaxUint32)) }

// bytes returns the next n bytes, which are not copied.
func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// text returns the next text, of at most limit bytes.
func (c *cursor) text(limit uint64) string { return string(c.bytes(c.int(limit))) }

// count returns a number of elements, each of which takes at least size bytes:
// so nothing is allocated for what is not there.
func (c *cursor) count(limit, size int) int {
	return int(c.int(uint64(min(limit, len(c.b)/size))))
}
