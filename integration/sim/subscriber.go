package sim

import (
	"slices"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// subscriber is a client with a subscription to one durable, by the protocol of
// package client: credit, settlements that are kept until they are confirmed,
// and sent again on the next stream.
type subscriber struct {
	w        *world
	id       uint64
	process  uint64
	durable  uint64
	standard bool

	conn    *conn
	seeking bool
	open    bool
	quiet   int64 // does not connect before
	over    bool  // the durable is gone

	term   uint64 // of the last leader
	termAt int64
	last   *link

	pending  []uint64            // acknowledged, not sent
	flights  map[uint64][]uint64 // by token: sent, not confirmed
	tokens   []uint64            // of flights, ascending
	token    uint64
	echoes   map[uint64]struct{} // acknowledged for an earlier stream
	echoedBy uint64              // the token that confirms them
	flushing bool
}

// link is one stream of a subscriber, at both ends.
type link struct {
	*conn
	s    *subscriber
	sub  *service.Subscription
	term uint64
	out  []service.Delivery // not sent yet
	busy bool
	slow int64 // it is sent so much later what it gets

	first  dispatch.Credit // asked for with the subscription
	credit dispatch.Credit // that the server may still use, as the client knows
	back   dispatch.Credit // to be granted
	nacks  []service.Nack
}

func (s *subscriber) connect() {
	w := s.w
	if s.conn != nil || s.seeking || s.over {
		return
	}
	if w.now < s.quiet {
		s.again(s.quiet - w.now)
		return
	}
	c := w.dial(w.seek())
	if c == nil {
		s.again(0)
		return
	}
	l := &link{conn: c, s: s}
	l.first = dispatch.Credit{Messages: w.setup.credit, Bytes: w.setup.creditBytes}
	l.credit = l.first
	if w.fault(w.setup.slowClient) {
		l.slow = w.draw(300 * ms)
	}
	s.conn, s.last, s.open = c, l, false
	c.ended = func(why error) { s.lost(c, why) }
	c.toServer(func() { s.serve(l) })
	w.after(clientTimeout, func() {
		if s.conn == c && !s.open {
			c.hangUp(errGone)
		}
	})
}

func (s *subscriber) again(d int64) {
	s.seeking = true
	s.w.after(d+5*ms+s.w.draw(50*ms), func() {
		s.seeking = false
		s.connect()
	})
}

// serve is the server's side: it attaches the subscriber.
func (s *subscriber) serve(l *link) {
	n := l.node
	if n.leads == 0 {
		l.end(errNotLeader)
		return
	}
	s.w.subscriptions++
	l.sub = &service.Subscription{
		ID: s.w.subscriptions, Durable: s.durable, Process: s.process,
		Deliver: func(d service.Delivery) { l.deliver(d) },
		Ended:   func(why perdurepb.Reason) { l.over(why) },
	}
	n.call(func(cluster.Now) {
		if _, ok := n.svc.Durable(s.durable); !ok {
			l.end(errDeleted)
			return
		}
		if !s.standard {
			s.attach(l, 0)
			return
		}
		if n.svc.Suspended() && s.w.chance(0.5) { // else the log refuses it
			l.end(errSuspended)
			return
		}
		if n.svc.Subscribed(s.durable, s.process) {
			l.end(errTaken)
			return
		}
		n.after(s.w.draw(ms), func() { s.take(l) })
	})
}

// take makes the subscriber the holder of a standard durable, in the log.
func (s *subscriber) take(l *link) {
	n := l.node
	n.nonces++
	n.propose(store.AppendAttach(nil, s.durable, s.process, n.nonces), func(r store.Result, err error) {
		switch {
		case err != nil:
			l.end(reason(err))
		case r.Code == store.NoSuchDurable:
			l.end(errDeleted)
		case r.Code == store.Suspended:
			s.w.seen.hit(AttachSuspended)
			l.end(errSuspended)
		case r.Code != store.OK:
			s.w.judge.Failf("attaching to durable %d is answered %v: %s", s.durable, r.Code, r.Detail)
		default:
			n.after(s.w.draw(ms), func() { n.call(func(cluster.Now) { s.attach(l, r.Attach) }) })
		}
	})
}

func (s *subscriber) attach(l *link, attach uint64) {
	n, w := l.node, s.w
	if l.serverDone {
		return
	}
	l.sub.Attach = attach
	switch err := n.svc.Attach(l.sub, l.first); {
	case err == service.ErrForceClosed:
		l.end(errForced)
		return
	case err == cluster.ErrNotLeader:
		l.end(errNotLeader)
		return
	case err == service.ErrSuspended:
		l.end(errSuspended)
		return
	case err != nil:
		if _, ok := n.svc.Durable(s.durable); ok {
			w.judge.Failf("durable %d cannot be attached to: %v", s.durable, err)
		}
		l.end(errDeleted)
		return
	}
	w.note(n.id, "attach", s.durable, l.sub.ID, attach)
	w.attached(l)
	l.term = n.leads
	l.released = func() { n.call(func(cluster.Now) { l.detach() }) }
	l.toClient(func() { s.opened(l) })
}

// detach takes the subscription from its service.
func (l *link) detach() {
	l.w.note(l.node.id, "detach", l.sub.Durable, l.sub.ID, 0)
	l.w.left(l)
	l.node.svc.Detach(l.sub.ID)
}

// over is Subscription.Ended: the service has ended the subscription.
func (l *link) over(why perdurepb.Reason) {
	l.w.note(l.node.id, "ended", l.sub.Durable, l.sub.ID, uint64(why))
	l.w.left(l)
	l.released = nil
	switch why {
	case perdurepb.Reason_REASON_FORCE_CLOSED:
		l.w.seen.hit(ForceClosed)
		l.end(errForced)
	case perdurepb.Reason_REASON_DURABLE_DELETED:
		l.end(errDeleted)
	default:
		l.end(errNotLeader)
	}
}

// opened is the client's: what was acknowledged and not confirmed goes out
// again, before anything else.
func (s *subscriber) opened(l *link) {
	w := s.w
	if l.term < s.term && w.now-s.termAt < 10*second {
		l.hangUp(errNotLeader)
		return
	}
	s.open, s.term, s.termAt = true, l.term, w.now
	for _, t := range s.tokens {
		s.pending = append(s.pending, s.flights[t]...)
	}
	clear(s.flights)
	s.tokens = nil
	s.echoes = map[uint64]struct{}{}
	for _, id := range s.pending {
		s.echoes[id] = struct{}{}
	}
	s.echoedBy = s.token + 1
	s.flush(l)
}

func (s *subscriber) lost(c *conn, why error) {
	if s.conn != c {
		return
	}
	s.w.noteText(s.id, "unsubscribed", s.durable, 0, 0, why.Error())
	s.conn, s.open, s.termAt = nil, false, s.w.now
	switch why {
	case errDeleted:
		s.over = !s.w.expected(s.durable)
	case errForced:
		s.quiet = s.w.now + s.w.draw(second)
		s.over = s.over || s.w.healed // or the two would go on for ever
	}
	s.again(0)
}

// dies ends the client's process without a word; another one takes its place.
func (s *subscriber) dies() {
	s.w.note(s.id, "dies", s.durable, s.process, 0)
	s.w.seen.hit(SilentDeath)
	if c := s.conn; c != nil {
		c.lost, c.clientDone = true, true
		c.w.after(clientTimeout+c.w.draw(clientTimeout), c.serverEnds)
	}
	s.conn, s.open, s.last = nil, false, nil
	s.process = s.w.rng.Uint64()
	s.pending, s.tokens, s.echoes, s.term = nil, nil, nil, 0
	clear(s.flights)
	s.again(s.w.draw(second / 2))
}

// ack acknowledges a message that was delivered on a link, which may be an
// earlier one.
func (s *subscriber) ack(l *link, id uint64) {
	s.pending = append(s.pending, id)
	if l == s.last {
		return
	}
	if s.echoes == nil {
		s.echoes = map[uint64]struct{}{}
	}
	s.echoes[id] = struct{}{}
	s.echoedBy = s.token + 1
}

// flushSoon sends what is settled within a millisecond.
func (s *subscriber) flushSoon() {
	if s.flushing {
		return
	}
	s.flushing = true
	s.w.after(s.w.draw(2*ms), func() {
		s.flushing = false
		if s.open {
			s.flush(s.last)
		}
	})
}

// flush sends settlements, then credit.
func (s *subscriber) flush(l *link) {
	if len(s.pending) > 0 || len(l.nacks) > 0 {
		s.token++
		token, ids, nacks := s.token, s.pending, l.nacks
		s.pending, l.nacks = nil, nil
		s.flights[token] = ids
		s.tokens = append(s.tokens, token)
		l.toServer(func() { l.node.call(func(now cluster.Now) { l.settle(ids, nacks, token, now) }) })
	}
	if l.back != (dispatch.Credit{}) {
		back := l.back
		l.back = dispatch.Credit{}
		l.toServer(func() { l.node.call(func(cluster.Now) { l.node.svc.Grant(l.sub.ID, back) }) })
	}
}

// settle runs on the server's loop.
func (l *link) settle(ids []uint64, nacks []service.Nack, token uint64, now cluster.Now) {
	w, svc, d := l.w, l.node.svc, l.sub.Durable
	term := l.node.leads
	settlement := service.Settlement{Nacks: nacks}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	for _, id := range sorted {
		at := message.ID(id)
		if k := len(settlement.Acks); k > 0 && settlement.Acks[k-1].Last+1 >= at {
			settlement.Acks[k-1].Last = at
		} else {
			settlement.Acks = append(settlement.Acks, service.Range{First: at, Last: at})
		}
		w.judge.Acked(term, d, l.sub.ID, id)
	}
	if w.opts.Mutant == LoseRelease && w.chance(0.01) {
		settlement.Nacks = nil
	}
	for _, n := range nacks {
		for id := n.First; id <= n.Last; id++ {
			w.judge.Nacked(d, l.sub.ID, uint64(id))
		}
	}
	settlement.Done = func(owner, lost bool) {
		if owner && !lost {
			l.confirm(term, ids)
		}
		if !owner && !lost {
			w.seen.hit(NotOwner)
		}
		l.toClient(func() { l.s.settled(l, token, lost) })
	}
	if w.opts.Mutant == ConfirmEarly {
		settlement.Done(true, false)
		settlement.Done = nil
	}
	w.note(l.node.id, "settle", d, l.sub.ID, uint64(len(ids)))
	svc.Settle(l.sub.ID, settlement, now)
}

// confirm notes that somebody is told by the leader of a term that messages are
// settled. None of them may be pending then.
func (l *link) confirm(term uint64, ids []uint64) {
	v, ok := l.node.svc.Durable(l.sub.Durable)
	for _, id := range ids {
		if ok && v.Pending().Contains(message.ID(id)) {
			l.w.judge.Failf("message %d of durable %d is confirmed as settled by replica %d and is pending there", id, l.sub.Durable, l.node.id)
		}
		l.w.judge.SettledSync(term, l.sub.Durable, id)
	}
}

// settled is the client's: the server has answered.
func (s *subscriber) settled(l *link, token uint64, lost bool) {
	if l != s.last {
		return
	}
	if lost {
		l.hangUp(errGone) // the next stream settles again
		return
	}
	delete(s.flights, token)
	s.tokens = slices.DeleteFunc(s.tokens, func(t uint64) bool { return t == token })
	if token >= s.echoedBy && len(s.pending) == 0 {
		s.echoes = nil
	}
}
