package durable

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/perdure/perdure/message"
)

// Marks is how often messages may have been delivered by leaders that are gone.
//
// A leader delivers nothing above the durable's dispatch watermark. Nobody
// knows what it delivered below. So each change of leader leaves one mark at
// the watermark, and a message may have been delivered as often as there are
// marks at or above it. The zero value is empty.
type Marks struct {
	marks []mark // ascending by id, no id twice
}

type mark struct {
	id message.ID
	n  uint32 // changes of leader that left it, at least 1
}

// Add leaves a mark at id. Marks never fall: one below the last is put there.
func (m *Marks) Add(id message.ID) {
	if n := len(m.marks); n > 0 && m.marks[n-1].id >= id {
		if last := &m.marks[n-1]; last.n < math.MaxUint32 {
			last.n++
		}
		return
	}
	m.marks = append(m.marks, mark{id: id, n: 1})
}

// Count returns how many marks are at or above id.
func (m *Marks) Count(id message.ID) uint32 {
	var n uint64
	for i := len(m.marks); i > 0 && m.marks[i-1].id >= id; i-- {
		n += uint64(m.marks[i-1].n)
	}
	return uint32(min(n, math.MaxUint32))
}

// Empty reports whether there are no marks.
func (m *Marks) Empty() bool { return len(m.marks) == 0 }

// Prune forgets the marks below floor, the lowest pending id, and reports
// whether there were any. They say nothing about any pending message.
func (m *Marks) Prune(floor message.ID) bool {
	i := 0
	for i < len(m.marks) && m.marks[i].id < floor {
		i++
	}
	m.marks = append(m.marks[:0], m.marks[i:]...)
	return i > 0
}

// Clear forgets all marks, and reports whether there were any.
func (m *Marks) Clear() bool {
	had := len(m.marks) > 0
	m.marks = m.marks[:0]
	return had
}

// Clone returns marks that do not change with m.
func (m *Marks) Clone() Marks { return Marks{marks: slices.Clone(m.marks)} }

// AppendTo appends the canonical encoding of m: how many, then id and number of
// each, all uvarints.
func (m *Marks) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.marks)))
	for _, k := range m.marks {
		dst = binary.AppendUvarint(dst, uint64(k.id))
		dst = binary.AppendUvarint(dst, uint64(k.n))
	}
	return dst
}

// Load reads what AppendTo wrote from the beginning of b, and returns the rest.
func (m *Marks) Load(b []byte) ([]byte, error) {
	read := func() (v uint64, ok bool) {
		v, used := Uvarint(b)
		if used <= 0 {
			return 0, false
		}
		b = b[used:]
		return v, true
	}
	m.marks = m.marks[:0]
	count, ok := read()
	for ; ok && count > 0; count-- {
		id, ok1 := read()
		n, ok2 := read()
		k := len(m.marks)
		if !ok1 || !ok2 || n == 0 || n > math.MaxUint32 || k > 0 && m.marks[k-1].id >= message.ID(id) {
			ok = false
			break
		}
		m.marks = append(m.marks, mark{id: message.ID(id), n: uint32(n)})
	}
	if !ok {
		return nil, fmt.Errorf("%w: marks", ErrPage)
	}
	return b, nil
}
