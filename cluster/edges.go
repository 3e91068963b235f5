package cluster

import "go.etcd.io/raft/v3/tracker"

type trackerProgress = tracker.Progress

// markEvery is the distance in bytes of the marks that tell how much log lies
// behind an index.
const markEvery = 1 << 20

// edges follows the two ends of a log: how much was applied since the last
// checkpoint, and what may go.
//
// Invariants: first <= checkpoint+1; neither falls.
type edges struct {
	first          uint64 // the log's first index
	checkpoint     uint64 // applied index of the last checkpoint
	checkpointMono int64
	since          int   // bytes applied since
	stamp          int64 // T of the last applied entry
	total          uint64
	marks          []mark // ascending, about keep.Grain apart
	keep           Retention
}

type mark struct{ index, total uint64 }

func (e *edges) applied(index uint64, bytes int) {
	e.since += bytes
	e.total += uint64(bytes)
	if n := len(e.marks); n == 0 || e.total-e.marks[n-1].total >= e.keep.Grain {
		e.marks = append(e.marks, mark{index, e.total})
	}
}

// behind returns the index that lies at least bytes of log behind what was
// applied; 0 if there is not that much.
func (e *edges) behind(bytes uint64) uint64 {
	i := len(e.marks) - 1
	for i >= 0 && e.total-e.marks[i].total < bytes {
		i--
	}
	if i < 0 {
		return 0
	}
	return e.marks[i].index
}

func (e *edges) written(c Checkpoint, mono int64) {
	e.first, e.checkpoint, e.checkpointMono, e.since = c.First, c.Applied, mono, 0
	// Marks older than what anybody asks for are not needed.
	keep := e.behind(e.keep.Leader)
	i := 0
	for i < len(e.marks)-1 && e.marks[i+1].index <= keep {
		i++
	}
	e.marks = append(e.marks[:0], e.marks[i:]...)
}

// dead lists the entries that may go once the first index is first: those it
// passes that no message needs, and those below it that came to be unneeded.
func (e *edges) dead(first uint64, died func(func(uint64)), live func(Range, func(uint64))) []Range {
	var out []Range
	died(func(index uint64) {
		if index < e.first {
			out = extend(out, index)
		}
	})
	if first > e.first {
		from := e.first
		live(Range{e.first, first}, func(index uint64) {
			if index > from {
				out = append(out, Range{from, index})
			}
			from = index + 1
		})
		if from < first {
			out = append(out, Range{from, first})
		}
	}
	return out
}

// extend adds an index to ranges, joining it to the last one where it follows.
func extend(ranges []Range, index uint64) []Range {
	if n := len(ranges); n > 0 && ranges[n-1].Hi == index {
		ranges[n-1].Hi++
		return ranges
	}
	return append(ranges, Range{index, index + 1})
}
