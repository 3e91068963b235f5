package durable

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// KeyLen is the length of a page's key: a kind byte, the owner and the number
// of the page, big endian.
const KeyLen = 17

// AppendKey appends the key of a page to dst.
func AppendKey(dst []byte, kind byte, owner, page uint64) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint64(dst, owner)
	return binary.BigEndian.AppendUint64(dst, page)
}

// ParseKey takes a key apart; ok is false if it has the wrong length.
func ParseKey(key []byte) (kind byte, owner, page uint64, ok bool) {
	if len(key) != KeyLen {
		return 0, 0, 0, false
	}
	return key[0], binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]), true
}

// Mark is what a [Tracker] remembers of one page. Its zero value belongs to a
// page that the tracker has not heard of.
type Mark struct {
	hash     uint64 // part of Tracker.sum; 0 while unhashed
	unhashed bool   // in Tracker.unhashed
	unsaved  bool   // in Tracker.unsaved
}

// Source is what holds the pages that a [Tracker] keeps the books of.
type Source interface {
	// AppendPage appends the canonical content of a page to dst, and returns
	// the page's mark, or nil if there is no such page.
	AppendPage(dst []byte, page uint64) ([]byte, *Mark)
}

// Tracker knows which pages of one owner changed since they were last saved and
// since they were last hashed. Both lists grow with the pages touched, not with
// the changes.
type Tracker struct {
	sum      uint64   // hashes of all pages that are not in unhashed
	unhashed []uint64 // may name pages twice, and pages that are gone
	unsaved  []uint64 // the same
}

// Touch notes that the page with mark m is new or about to change.
func (t *Tracker) Touch(m *Mark, page uint64) {
	if !m.unhashed {
		t.sum -= m.hash
		m.hash, m.unhashed = 0, true
		t.unhashed = append(t.unhashed, page)
	}
	if !m.unsaved {
		m.unsaved = true
		t.unsaved = append(t.unsaved, page)
	}
}

// Drop notes that the page with mark m is gone.
func (t *Tracker) Drop(m *Mark, page uint64) {
	t.sum -= m.hash
	if !m.unsaved {
		t.unsaved = append(t.unsaved, page)
	}
	*m = Mark{}
}

// Loaded notes a page that was read from where pages are saved.
func (t *Tracker) Loaded(m *Mark, page uint64) {
	*m = Mark{unhashed: true}
	t.unhashed = append(t.unhashed, page)
}

// Unsaved reports whether [Tracker.Changed] has anything to yield.
func (t *Tracker) Unsaved() bool { return len(t.unsaved) > 0 }

// Changed yields key and content of every page of src that changed since the
// last call, ascending, a nil value for a page that is gone. The slices live in
// buf and are valid during the call of yield; Changed returns buf, perhaps
// grown, for the next use.
func (t *Tracker) Changed(kind byte, owner uint64, src Source, buf []byte, yield func(key, value []byte)) []byte {
	slices.Sort(t.unsaved)
	t.unsaved = slices.Compact(t.unsaved)
	for _, page := range t.unsaved {
		var m *Mark
		buf, m = t.encode(kind, owner, page, src, buf)
		switch {
		case m == nil:
			yield(buf[:KeyLen], nil)
		case m.unsaved:
			m.unsaved = false
			yield(buf[:KeyLen], buf[KeyLen:])
		}
	}
	t.unsaved = t.unsaved[:0]
	// Every page just seen was hashed on the way; what is left is cheap.
	_, buf = t.Hash(kind, owner, src, buf)
	return buf
}

// Hash returns the sum of the hashes of all pages of src. It looks only at
// those that changed since the last call. It returns buf as Changed does.
func (t *Tracker) Hash(kind byte, owner uint64, src Source, buf []byte) (uint64, []byte) {
	for _, page := range t.unhashed {
		buf, _ = t.encode(kind, owner, page, src, buf)
	}
	t.unhashed = t.unhashed[:0]
	return t.sum, buf
}

// encode puts key and content of a page into buf, and hashes the page if that
// is due. The mark is nil if the page is gone.
func (t *Tracker) encode(kind byte, owner, page uint64, src Source, buf []byte) ([]byte, *Mark) {
	buf = AppendKey(buf[:0], kind, owner, page)
	buf, m := src.AppendPage(buf, page)
	if m != nil && m.unhashed {
		m.hash, m.unhashed = xxhash.Sum64(buf), false
		t.sum += m.hash
	}
	return buf, m
}

// Keys yields the number of every page that may be saved although src is about
// to be thrown away: those that changed. Together with the pages that src has,
// these are all.
func (t *Tracker) Keys(yield func(page uint64)) {
	for _, page := range t.unsaved {
		yield(page)
	}
}
