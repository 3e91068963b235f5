package dispatch

import (
	"slices"
	"sort"

	"github.com/perdure/perdure/message"
)

// state is where an id is, once it was handed out or acknowledged.
type state uint8

const (
	held     state = iota // by the subscriber in slot
	delayed               // by a nack, until due
	returned              // free, to be handed out before new ids
	settling              // acknowledged, the settlement is not applied yet
	states                // how many there are
)

// span is a run of ids in one state. Both ends are included.
type span struct {
	first, last message.ID
	due         int64  // delayed: when it returns, in the caller's monotonic ns
	slot        int32  // held: by whom
	ended       uint16 // releases that are not applied yet
	state       state
}

// size is how many ids s holds.
func (s span) size() uint64 { return uint64(s.last-s.first) + 1 }

// like says whether s and o differ in nothing but their ids.
func (s span) like(o span) bool {
	return s.state == o.state && s.slot == o.slot && s.due == o.due && s.ended == o.ended
}

// chunkSpans is the capacity of a chunk: small enough that moving half of it is
// cheaper than a cache miss or two, large enough that few chunks are needed.
const chunkSpans = 64

// freeChunks bounds the chunks kept for reuse; more go to the collector.
const freeChunks = 64

// chunk is a sorted piece of runs. It is never empty while in use.
type chunk struct {
	n     int
	spans [chunkSpans]span
}

// runs is a sorted list of disjoint spans in two levels.
//
// A flat slice would move everything behind an acknowledgement in the middle; a
// tree would allocate. A window of 1,024 acknowledged in the worst order is 8 to
// 16 chunks.
//
// Invariants:
//
//  1. spans ascend and do not overlap;
//  2. neighbours that are alike do not touch: they would be one span;
//  3. no chunk is empty.
type runs struct {
	chunks []*chunk
	free   []*chunk
	c, i   int // what seek found last; it may be out of date
}

// seek returns the position of the first span that ends at id or above, or
// (len(chunks), 0).
//
// One acknowledgement looks, takes and adds at nearly one place, so where the
// last search ended is tried first: that is most of the cost.
func (r *runs) seek(id message.ID) (c, i int) {
	for i := r.i; i <= r.i+1; i++ {
		if r.leads(r.c, i, id) {
			r.i = i
			return r.c, i
		}
	}
	r.c, r.i = r.search(id)
	return r.c, r.i
}

// leads says whether (c, i) is the position that seek wants.
func (r *runs) leads(c, i int, id message.ID) bool {
	if c >= len(r.chunks) {
		return false
	}
	k := r.chunks[c]
	if i >= k.n || k.spans[i].last < id {
		return false
	}
	if i > 0 {
		return k.spans[i-1].last < id
	}
	return c == 0 || r.chunks[c-1].end() < id
}

