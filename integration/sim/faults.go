package sim

import (
	"slices"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// break_ lets faults happen.
func (w *world) break_() {
	s := &w.setup
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if l := w.leaderOf(); l != nil && w.chance(0.3) {
		n = l
	}
	switch {
	case w.fault(s.crash):
		n.crash(false)
	case w.fault(s.power):
		n.crash(true)
	case w.fault(s.stop):
		n.stop()
	case w.fault(s.doom):
		n.doom = doom(1 + w.rng.IntN(int(dooms)-1))
	case w.fault(s.crashAll):
		w.crashAll()
	case w.fault(s.partition):
		w.partition()
	case w.fault(s.oneWay):
		w.cutLink(n, w.nodes[w.rng.IntN(len(w.nodes))], w.draw(second))
	case w.fault(s.isolate):
		w.isolate(n)
	case w.fault(s.slowDisk):
		n.slow, n.slowUntil = w.draw(30*ms)+1, w.now+w.draw(2*second)
	case w.fault(s.stallDisk):
		n.slow, n.slowUntil = second, w.now+w.draw(second)
	case w.fault(s.freeze):
		n.frozenUntil = max(n.frozenUntil, w.now+w.draw(second))
	case w.fault(s.clock):
		n.skew += (w.draw(2*s.skew+1) - s.skew) * [...]int64{1, 1, 360, 30_000_000}[w.rng.IntN(4)]
		w.seen.hit(ClockJumped)
	case w.fault(s.frozenClock):
		n.frozen = n.now().Wall
	case w.fault(s.transfer):
		w.transfer(n)
	case w.fault(s.peerDown):
		w.reset(n)
	case w.fault(s.hour):
		w.passHour()
	case w.fault(s.oneFlow) && w.chance(0.5):
		w.mute(n, w.draw(2*second))
	case w.fault(s.oneFlow):
		w.deafen(n, w.draw(2*second))
	}
	if n.up && w.fault(s.checkpoint) {
		if w.chance(0.5) {
			n.checkpoints = true // at the end of an advance, as the replica itself does it
		} else {
			n.call(func(now cluster.Now) { n.checkpoint(now) })
		}
	}
}

// doom is a bad moment for a process to end.
type doom int

const (
	notDoomed doom = iota
	atCheckpoint
	atAdvanced  // the effects are not carried out
	atMessages  // the messages are out, the writes are not
	atWrite     // between the writes
	atSnapshot  // a snapshot is on its way in
	atInstalled // a snapshot was given to the log
	dooms
)

// meets ends the process if this is the moment. It reports whether the process
// is no more.
func (n *node) meets(d doom) bool {
	if n.up && n.doom == d {
		n.doom = notDoomed
		n.w.seen.hit(Doomed)
		n.crash(n.w.chance(0.3))
	}
	return !n.up
}

// checkpoint forces one, unless a snapshot is being installed.
func (n *node) checkpoint(now cluster.Now) {
	if n.receive == 0 {
		if err := n.replica.Checkpoint(now); err != nil {
			n.failed(err)
		}
	}
}

// mayCrash reports whether a node may end this way: a fence must leave a
// majority.
func (n *node) mayCrash(power bool) bool {
	if !n.up {
		return false
	}
	mode := n.w.setup.mode
	if mode == clustertest.Sync || mode == clustertest.Async && !power {
		return true
	}
	fenced := 0
	for _, o := range n.w.nodes {
		if o.fenced {
			fenced++
		}
	}
	return fenced < (len(n.w.nodes)-1)/2
}

// crash ends a process, or the machine under it, and starts it again later.
func (n *node) crash(power bool) {
	w := n.w
	if !n.mayCrash(power) {
		return
	}
	if n.mem.Queued() > 0 {
		w.seen.hit(QueuedLost)
	}
	what := "crash"
	if power {
		what = "power loss"
	}
	n.end(what, func() *clustertest.MemLog {
		keep := 0
		if unsynced := n.mem.Unsynced(); unsynced > 0 {
			keep = w.rng.IntN(unsynced + 1)
			if power && keep < unsynced {
				w.seen.hit(UnsyncedLost)
			}
		}
		return n.mem.Crash(clustertest.Crash{Power: power, Keep: keep})
	})
	n.assertFence(power)
	n.restart()
}

// assertFence checks that exactly those who may have forgotten say so.
func (n *node) assertFence(power bool) {
	mode := n.w.setup.mode
	if n.w.opts.Mutant == RejoinOld {
		return
	}
	if want := mode == clustertest.Memory || mode == clustertest.Async && power; n.fenced != want {
		n.w.judge.Failf("replica %d after the end of its process in mode %v (power loss %v): fenced is %v", n.id, mode, power, n.fenced)
	}
}

// stop ends a process in order.
func (n *node) stop() {
	if !n.mayCrash(false) {
		return
	}
	n.replica.Stop()
	n.end("stop", n.mem.Stop)
	n.assertFence(false)
	n.restart()
}

func (n *node) restart() {
	w := n.w
	if slices.Contains(w.lame, n) {
		return
	}
	life := n.life
	w.after(w.draw(700*ms), func() {
		if !n.up && n.life == life && !n.fenced {
			n.start()
		}
	})
}

// crashAll ends all processes within a moment.
func (w *world) crashAll() {
	if w.setup.mode == clustertest.Memory {
		return
	}
	power := w.setup.mode == clustertest.Sync && w.chance(0.5)
	for _, n := range w.nodes {
		n.crash(power)
	}
	w.seen.hit(AllCrashed)
}

func (w *world) cutLink(a, b *node, d int64) {
	if a != b {
		w.cuts[[2]uint64{a.id, b.id}] = w.now + d
		w.note(a.id, "cut", b.id, uint64(d), 0)
	}
}

// mute lets nothing through on the flows that a node has dialled: it hears the
// others and answers their signs of life, and its own messages come to nothing.
func (w *world) mute(n *node, d int64) {
	for _, o := range w.nodes {
		w.hole(n, o, d)
	}
}

// deafen lets nothing through on the flows that others have dialled to a node.
func (w *world) deafen(n *node, d int64) {
	for _, o := range w.nodes {
		w.hole(o, n, d)
	}
}

func (w *world) hole(a, b *node, d int64) {
	if a != b {
		w.holes[[2]uint64{a.id, b.id}] = w.now + d
		w.note(a.id, "black hole", b.id, uint64(d), 0)
		w.seen.hit(FlowCut)
	}
}

// partition splits the nodes in two.
func (w *world) partition() {
	side, d := w.rng.Uint64(), w.draw(2*second)
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side>>a.id&1 != side>>b.id&1 {
				w.cutLink(a, b, d)
			}
		}
	}
}

