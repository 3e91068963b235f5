package client

import "time"

// errReplaced says that an acknowledgement came too late to be one.
var errReplaced = refusal(ErrEpochChanged, nil, "a saved state was loaded, or the cluster was formed anew, since the message was delivered; what is there now is delivered again")

// replaced reports whether the durable is of another lineage than that which a delivery
// came from: the id may name another message.
func (s *Subscription) replaced(d Delivery) bool {
	return d.c.link.opened.Lineage != s.mu.opened.Lineage
}

// settle acknowledges a delivery, or with a delay gives it back.
func (s *Subscription) settle(d Delivery, nackDelay *time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.endErr != nil {
		return s.mu.endErr
	}
	if !s.take(d, nackDelay == nil) {
		return nil
	}
	switch {
	case s.replaced(d):
		return nil
	case nackDelay == nil:
		s.mu.ledger.ack(d.id)
	case d.c.link == s.mu.link:
		s.mu.ledger.nack(d.id, *nackDelay)
	}
	s.flushSoon()
	return nil
}

// settleSync acknowledges a delivery at once. It returns nil if that was settled
// before.
func (s *Subscription) settleSync(d Delivery) (*syncAck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.endErr != nil {
		return nil, s.mu.endErr
	}
	if !s.take(d, true) {
		return nil, nil
	}
	if s.replaced(d) {
		return nil, errReplaced
	}
	a := s.mu.ledger.sync(d.id)
	s.nudgeLocked()
	return a, nil
}

// take marks a delivery as settled and gives its credit back; false if it was
// settled before.
func (s *Subscription) take(d Delivery, acked bool) bool {
	if !d.c.mark(d.pos) {
		return false
	}
	s.mu.handed--
	if s.mu.handed == 0 {
		s.wakeQuiescing()
	}
	if d.c.link == s.mu.link {
		s.giveBack(d.c)
	} else if acked && !s.replaced(d) {
		// The present stream may deliver a copy, or have done so. What waits here
		// came before the acknowledgement goes out, which settles it, too.
		s.mu.echoes.add(d.id)
		for _, c := range s.mu.queue {
			s.dropEchoes(c)
		}
	}
	return true
}

// giveBack credits one message of a chunk of the present link.
func (s *Subscription) giveBack(c *chunk) {
	bytes := c.each
	if c.left == 0 {
		bytes += c.rest
	}
	s.mu.ledger.credited(1, bytes)
}

// dropEchoes marks the messages of c that are acknowledged already, and returns
// which it marked.
func (s *Subscription) dropEchoes(c *chunk) (copies idRanges) {
	pos := 0
	for _, r := range c.ids {
		for id := r.first; id <= r.last; id++ {
			if pos >= c.next && s.mu.echoes.has(id) && c.mark(pos) {
				s.giveBack(c)
				copies.add(id)
			}
			pos++
		}
	}
	return copies
}

// flushSoon sends settlements: at once when half of the credit waits for it,
// else within ackDelay.
func (s *Subscription) flushSoon() {
	g := &s.mu.ledger
	if 2*g.messages >= s.mu.window || 2*g.bytes >= s.mu.windowBytes || s.mu.draining {
		s.nudgeLocked()
		return
	}
	if g.unsent == 1 {
		s.mu.timer.Reset(ackDelay)
	}
}

func (s *Subscription) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nudgeLocked()
}

func (s *Subscription) nudgeLocked() {
	if s.mu.link != nil {
		s.mu.link.nudge()
	}
}

func (s *Subscription) wakeQuiescing() {
	if s.mu.settled != nil {
		close(s.mu.settled)
		s.mu.settled = nil
	}
}
