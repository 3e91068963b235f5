package sim

import (
	"fmt"
	"slices"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/store"
)

// patience is how long a healed cluster may take to come to rest.
const patience = 40 * second

// finish heals everything and waits until all messages are delivered and all
// replicas are equal.
func (w *world) finish() {
	w.note(0, "heal", 0, 0, 0)
	w.healed = true
	w.suspends = false
	w.setup.credit, w.setup.creditBytes, w.setup.think = 300, 256<<10, min(w.setup.think, 2*ms)
	clear(w.cuts)
	clear(w.holes)
	for _, n := range w.nodes {
		n.slowUntil, n.doom = 0, notDoomed // who is frozen thaws soon
		if !n.up && !n.fenced {
			n.start()
		}
	}
	for _, s := range w.subscribers {
		s.quiet = 0
		if s.last != nil {
			s.last.giveMore(dispatch.Credit{Messages: 300, Bytes: 256 << 10})
			s.flushSoon()
		}
	}
	w.makeLame()
	w.settle("everything healed")
	w.rouse()
	if w.judge.Err() == nil {
		w.checkFully()
		for id := range w.judge.Machine.Durables {
			w.judge.Drained(id)
		}
	}
}

// settle waits until all is at rest. since says what happened last.
func (w *world) settle(since string) {
	began, why := w.now, ""
	for w.now < began+patience && w.judge.Err() == nil {
		w.pass(20 * ms)
		w.step++
		w.act()
		w.check()
		if why = w.unrest(); why == "" {
			break
		}
		if w.now > began+second/2 {
			w.relieve()
		}
	}
	if why != "" {
		w.judge.Failf("liveness: %s, %.1f s after %s", why, float64(w.now-began)/1e9, since)
	}
}

// makeLame leaves one replica with a fault that does not heal, where the others
// must get along without it.
func (w *world) makeLame() {
	for _, n := range w.nodes {
		if n.fenced || len(w.nodes) < 3 {
			return
		}
	}
	if w.opts.Faults == NoFaults || w.chance(0.6) {
		return
	}
	w.seen.hit(LameNode)
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	o := w.nodes[(n.id+w.rng.Uint64N(2))%uint64(len(w.nodes))]
	const ever = 1 << 40
	w.lame = []*node{n}
	switch w.rng.IntN(4) {
	case 0:
		n.doom = atAdvanced // and is not started again
		w.note(n.id, "lame: down", 0, 0, 0)
	case 1:
		w.cutLink(n, o, ever*1000)
		w.lame = append(w.lame, o) // it may be the one that falls behind
		w.note(n.id, "lame: mute", o.id, 0, 0)
	case 2:
		w.cutLink(o, n, ever*1000)
		w.lame = append(w.lame, o)
		w.note(n.id, "lame: deaf", o.id, 0, 0)
	default:
		n.slow, n.slowUntil = 60*ms, w.now+ever*1000
		w.note(n.id, "lame: slow", 0, 0, 0)
	}
}

// relieve subscribes durables that nobody subscribes any more.
func (w *world) relieve() {
	n := w.leaderOf()
	if n == nil {
		return
	}
	n.svc.Durables(0, func(d store.Durable) bool {
		for _, s := range w.subscribers {
			if s.durable == d.ID() && !s.over {
				return true
			}
		}
		w.addSubscriber(d.ID(), d.Kind() == kindStandard)
		return true
	})
}

// unrest says what is not at rest yet.
func (w *world) unrest() string {
	leaders := 0
	var first *node
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		s := n.replica.Status(n.now())
		if s.Role == "leader" {
			leaders++
		}
		if slices.Contains(w.lame, n) {
			continue
		}
		switch {
		case first == nil:
			first = n
		case n.svc.Applied() != first.svc.Applied():
			return fmt.Sprintf("replica %d applied %d and replica %d %d", n.id, n.svc.Applied(), first.id, first.svc.Applied())
		case n.svc.Hash() != first.svc.Hash():
			return fmt.Sprintf("replicas %d and %d differ at %d", n.id, first.id, n.svc.Applied())
		case s.Commit != s.Applied:
			return fmt.Sprintf("replica %d applied %d of %d", n.id, s.Applied, s.Commit)
		}
	}
	if leaders != 1 {
		return fmt.Sprintf("%d leaders", leaders)
	}
	if w.judge.Machine.Suspended {
		return "the cluster is suspended"
	}
	why := ""
	at := w.leaderOf()
	if at == nil {
		return "nobody leads"
	}
	at.svc.Durables(0, func(d store.Durable) bool {
		if n := d.Pending().Len(); n > 0 {
			why = fmt.Sprintf("%d messages are pending in durable %q (%d)", n, d.Name(), d.ID())
		} else if held, _ := at.svc.Unacked(d.ID()); held > 0 {
			why = fmt.Sprintf("%d messages of durable %q are held and none is pending", held, d.Name())
		}
		return why == ""
	})
	for _, s := range w.subscribers {
		if s.open && !s.idle() {
			why = fmt.Sprintf("subscriber %d of durable %d waits for %d settlements", s.id, s.durable, len(s.tokens))
		}
	}
	for _, p := range w.publishers {
		if !p.idle() {
			why = fmt.Sprintf("publisher %d waits for %d batches", p.id, len(p.batches))
		}
	}
	return why
}

var _ cluster.Machine[store.Result] = (*machine)(nil)
