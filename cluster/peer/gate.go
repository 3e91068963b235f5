package peer

import (
	"bytes"
	"sync"
	"time"
)

// quickBytes bounds what a sender writes by itself. It is a few microseconds of
// its time; more goes to the connection's writer, which may run beside it.
const quickBytes = 4 << 10

// quickPause is for how long a connection must have been quiet. Where more comes
// within it, the writer does better: it collects what waits into one frame.
const quickPause = 50 * time.Microsecond

// gate says who may write to a connection: its writer, or a sender that finds it
// idle and has little to say. The latter saves waking the writer, and writes only
// what the connection takes at once; what is left of a frame the writer sends
// before anything else.
type gate struct {
	wake chan struct{} // has a value when something waits for the writer

	mu    sync.Mutex
	freed sync.Cond // busy became false
	open  bool
	busy  bool // somebody writes
	wrote time.Time
	quick *quickWriter
	rest  []byte // of a frame that went out in part
}

func (g *gate) init() {
	g.wake = make(chan struct{}, 1)
	g.freed.L = &g.mu
}

// idle says whether a sender may write by itself; mu is held.
func (g *gate) idle() bool {
	return g.quick != nil && !g.busy && len(g.rest) == 0 && time.Since(g.wrote) > quickPause
}

// enter waits until nobody else writes; mu is held.
func (g *gate) enter() {
	for g.busy {
		g.freed.Wait()
	}
	g.busy = true
}

// leave ends what enter began. After an error a frame may have been cut: nobody
// must write behind it.
func (g *gate) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.quick = nil
	}
	g.busy, g.wrote = false, time.Now()
	g.freed.Signal()
}

// try writes frame as far as the connection takes it without waiting. The caller
// has made the gate busy when it found it idle. more says whether something waits.
// It reports whether something went out.
func (g *gate) try(frame []byte, more func() bool) bool {
	n := g.quick.write(frame)
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < len(frame) {
		g.rest = bytes.Clone(frame[n:])
	}
	g.busy, g.wrote = false, time.Now()
	g.freed.Signal()
	if len(g.rest) > 0 || more() {
		signal(g.wake)
	}
	return n > 0
}

// signal leaves a value in c, which holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
