package dispatch

import "github.com/perdure/perdure/message"

// By how much the watermark is raised at once, in messages: each raise is an
// entry in the log, and a watermark far ahead makes a new leader call messages
// possibly delivered that never were.
const (
	minRaise = 1024
	maxRaise = 65536
)

// raiseRuns bounds the runs that are looked at to place the watermark.
const raiseRuns = 256

// WantWatermark returns the watermark that the caller should have replicated,
// so that dispatch can go on: twice what the subscribers hold and have credit
// for, at least 1,024, beyond what goes out next. It is asked for before the
// present one is reached, so that dispatch need not stop meanwhile.
//
// It is wanted once for each limit that there is, so also when the watermark is
// that of an earlier leader. A caller whose proposal was dropped, though it still
// leads, says so with WatermarkLost.
func (d *Dispatcher) WantWatermark() (message.ID, bool) {
	w := d.src.Limit()
	if len(d.slots) == 0 || d.done || w >= lastID || (d.asked > w && d.askedAt == w) {
		return 0, false
	}
	n := min(max(minRaise, 2*(d.credit+d.total[held])), maxRaise)
	if w >= d.cursor && uint64(w-d.cursor) >= n/2 {
		return 0, false
	}
	first, count, ok := d.src.NextRun(max(w+1, d.cursor))
	if !ok {
		return 0, false
	}
	// A durable that wants few of the ids goes on by messages, not by ids.
	want := lastOf(first, n)
	for left, looked := n, 0; ; looked++ {
		end := lastOf(first, min(count, left))
		want = max(want, end)
		left -= min(count, left)
		if left == 0 || looked == raiseRuns {
			break
		}
		if first, count, ok = d.src.NextRun(end + 1); !ok {
			break
		}
	}
	d.asked, d.askedAt = want, w
	return want, true
}

// WatermarkLost says that what WantWatermark returned will not be applied.
func (d *Dispatcher) WatermarkLost() { d.asked = 0 }
