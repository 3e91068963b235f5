package sim

import "errors"

// Why a client's stream ended, as far as the client cares.
var (
	errGone      = errors.New("sim: the connection is gone")
	errNotLeader = errors.New("sim: not the leader")
	errUnknown   = errors.New("sim: outcome unknown")
	errSession   = errors.New("sim: session unknown")
	errForced    = errors.New("sim: a newer subscriber has the durable")
	errDeleted   = errors.New("sim: the durable is gone")
	errSuspended = errors.New("sim: the cluster is suspended")
	errTaken     = errors.New("sim: this process subscribes already")
)

// clientTimeout is after how long of silence each end gives a stream up.
const clientTimeout = 500 * ms

// conn is a stream between a client and a process. Frames arrive in order, or
// not at all once it is lost.
type conn struct {
	w    *world
	node *node
	life uint64
	up   int64 // when the last frame to the server arrives
	down int64

	lost       bool // nothing gets through any more
	clientDone bool // the client sends and hears nothing more
	serverDone bool

	ended    func(error) // at the client, once
	released func()      // at the server, once, on no loop
}

// dial connects to a node; nil if it is not there.
func (w *world) dial(n *node) *conn {
	if !n.up {
		return nil
	}
	c := &conn{w: w, node: n, life: n.life, up: w.now, down: w.now}
	w.conns = append(w.conns, c)
	return c
}

func (c *conn) delay() int64 { return c.w.setup.delay + c.w.draw(c.w.setup.jitter+1) }

func (c *conn) serverUp() bool { return c.node.up && c.node.life == c.life }

// toServer carries a frame; f runs where a stream's goroutine would.
func (c *conn) toServer(f func()) {
	if c.clientDone || !c.serverUp() {
		return
	}
	c.up = max(c.up, c.w.now+c.delay())
	c.node.after(c.up-c.w.now, func() {
		if !c.lost && !c.serverDone {
			f()
		}
	})
}

// toClient carries a frame.
func (c *conn) toClient(f func()) {
	if c.serverDone {
		return
	}
	c.down = max(c.down, c.w.now+c.delay())
	c.w.after(c.down-c.w.now, func() {
		if !c.lost && !c.clientDone {
			f()
		}
	})
}

// end ends the stream at the server, which says why.
func (c *conn) end(why error) {
	c.toClient(func() { c.clientEnds(why) })
	c.serverEnds()
}

func (c *conn) serverEnds() {
	if !c.serverDone {
		c.serverDone = true
		if c.released != nil && c.serverUp() {
			c.released()
		}
	}
}

func (c *conn) clientEnds(why error) {
	if !c.clientDone {
		c.clientDone = true
		c.ended(why)
	}
}

// hangUp ends the stream at the client. What it sent before may still arrive.
func (c *conn) hangUp(why error) {
	c.toServer(c.serverEnds)
	if c.w.chance(0.5) {
		c.lost = true
		c.w.after(c.w.draw(clientTimeout), c.serverEnds)
	}
	c.clientEnds(why)
}

// breaks loses what is on its way. Both ends find out, sooner or later.
func (c *conn) breaks(silent bool) {
	c.lost = true
	a, b := c.w.draw(20*ms), c.w.draw(20*ms)
	if silent {
		a, b = clientTimeout, clientTimeout+c.w.draw(clientTimeout)
	}
	c.w.after(a, func() { c.clientEnds(errGone) })
	c.w.after(b, c.serverEnds)
}

// serverGone ends the streams of a process that has ended.
func (w *world) serverGone(n *node) {
	for _, c := range w.conns {
		if c.node == n && c.life == n.life {
			c.serverDone = true
			if !c.lost {
				c.lost = true
				w.after(w.draw(50*ms), func() { c.clientEnds(errGone) })
			}
		}
	}
	w.sweepConns()
}

func (w *world) sweepConns() {
	kept := w.conns[:0]
	for _, c := range w.conns {
		if !c.clientDone || !c.serverDone {
			kept = append(kept, c)
		}
	}
	clear(w.conns[len(kept):])
	w.conns = kept
}

// seek chooses a node to try: mostly the one that says it leads.
func (w *world) seek() *node {
	if l := w.leaderOf(); l != nil && w.chance(0.7) {
		return l
	}
	return w.nodes[w.rng.IntN(len(w.nodes))]
}
