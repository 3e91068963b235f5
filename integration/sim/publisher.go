package sim

import (
	"errors"
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/integration/model"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// publisher is a client that publishes to one store, by the protocol of package
// client: sessions, a window, attempts, and everything unconfirmed again after
// a change of leader.
type publisher struct {
	w     *world
	id    uint64
	store uint64
	most  int // batches in the window
	more  int // batches that it may still publish after everything healed

	conn    *conn
	seeking bool
	open    bool // the server has answered
	holds   bool // sends nothing for a while, after a rejection
	over    bool // the store is gone

	session uint64
	first   uint64 // sequence of the oldest batch
	attempt uint32
	batches []*outgoing
	handed  int

	confirmed []*outgoing // the last of them
}

// outgoing is a batch that is published.
type outgoing struct {
	*model.Batch
	to       uint64 // store
	data     []byte
	sent     bool
	sequence uint64 // once confirmed
	attempt  uint32
	session  uint64
}

func (p *publisher) act() {
	w := p.w
	if p.conn == nil {
		p.connect()
	}
	if len(p.batches) < p.most && (!w.healed || p.more > 0) {
		p.more = max(0, p.more-1)
		b := w.makeBatch(p.store)
		p.batches = append(p.batches, b)
		w.note(p.id, "publish", uint64(len(b.Messages)), b.Messages[0].Number, p.first+uint64(len(p.batches))-1)
		p.send()
	}
	if p.open && w.fault(w.setup.again) {
		p.mischief()
	}
	if p.open && w.fault(w.setup.gap) {
		p.stray()
	}
	if p.open && p.idle() && w.fault(w.setup.closeSession) {
		p.closeSession()
	}
}

// connect looks for the leader.
func (p *publisher) connect() {
	if p.conn != nil || p.seeking || p.over {
		return
	}
	c := p.w.dial(p.w.seek())
	if c == nil {
		p.again()
		return
	}
	p.conn, p.open = c, false
	c.ended = func(why error) { p.lost(c, why) }
	session := p.session
	c.toServer(func() { p.serve(c, session) })
	p.w.after(clientTimeout, func() {
		if p.conn == c && !p.open {
			c.hangUp(errGone)
		}
	})
}

func (p *publisher) again() {
	p.seeking = true
	p.w.after(5*ms+p.w.draw(50*ms), func() {
		p.seeking = false
		p.connect()
	})
}

// serve is the server's side: it finds or opens the session.
func (p *publisher) serve(c *conn, session uint64) {
	n := c.node
	if n.leads == 0 {
		c.end(errNotLeader)
		return
	}
	if session != 0 {
		n.call(func(cluster.Now) { p.resume(c, session) })
		return
	}
	n.propose(store.AppendOpenSession(nil, p.store, 0, 0), func(r store.Result, err error) {
		switch {
		case err != nil:
			c.end(reason(err))
		case r.Code != store.OK:
			c.end(errUnknown)
		default:
			n.after(p.w.draw(ms), func() { n.call(func(cluster.Now) { p.resume(c, r.Session) }) })
		}
	})
}

func (p *publisher) resume(c *conn, session uint64) {
	svc := c.node.svc
	view, ok := svc.Session(session)
	if !ok || view.Store != p.store {
		c.end(errSession)
		return
	}
	if c.serverDone {
		return
	}
	n := c.node
	p.w.subscriptions++
	kept := &service.Publisher{ID: p.w.subscriptions, Session: session, Ended: func(perdurepb.Reason) { c.end(errNotLeader) }}
	if svc.Keep(kept) != nil {
		c.end(errNotLeader)
		return
	}
	c.released = func() { n.call(func(cluster.Now) { svc.Drop(kept) }) }
	last, attempt := view.Last, view.Attempt
	if view.Closed {
		attempt++
	}
	c.toClient(func() { p.opened(c, session, last, attempt) })
}

func reason(err error) error {
	if errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, cluster.ErrStopped) {
		return errNotLeader
	}
	return errUnknown
}

// opened takes over what the server says of the session.
func (p *publisher) opened(c *conn, session, last uint64, attempt uint32) {
	p.w.note(p.id, "opened", session, last, uint64(attempt))
	if p.session == session {
		sent := uint64(0)
		for _, b := range p.batches {
			if b.sent {
				sent++
			}
		}
		if last+1 < p.first || last >= p.first+sent {
			// The server is behind, or a stranger: nobody will know what
			// became of the rest.
			p.w.seen.hit(SessionGivenUp)
			p.abandon()
			c.hangUp(errSession)
			return
		}
	} else {
		p.abandon()
		p.session, p.first = session, last+1
	}
	p.attempt, p.handed, p.open = max(attempt, 1), 0, true
	p.send()
}