// isolate cuts one node off from the others, long enough for a snapshot to be
// needed, perhaps.
func (w *world) isolate(n *node) {
	if n.up && n.leads != 0 {
		w.seen.hit(LeaderIsolated)
	}
	d := w.draw(2 * second)
	for _, o := range w.nodes {
		w.cutLink(n, o, d)
		w.cutLink(o, n, d)
	}
}

func (w *world) transfer(n *node) {
	if l := w.leaderOf(); l != nil && l != n {
		w.seen.hit(Transferred)
		l.call(func(cluster.Now) { l.replica.Transfer(n.id) })
	}
}

// reset breaks the connections of a node, which says nothing about its process.
func (w *world) reset(n *node) {
	for _, o := range w.nodes {
		if o != n && o.up {
			o.post(func(in *inbox) { in.down = append(in.down, n.id) })
		}
	}
}

// passHour lets an hour pass at once, as if all machines had slept.
func (w *world) passHour() {
	w.note(0, "an hour", 0, 0, 0)
	w.seen.hit(HourPassed)
	const hour = 3700 * second
	for i := range w.events {
		w.events[i].at += hour
	}
	for _, cuts := range []map[[2]uint64]int64{w.cuts, w.holes} {
		for k, until := range cuts {
			if until > w.now {
				cuts[k] = until + hour
			}
		}
	}
	for _, c := range w.conns { // frames keep their order
		c.up, c.down = c.up+hour, c.down+hour
	}
	for _, n := range w.nodes {
		n.frozenUntil += hour
	}
	w.now += hour
}
