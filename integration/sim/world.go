package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/perdure/perdure/cluster/clustertest"
	"github.com/perdure/perdure/integration/model"
)

// world is one run. One goroutine owns it and everything in it.
type world struct {
	opts  Options
	setup setup
	rng   *rand.Rand
	judge *model.Judge
	seen  *counters

	now    int64
	events queue
	order  uint64
	step   int
	healed bool  // the faults are over
	lull   int64 // until then no client does anything

	nodes []*node
	lame  []*node             // at the end: have a fault that does not heal
	cuts  map[[2]uint64]int64 // link from, to -> until when it is cut
	holes map[[2]uint64]int64 // flow that from has dialled to to -> until when it carries nothing either way

	clients
	proposed map[uint64]*tally // by hash of the command
	reigns   map[uint64]*reign // by term

	hash  *xxhash.Digest
	trace []note // the last of them, a ring
	notes int
	spent [40]byte
}

// Result is how a run went.
type Result struct {
	Err  error  // what must not be, nil if all was well
	Hash uint64 // of everything that happened
	Last string // the last events
	Seen Seen

	Published, Confirmed, Entries int
	Virtual                       int64 // nanoseconds
}

// Run runs a simulation. crypto/rand must have been seeded: Raft draws election
// timeouts from it.
func Run(o Options) Result {
	w := newWorld(o)
	w.protect(w.run)
	r := Result{Err: w.judge.Err(), Hash: w.hash.Sum64(), Seen: w.seen.Seen(), Entries: int(w.judge.Last()), Virtual: w.now}
	r.Published, _, r.Confirmed = w.judge.Messages()
	if r.Err != nil {
		r.Err = fmt.Errorf("step %d, %.6f s: %w", w.step, float64(w.now)/1e9, r.Err)
	}
	r.Last = w.tail()
	return r
}

func newWorld(o Options) *world {
	w := &world{
		opts: o, setup: drawSetup(o), rng: rand.New(rand.NewPCG(o.Seed, 0x3014d)), judge: model.New(), seen: newCounters(),
		now: second, cuts: map[[2]uint64]int64{}, holes: map[[2]uint64]int64{}, proposed: map[uint64]*tally{}, reigns: map[uint64]*reign{}, hash: xxhash.New(), trace: make([]note, 0, traceLen),
	}
	ids := make([]uint64, w.setup.replicas)
	for i := range ids {
		ids[i] = uint64(i) + 1
	}
	for i := range ids {
		w.nodes = append(w.nodes, newNode(w, ids[i], clustertest.NewMemLog(w.setup.mode, ids[i], ids)))
	}
	return w
}

func (w *world) run() {
	for i, n := range w.nodes {
		if w.fault(0.1) && i < (len(w.nodes)+1)/2 {
			w.after(w.draw(5*second), func() { // it comes late to the formation
				if !n.up {
					n.start()
				}
			})
		} else {
			n.start()
		}
	}
	w.openClients()
	for w.step = 1; w.step <= w.opts.Steps && w.judge.Err() == nil; w.step++ {
		w.pass(w.draw(2 * w.setup.pace))
		if w.fault(w.setup.lull) {
			w.lull = w.now + w.draw(3*second)
		}
		if w.now >= w.lull {
			w.act()
		}
		w.break_()
		w.check()
	}
	if w.judge.Err() == nil {
		w.finish()
	}
}

// protect makes a panic of what is simulated a violation.
func (w *world) protect(f func()) {
	defer func() {
		if p := recover(); p != nil {
			if p == errOver {
				return
			}
			w.judge.Failf("panic: %v\n%s", p, stack())
		}
	}()
	f()
}

// draw returns a number from 0 up to and without n, with a long tail towards
// small ones.
func (w *world) draw(n int64) int64 {
	if n <= 0 {
		return 0
	}
	return w.rng.Int64N(n)
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// fault is chance while there are faults.
func (w *world) fault(p float64) bool { return !w.healed && w.chance(p) }

// pass lets time pass and carries out what falls due.
func (w *world) pass(d int64) {
	until := w.now + d
	for len(w.events) > 0 && w.events[0].at <= until && w.judge.Err() == nil {
		e := w.events.pop()
		w.now = max(w.now, e.at)
		e.do()
	}
	w.now = until
}

// after does something later. What happens at one time happens in the order in
// which it was asked for.
func (w *world) after(d int64, do func()) {
	w.order++
	w.events.push(event{w.now + d, w.order, do})
}

type event struct {
	at    int64
	order uint64
	do    func()
}

// queue is a heap of events, the next one first.
type queue []event

func (q queue) before(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (q *queue) pop() event {
	h := *q
	e, n := h[0], len(h)-1
	h[0], h[n] = h[n], event{}
	h = h[:n]
	*q = h
	for i := 0; ; {
		least := 2*i + 1
		if least >= n {
			return e
		}
		if least+1 < n && h.before(least+1, least) {
			least++
		}
		if !h.before(least, i) {
			return e
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

const traceLen = 400

// note is one thing that happened.
type note struct {
	at      int64
	node    uint64
	what    string
	a, b, c uint64
	text    string
}

// note writes down what happened, for the hash and for whoever looks for the
// cause of a failure.
func (w *world) note(node uint64, what string, a, b, c uint64) {
	w.noteText(node, what, a, b, c, "")
}

func (w *world) noteText(node uint64, what string, a, b, c uint64, text string) {
	buf := w.spent[:]
	for i, v := range [...]uint64{uint64(w.now), node, a, b, c} {
		binary.LittleEndian.PutUint64(buf[8*i:], v)
	}
	_, _ = w.hash.Write(buf) // a Digest never fails
	_, _ = w.hash.WriteString(what)
	n := note{w.now, node, what, a, b, c, text}
	if len(w.trace) < traceLen {
		w.trace = append(w.trace, n)
	} else {
		w.trace[w.notes%traceLen] = n
	}
	w.notes++
}

// tail renders the last events.
func (w *world) tail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "setup %v\n", w.setup)
	at := 0
	if w.notes > traceLen {
		at = w.notes % traceLen
	}
	for _, n := range slices.Concat(w.trace[at:], w.trace[:at]) {
		fmt.Fprintf(&b, "%12.6f %3d %-14s %d %d %d %s\n", float64(n.at)/1e9, n.node, n.what, n.a, n.b, n.c, n.text)
	}
	return b.String()
}

// cut reports whether nothing gets from one node to another now on what the
// first has dialled: it sends all its messages there.
func (w *world) cut(from, to uint64) bool { return w.cutOn(from, from, to) }

// cutOn is cut for the flow that one of the two has dialled.
func (w *world) cutOn(dialled, from, to uint64) bool {
	other := from + to - dialled
	return w.cuts[[2]uint64{from, to}] > w.now || w.holes[[2]uint64{dialled, other}] > w.now
}