// abandon gives the session up, and with it what may be stored under it.
func (p *publisher) abandon() {
	if p.w.opts.Mutant == SecondSession {
		p.session, p.handed, p.confirmed = 0, 0, nil
		return
	}
	p.batches = slices.DeleteFunc(p.batches, func(b *outgoing) bool { return b.sent })
	p.session, p.handed, p.confirmed = 0, 0, nil
}

// lost notes that the stream is gone.
func (p *publisher) lost(c *conn, why error) {
	if p.conn != c {
		return
	}
	p.w.noteText(p.id, "lost", p.session, p.first, uint64(len(p.batches)), why.Error())
	p.conn, p.open, p.handed = nil, false, 0
	if errors.Is(why, errSession) {
		p.abandon()
	}
	if p.w.fault(0.05) {
		p.expire()
	}
	p.again()
}

// expire gives up what waits.
func (p *publisher) expire() {
	if len(p.batches) > 0 && p.batches[0].sent {
		p.abandon()
	}
	for len(p.batches) > 0 && !p.batches[0].sent {
		p.w.judge.Refused(p.batches[0].Batch)
		p.batches = p.batches[1:]
	}
}

// send hands waiting batches to the stream.
func (p *publisher) send() {
	for p.open && !p.holds && p.handed < len(p.batches) {
		b := p.batches[p.handed]
		sequence, attempt := p.first+uint64(p.handed), p.attempt
		b.sent = true
		p.handed++
		p.hand(b, sequence, attempt)
	}
}

func (p *publisher) hand(b *outgoing, sequence uint64, attempt uint32) {
	c, session := p.conn, p.session
	c.toServer(func() {
		command := store.AppendPublish(nil, p.store, session, attempt, sequence, b.data)
		c.node.propose(command, func(r store.Result, err error) {
			if err != nil {
				c.end(reason(err))
				return
			}
			c.toClient(func() { p.outcome(c, b, sequence, attempt, r) })
		})
	})
}

// outcome takes one outcome into account, as client.Publisher does.
func (p *publisher) outcome(c *conn, b *outgoing, sequence uint64, attempt uint32, r store.Result) {
	w := p.w
	w.note(p.id, "outcome", sequence, uint64(r.Code), uint64(r.First))
	if p.conn != c || p.handed == 0 || sequence != p.first || p.batches[0] != b {
		return
	}
	switch {
	case r.Code == store.OK || r.Code == store.ReceiptForgotten:
		w.judge.Confirmed(b.Batch, uint64(r.First))
		b.sequence, b.attempt, b.session = sequence, attempt, p.session
		p.confirmed = append(p.confirmed, b)
		if len(p.confirmed) > 90 {
			p.confirmed = slices.Delete(p.confirmed, 0, 1)
		}
		p.first++
		p.pop()
	case attempt != p.attempt:
		return
	case r.Code == store.StoreFull, r.Code == store.Suspended:
		p.reject()
		if w.chance(0.8) {
			p.holds = true
			w.after(5*ms+w.draw(20*ms), func() { p.holds = false; p.send() })
			return
		}
		w.judge.Refused(b.Batch)
		p.pop()
	case r.Code == store.Corrupt:
		p.reject()
		w.judge.Refused(b.Batch)
		p.pop()
	case r.Code == store.Aborted:
		p.reject()
	case r.Code == store.SequenceGap:
		c.hangUp(errGone)
		return
	case r.Code == store.SessionUnknown, r.Code == store.NoSuchStore:
		p.abandon()
		c.hangUp(errSession)
		return
	default:
		w.judge.Failf("publisher %d: sequence %d is answered %v: %s", p.id, sequence, r.Code, r.Detail)
	}
	p.send()
}

func (p *publisher) pop() {
	p.batches = slices.Delete(p.batches, 0, 1)
	p.handed = max(0, p.handed-1)
}

func (p *publisher) reject() {
	p.attempt++
	p.handed = 0
	for _, b := range p.batches {
		b.sent = false
	}
}

// mischief sends a confirmed batch again, or another one in its place.
func (p *publisher) mischief() {
	if len(p.confirmed) == 0 {
		return
	}
	old := p.confirmed[p.w.rng.IntN(len(p.confirmed))]
	b := old
	if p.w.chance(0.2) {
		b = p.w.makeBatch(p.store)
		p.w.judge.Refused(b.Batch)
	}
	if old.session == p.session {
		p.hand(b, old.sequence, old.attempt)
	}
}

// stray sends a batch far ahead.
func (p *publisher) stray() {
	b := p.w.makeBatch(p.store)
	p.w.judge.Refused(b.Batch)
	p.hand(b, p.first+1000, p.attempt)
}

// closeSession ends the session in the log. The next stream opens another.
func (p *publisher) closeSession() {
	c, session := p.conn, p.session
	c.toServer(func() {
		c.node.propose(store.AppendCloseSession(nil, session), func(store.Result, error) { c.end(errSession) })
	})
}

func (p *publisher) idle() bool { return len(p.batches) == 0 }
