package durable

import "math/bits"

// bitmap is the ids of one page that is neither empty nor full.
type bitmap struct {
	count uint32
	words [pageIDs / 64]uint64
}

// mask returns the bits of word w that lie in [lo, hi].
func mask(w, lo, hi uint) uint64 {
	m := ^uint64(0)
	if w == lo/64 {
		m &= ^uint64(0) << (lo % 64)
	}
	if w == hi/64 {
		m &= ^uint64(0) >> (63 - hi%64)
	}
	return m
}

// recount sets count to what words say.
func (b *bitmap) recount() {
	b.count = 0
	for _, w := range b.words {
		b.count += uint32(bits.OnesCount64(w))
	}
}

// set adds [lo, hi] and returns how many are new.
func (b *bitmap) set(lo, hi uint) uint64 {
	var n int
	for w := lo / 64; w <= hi/64; w++ {
		m := mask(w, lo, hi)
		n += bits.OnesCount64(m &^ b.words[w])
		b.words[w] |= m
	}
	b.count += uint32(n)
	return uint64(n)
}

// clear removes [lo, hi] and returns how many there were.
func (b *bitmap) clear(lo, hi uint) uint64 {
	var n int
	for w := lo / 64; w <= hi/64; w++ {
		m := mask(w, lo, hi)
		n += bits.OnesCount64(m & b.words[w])
		b.words[w] &^= m
	}
	b.count -= uint32(n)
	return uint64(n)
}

func (b *bitmap) has(i uint) bool { return b.words[i/64]>>(i%64)&1 == 1 }

// next returns the first member at or above i.
func (b *bitmap) next(i uint) (uint, bool) {
	m := b.words[i/64] &^ (1<<(i%64) - 1)
	for w := i / 64; ; {
		if m != 0 {
			return w*64 + uint(bits.TrailingZeros64(m)), true
		}
		if w++; w == pageIDs/64 {
			return 0, false
		}
		m = b.words[w]
	}
}

// nextGap returns the first index at or above i that is not a member, pageIDs
// if all are.
func (b *bitmap) nextGap(i uint) uint {
	m := ^b.words[i/64] &^ (1<<(i%64) - 1)
	for w := i / 64; ; {
		if m != 0 {
			return w*64 + uint(bits.TrailingZeros64(m))
		}
		if w++; w == pageIDs/64 {
			return pageIDs
		}
		m = ^b.words[w]
	}
}

// last returns the highest member; there is one.
func (b *bitmap) last() uint {
	for w := uint(len(b.words)); w > 0; w-- {
		if m := b.words[w-1]; m != 0 {
			return (w-1)*64 + 63 - uint(bits.LeadingZeros64(m))
		}
	}
	return 0
}
