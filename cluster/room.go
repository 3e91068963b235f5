package cluster

import (
	"context"
	"slices"
)

// place is a proposal that waits for room. let is closed when it was let in.
type place[R any] struct {
	proposal Proposal[R]
	let      chan struct{}
}

// Propose queues p. It blocks while inboxBytes wait, bounded by ctx; who waits
// longest is let in first. An error means that nothing happened and Done will
// not run. If p is alone, the group's turn is run before Propose returns, with the
// callbacks of all that it ends, and with what it writes inline: the caller must hold
// nothing that they need, and ctx does not bound that.
func (g *Group[R]) Propose(ctx context.Context, p Proposal[R]) error {
	n, done := p.size(), p.Done
	p.Done = func(r R, err error) {
		g.release(n)
		if done != nil {
			done(r, err)
		}
	}
	g.in.Lock()
	if g.stopped() {
		g.in.Unlock()
		return ErrStopped
	}
	if len(g.in.room) == 0 && g.fits(n) {
		g.accept(p)
		lone := g.in.count == 1 && n <= littleBytes
		g.in.Unlock()
		if lone {
			g.here(false)
		} else {
			g.signal() // so that what comes together is written together
		}
		return nil
	}
	w := &place[R]{p, make(chan struct{})}
	g.in.room = append(g.in.room, w)
	g.in.Unlock()
	var err error
	select {
	case <-w.let:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-g.done:
		err = ErrStopped
	}
	g.in.Lock()
	defer g.in.Unlock()
	at := slices.Index(g.in.room, w)
	if at < 0 {
		return nil // it was let in just now
	}
	g.in.room = slices.Delete(g.in.room, at, at+1)
	g.letIn() // those behind may need less
	return err
}

// fits reports whether there is room for n bytes. For a single proposal there
// always is. The inbox is locked, as for accept and letIn.
func (g *Group[R]) fits(n int) bool { return g.in.bytes == 0 || g.in.bytes+n <= inboxBytes }

func (g *Group[R]) accept(p Proposal[R]) {
	g.in.bytes += p.size()
	g.in.count++
	g.in.proposals = append(g.in.proposals, p)
}

// letIn takes the proposals for which there is room, the oldest first, so that
// small ones do not keep a big one out.
func (g *Group[R]) letIn() {
	for len(g.in.room) > 0 && !g.stopped() {
		w := g.in.room[0]
		if !g.fits(w.proposal.size()) {
			return
		}
		g.in.room = slices.Delete(g.in.room, 0, 1)
		g.accept(w.proposal)
		g.signal()
		close(w.let)
	}
}

// release gives room back. It runs on the loop, or where a proposal ends.
func (g *Group[R]) release(n int) {
	g.in.Lock()
	g.in.bytes -= n
	g.in.count--
	g.letIn()
	g.in.Unlock()
}
