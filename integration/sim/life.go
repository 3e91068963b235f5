package sim

import (
	"fmt"
	"slices"
)

// beatEvery is how often servers show each other that they live, as package peer
// does it: several times in an election timeout.
const beatEvery = 20 * ms

// sign of life of another server, by the clock of the process.
type sign struct {
	heard int64 // when a clock came from it
	echo  int64 // when the clock left which it answered last
}

func (s sign) bothWays() int64 { return min(s.heard, s.echo) }

func (n *node) scheduleBeat() {
	n.after(beatEvery, func() {
		for _, o := range n.w.nodes {
			if o != n {
				n.beat(o)
			}
		}
		n.scheduleBeat()
	})
}

// beat sends a sign of life to another node, which answers it on the same flow.
func (n *node) beat(o *node) {
	sent, life := n.now().Mono, n.life
	n.w.carry(n, n, o, func() {
		o.signs[n.id-1].heard = o.now().Mono
		n.w.carry(n, o, n, func() {
			if n.life != life {
				return
			}
			s := &n.signs[o.id-1]
			s.echo = max(s.echo, sent)
			if n.w.opts.Mutant == EchoHears {
				s.heard = n.now().Mono
			}
		})
	})
}

// carry carries a sign of life as the network carries messages, on the flow that
// one of the two has dialled.
func (w *world) carry(dialled, from, to *node, arrive func()) {
	cut := func() bool { return w.cutOn(dialled.id, from.id, to.id) }
	if cut() || w.fault(w.setup.lose) {
		return
	}
	w.after(w.setup.delay+w.draw(w.setup.jitter+1), func() {
		if to.up && !cut() {
			to.alive(arrive)()
		}
	})
}

// watch does what the host's ticker does for quiet replicas.
func (n *node) watch() {
	if !n.replica.Quiet() {
		return
	}
	now := n.now()
	s := n.replica.Status(now)
	for _, o := range n.w.nodes {
		at, patience := n.signs[o.id-1].heard, electionTicks*int64(n.w.setup.tick)
		if s.Leader == n.id {
			at = n.signs[o.id-1].bothWays()
		} else {
			patience += patience / 2
		}
		if o != n && (s.Leader == n.id || s.Leader == o.id) && now.Mono-at >= patience {
			n.post(func(in *inbox) { in.silent = append(in.silent, o.id) })
		}
	}
}

// hear tells a quiet replica which servers live, and what became of others.
func (n *node) hear(in *inbox) {
	now := n.now()
	if n.replica.Quiet() {
		for i, s := range n.signs {
			n.replica.Hear(uint64(i)+1, s.bothWays())
		}
		if n.w.opts.Mutant == DeafQuiet {
			return
		}
	}
	for _, d := range in.down {
		n.signs[d-1] = sign{}
		n.replica.PeerDown(now, d)
	}
	for _, d := range in.silent {
		n.replica.Silent(now, d)
	}
}

// noteQuiet counts who goes quiet.
func (n *node) noteQuiet() {
	if quiet := n.replica.Quiet(); quiet != n.quiet {
		n.quiet = quiet
		if !quiet {
			n.w.note(n.id, "wakes", 0, 0, 0)
			return
		}
		n.w.note(n.id, "quiet", n.leads, 0, 0)
		if n.leads != 0 {
			n.w.seen.hit(WentQuiet)
		}
	}
}

// quietPatience is how long an idle group may take to be quiet: until the state
// is in checkpoints, and a checksum was compared.
const quietPatience = 20 * second

// rouse lets the group go quiet, breaks something, and publishes again: whatever
// became of a quiet group, it must come to life.
func (w *world) rouse() {
	if len(w.lame) > 0 || w.judge.Err() != nil || slices.ContainsFunc(w.nodes, func(n *node) bool { return n.fenced }) {
		return
	}
	began := w.now
	for w.judge.Err() == nil && w.restless() != "" {
		w.pass(20 * ms)
		w.step++
		w.check()
		if w.now > began+quietPatience {
			w.judge.Failf("the group is not quiet %.1f s after everything was at rest: %s", float64(w.now-began)/1e9, w.restless())
			return
		}
	}
	if l := w.leaderOf(); l != nil && len(w.nodes) > 1 && w.opts.Faults != NoFaults {
		w.breakQuiet(l, w.nodes[(l.id+w.rng.Uint64N(uint64(len(w.nodes)-1)))%uint64(len(w.nodes))])
	}
	w.pass(w.draw(second))
	for _, p := range w.publishers {
		if !p.over {
			p.more = 1
		}
	}
	w.settle("a quiet group was roused")
}

// restless says who is not quiet.
func (w *world) restless() string {
	for _, n := range w.nodes {
		if !n.up || !n.replica.Quiet() {
			return fmt.Sprintf("replica %d is awake", n.id)
		}
	}
	return ""
}

// breakQuiet does something to the leader l of a quiet group, and perhaps to
// another node o.
func (w *world) breakQuiet(l, o *node) {
	w.seen.hit(QuietBroken)
	const ever = 1 << 50
	switch w.rng.IntN(9) {
	case 0:
		l.crash(false)
	case 5: // for good
		if len(w.nodes) > 2 {
			w.lame = append(w.lame, l)
			l.crash(false)
		}
	case 1:
		l.frozenUntil = w.now + second + w.draw(second)
		w.note(l.id, "freeze", 0, 0, 0)
	case 2: // of three, both still see the third
		w.cutLink(l, o, ever)
		w.cutLink(o, l, ever)
		w.lame = append(w.lame, l, o)
	case 3:
		w.cutLink(l, o, second)
		w.cutLink(o, l, second)
	case 4:
		o.crash(false)
	case 6: // it reaches nobody, and answers
		w.lame = append(w.lame, l)
		w.mute(l, ever)
	case 7: // nobody reaches it, and all answer
		w.lame = append(w.lame, l)
		w.deafen(l, ever)
	default:
		w.reset(l)
	}
}
