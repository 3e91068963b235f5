package durable

import (
	"slices"
	"testing"
)

// TestTrackerOnce: whatever happened to a page, it is told once, in order, as it
// is now.
func TestTrackerOnce(t *testing.T) {
	p := new(Pending)
	told := func() (pages []uint64) {
		p.track.Changed('p', 1, p, nil, func(key, value []byte) {
			_, _, page, _ := ParseKey(key)
			pages = append(pages, page<<1|min(1, uint64(len(value)))) // odd: is there
		})
		return pages
	}
	const region = regionPages * pageIDs
	p.AddRange(5*region+1, 3)
	p.AddRange(2*region+1, 3)
	if got := told(); !slices.Equal(got, []uint64{2*regionPages<<1 | 1, 5*regionPages<<1 | 1}) || p.track.Unsaved() {
		t.Fatalf("told %v", got)
	}
	for range 2 { // each goes, comes and goes again
		p.AddRange(7*region+1, 3)
		p.RemoveRange(1, 9*region)
		p.AddRange(2*region+1, 3)
		p.RemoveRange(1, 9*region)
	}
	p.AddRange(5*region+2, 1)
	if got := told(); !slices.Equal(got, []uint64{2 * regionPages << 1, 5*regionPages<<1 | 1, 7 * regionPages << 1}) {
		t.Fatalf("told %v", got)
	}
	if _, _, _, ok := ParseKey([]byte("short")); ok {
		t.Error("a key of 5 bytes: accepted")
	}
}
