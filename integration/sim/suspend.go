package sim

import (
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
)

// operateEvery is how often the operator looks whether the cluster is suspended,
// or not, as it should be.
const operateEvery = 20 * ms

// mostGrace is the longest that a suspended leader may wait for acknowledgements.
const mostGrace = 100 * ms

// suspend has the operator suspend the cluster, and resume it later.
func (w *world) suspend() {
	w.suspends = true
	w.note(0, "suspend", 0, 0, 0)
	w.seen.hit(ClusterSuspended)
	w.after(w.draw(2*second), func() { w.suspends = false })
}

// operate is the operator: what is wanted is proposed until it is so. A command
// that was long on its way may undo it.
func (w *world) operate() {
	w.after(operateEvery+w.draw(operateEvery), w.operate)
	n := w.leaderOf()
	if n == nil || w.judge.Machine.Suspended == w.suspends {
		return
	}
	command := store.AppendResume(nil)
	if w.suspends {
		command = store.AppendSuspend(nil, w.draw(mostGrace))
	}
	suspends := w.suspends
	n.propose(command, func(r store.Result, err error) {
		switch {
		case err == nil && r.Code != store.OK:
			w.judge.Failf("suspending (%v) is answered %v: %s", suspends, r.Code, r.Detail)
		case err == nil && suspends:
			n.call(func(cluster.Now) { n.svc.AwaitQuiet(n.wentQuiet) })
		}
	})
}

// wentQuiet checks that what was delivered before the cluster was suspended is
// settled or taken back.
func (n *node) wentQuiet(recalled uint64, err error) {
	if err != nil {
		return
	}
	n.w.note(n.id, "settled", recalled, 0, 0)
	n.w.seen.hit(SuspendedQuiet)
	if recalled > 0 {
		n.w.seen.hit(DeliveriesRecalled)
	}
	n.svc.Durables(0, func(d store.Durable) bool {
		if held, _ := n.svc.Unacked(d.ID()); held > 0 {
			n.w.judge.Failf("suspended: replica %d says that all is settled, and %d messages of durable %d are held", n.id, held, d.ID())
		}
		return n.w.judge.Err() == nil
	})
}

// noteRecalled tells the judge what a suspended leader has taken back. It takes
// back everything at once, when the grace is over.
func (n *node) noteRecalled() {
	if n.leads == 0 || !n.svc.Suspended() {
		n.suspended = 0
		return
	}
	now := n.now().Mono
	if n.suspended == 0 {
		n.suspended = now
	}
	for _, l := range n.w.links {
		if l.node != n || l.life != n.life {
			continue
		}
		if held, _ := n.svc.Unacked(l.sub.Durable); held == 0 {
			n.w.judge.Recalled(l.sub.ID)
		} else if now >= n.suspended+mostGrace {
			n.w.judge.Failf("suspended: %d messages of durable %d are held on replica %d when the grace is over", held, l.sub.Durable, n.id)
		}
	}
}
