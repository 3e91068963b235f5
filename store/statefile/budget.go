package statefile

import "fmt"

// limit is what pending sets and counts may take: so many bytes, and so many times
// the bytes of the file read so far. A file that compresses well is small and not a
// small state; what a cluster saved had room in its memory, and compresses badly if
// durables wanted this and that.
type limit struct{ base, times int64 }

var (
	keptLimit = limit{256 << 20, 8} // where a file is checked
	heldLimit = limit{1 << 30, 64}  // where it is loaded
)

// allow reports whether so many bytes are not too many.
func (l limit) allow(where string, bytes, size int64) error {
	most := l.base + l.times*size
	if bytes <= most {
		return nil
	}
	return fmt.Errorf("pending sets and counts up to here take %d MiB where they are %s, at most %d MiB are allowed after %d bytes of a file",
		bytes>>20, where, most>>20, size)
}

// As package durable divides ids.
const (
	regionBits = 16
	regionIDs  = 1 << regionBits
	listIDs    = 2048 // of a region; more are kept in pages
	pageBits   = 12
)

// What package durable takes, about: a region with a few ids, one kept in pages, a
// page of counts and an entry in it.
const (
	regionCost    = 104
	pagesCost     = 16 * (regionCost + 512)
	countPageCost = 64
	countCost     = 16
)

// holding adds up what pending sets and counts take where they are loaded, by a rule
// and not by what was allocated.
type holding struct {
	bytes   int64
	owner   uint32
	region  uint64 // and 1: of the last run; 0 is none
	ids     uint64 // in it
	page    uint64 // and 1: of the last count; 0 is none
	records Records
}

// begin tells which durable follows. Counts come when all runs have come.
func (h *holding) begin(owner uint32) {
	if h.owner != owner {
		h.owner, h.region, h.page = owner, 0, 0
	}
}

// add adds a run.
func (h *holding) add(r Run) {
	first, last := uint64(r.First), uint64(r.First)+r.N-1
	from, to := first>>regionBits, last>>regionBits
	if from == to {
		h.part(from, r.N)
		return
	}
	h.part(from, regionIDs-first%regionIDs)
	if to-from > 1 {
		h.bytes += regionCost // regions that are whole are one run
	}
	h.part(to, last%regionIDs+1)
}

// part adds n ids of one region.
func (h *holding) part(region, n uint64) {
	if h.region != region+1 {
		h.region, h.ids = region+1, 0
	} else {
		h.bytes -= cost(h.ids)
	}
	h.ids += n
	h.bytes += cost(h.ids)
}

// cost is what a region with so many ids takes.
func cost(ids uint64) int64 {
	if ids > listIDs {
		return pagesCost
	}
	return regionCost + 2*int64(ids)
}

// count adds a count.
func (h *holding) count(e Ended) {
	if page := uint64(e.ID)>>pageBits + 1; h.page != page {
		h.page = page
		h.bytes += countPageCost
	}
	h.bytes += countCost
}

// block adds what a block has; size bytes of the file were read. What cannot be
// read, those find out who read the records.
func (h *holding) block(b *Block, size int64) error {
	if b.Section != SectionPending && b.Section != SectionCounts {
		return nil
	}
	h.records.Start(b.Section, b.Count, b.Content)
	for {
		r, err := h.records.Next()
		if err != nil {
			return nil
		}
		switch r := r.(type) {
		case *Pending:
			h.begin(r.Durable)
			for _, run := range r.Runs {
				h.add(run)
			}
		case *Counts:
			h.begin(r.Durable)
			for _, e := range r.Ended {
				h.count(e)
			}
		}
		if err := heldLimit.allow("loaded", h.bytes, size); err != nil {
			return err
		}
	}
}