// search finds what seek wants in the whole list.
func (r *runs) search(id message.ID) (c, i int) {
	n := len(r.chunks)
	if n == 0 || r.chunks[n-1].end() < id {
		return n, 0
	}
	if r.chunks[0].end() >= id {
		c = 0
	} else {
		c = sort.Search(n, func(c int) bool { return r.chunks[c].end() >= id })
	}
	k := r.chunks[c]
	lo, hi := 0, k.n-1 // the last one ends at id or above
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if k.spans[mid].last >= id {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return c, lo
}

// find returns the first span that ends at id or above. It may begin above id.
func (r *runs) find(id message.ID) (span, bool) {
	c, i := r.seek(id)
	if c == len(r.chunks) {
		return span{}, false
	}
	return r.chunks[c].spans[i], true
}

// take removes and returns the lowest piece of one span within first and last.
func (r *runs) take(first, last message.ID) (span, bool) {
	c, i := r.seek(first)
	if c == len(r.chunks) {
		return span{}, false
	}
	s := &r.chunks[c].spans[i]
	if s.first > last {
		return span{}, false
	}
	piece := *s
	piece.first, piece.last = max(s.first, first), min(s.last, last)
	left, right := s.first < piece.first, s.last > piece.last
	switch {
	case left && right:
		rest := *s
		rest.first = piece.last + 1
		s.last = piece.first - 1
		r.insert(c, i+1, rest)
	case left:
		s.last = piece.first - 1
	case right:
		s.first = piece.last + 1
	default:
		r.remove(c, i)
	}
	return piece, true
}

// add inserts s, which must not overlap any span, and merges it with its
// neighbours where they are alike. It says whether s was merged into the span
// before it, so that no span begins where s begins.
func (r *runs) add(s span) bool {
	c, i := r.seek(s.first)
	before := r.before(c, i)
	var after *span
	if c < len(r.chunks) {
		after = &r.chunks[c].spans[i]
	}
	joinsAfter := after != nil && s.last+1 == after.first && s.like(*after)
	if before != nil && before.last+1 == s.first && s.like(*before) {
		before.last = s.last
		if joinsAfter {
			before.last = after.last
			r.remove(c, i)
		}
		return true
	}
	if joinsAfter {
		after.first = s.first
		return false
	}
	r.insert(c, i, s)
	return false
}

// before returns the span before position (c, i), or nil.
func (r *runs) before(c, i int) *span {
	if i > 0 {
		return &r.chunks[c].spans[i-1]
	}
	if c == 0 {
		return nil
	}
	k := r.chunks[c-1]
	return &k.spans[k.n-1]
}

// insert puts s at position (c, i), which may be the end of a chunk.
func (r *runs) insert(c, i int, s span) {
	if c == len(r.chunks) {
		if c == 0 || r.chunks[c-1].n == chunkSpans {
			r.chunks = append(r.chunks, r.chunk())
		} else {
			c--
			i = r.chunks[c].n
		}
	}
	k := r.chunks[c]
	if k.n == chunkSpans {
		upper := r.chunk()
		half := chunkSpans / 2
		upper.n = copy(upper.spans[:], k.spans[half:])
		k.n = half
		r.chunks = slices.Insert(r.chunks, c+1, upper)
		if i > half {
			k, i = upper, i-half
		}
	}
	copy(k.spans[i+1:k.n+1], k.spans[i:k.n])
	k.spans[i] = s
	k.n++
}

// remove deletes the span at position (c, i) and joins a chunk that has become
// small with a neighbour, so that chunks stay few however ids are settled.
func (r *runs) remove(c, i int) {
	k := r.chunks[c]
	copy(k.spans[i:k.n-1], k.spans[i+1:k.n])
	k.n--
	switch {
	case k.n == 0:
		r.drop(c)
	case k.n > chunkSpans/4:
	case c+1 < len(r.chunks) && k.n+r.chunks[c+1].n <= chunkSpans*3/4:
		r.join(c)
	case c > 0 && k.n+r.chunks[c-1].n <= chunkSpans*3/4:
		r.join(c - 1)
	}
}

// join moves the spans of chunk c+1 into chunk c.
func (r *runs) join(c int) {
	k, next := r.chunks[c], r.chunks[c+1]
	k.n += copy(k.spans[k.n:], next.spans[:next.n])
	r.drop(c + 1)
}

// drop takes chunk c out of use.
func (r *runs) drop(c int) {
	k := r.chunks[c]
	k.n = 0
	r.chunks = slices.Delete(r.chunks, c, c+1)
	if len(r.free) < freeChunks {
		r.free = append(r.free, k)
	}
}

// chunk returns an empty chunk.
func (r *runs) chunk() *chunk {
	n := len(r.free)
	if n == 0 {
		return new(chunk)
	}
	k := r.free[n-1]
	r.free = r.free[:n-1]
	return k
}

// end is the last id of the chunk.
func (k *chunk) end() message.ID { return k.spans[k.n-1].last }
