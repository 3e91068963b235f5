package model

// deliveries is what happened to the messages of one durable.
type deliveries struct {
	store   uint64
	records []record // of id i at i-1
	first   uint64   // the highest id that was ever dispatched
	attach  uint64   // of a standard durable: the newest attachment that got anything
	term    uint64   // in which it did
}

// record is one message on one durable.
type record struct {
	wanted     bool
	received   bool
	asked      bool   // a subscriber acknowledged it
	holder     uint64 // subscription; 0 is nobody
	holderTerm uint64
	term       uint64 // of the last dispatch of the highest term
	sum        uint32 // counts it was dispatched with then
	recalled   bool   // taken back since, as if it had not been dispatched
	possible   uint32
	settled    uint64 // term in which its holder acknowledged it
	confirmed  uint64 // term in which somebody was told that it is settled
}

// hold is one message that a subscription has.
type hold struct{ durable, id uint64 }

// interested notes that a durable wants a stored message.
func (j *Judge) interested(durable, store, id uint64) {
	d := j.durables[durable]
	if d == nil {
		d = &deliveries{store: store}
		j.durables[durable] = d
	}
	d.at(id).wanted = true
}

func (d *deliveries) at(id uint64) *record {
	for uint64(len(d.records)) < id {
		d.records = append(d.records, record{})
	}
	return &d.records[id-1]
}

// known returns the record of a message that the log gave to a durable.
func (j *Judge) known(durable, id uint64) *record {
	d := j.durables[durable]
	if d == nil || id == 0 || id > uint64(len(d.records)) || !d.records[id-1].wanted {
		return nil
	}
	return &d.records[id-1]
}

// Dispatch is a message handed to a subscription by the leader of a term.
type Dispatch struct {
	Term, Durable, Subscription, ID uint64
	Attach                          uint64 // of a standard durable: number of the attachment
	Ended, Possible                 uint32
}

// Dispatched says that a leader hands a message out.
func (j *Judge) Dispatched(d Dispatch) (again bool) {
	r := j.known(d.Durable, d.ID)
	if r == nil {
		j.Failf("phantom: durable %d hands out %d, which it does not want", d.Durable, d.ID)
		return false
	}
	j.newest(d)
	sum := d.Ended + d.Possible
	switch {
	case r.holder != 0 && r.holderTerm == d.Term:
		j.Failf("exclusivity: message %d of durable %d is held by subscription %d and goes to %d in term %d", d.ID, d.Durable, r.holder, d.Subscription, d.Term)
	case r.settled == d.Term:
		j.Failf("message %d of durable %d was acknowledged by its holder in term %d and is handed out again", d.ID, d.Durable, d.Term)
	case r.confirmed != 0 && r.confirmed <= d.Term:
		j.Failf("message %d of durable %d was confirmed as settled in term %d and is handed out in term %d", d.ID, d.Durable, r.confirmed, d.Term)
	case r.term == d.Term && r.recalled && sum != r.sum:
		j.Failf("counts: message %d of durable %d was taken back with count %d and is handed out in term %d with %d", d.ID, d.Durable, r.sum, d.Term, sum)
	case r.term == d.Term && !r.recalled && sum <= r.sum:
		j.Failf("counts: message %d of durable %d is handed out again in term %d with count %d after %d", d.ID, d.Durable, d.Term, sum, r.sum)
	case r.term != 0 && r.term < d.Term && d.Possible <= r.possible:
		j.Failf("counts: message %d of durable %d was handed out in term %d with %d possible deliveries, and now in term %d with %d",
			d.ID, d.Durable, r.term, r.possible, d.Term, d.Possible)
	case r.term == 0 && d.ID <= j.durables[d.Durable].first:
		j.Failf("order: message %d of durable %d is handed out for the first time after %d", d.ID, d.Durable, j.durables[d.Durable].first)
	}
	again = r.term != 0
	j.durables[d.Durable].first = max(j.durables[d.Durable].first, d.ID)
	if d.Term < r.term {
		return again // by a leader that does not know yet that it is replaced
	}
	r.term, r.sum, r.possible, r.recalled = d.Term, sum, d.Possible, false
	r.holder, r.holderTerm = d.Subscription, d.Term
	h := j.holds[d.Subscription]
	if h == nil {
		h = make(map[hold]struct{})
		j.holds[d.Subscription] = h
	}
	h[hold{d.Durable, d.ID}] = struct{}{}
	return again
}

// newest checks that of the holders of a standard durable the newest gets what
// there is.
func (j *Judge) newest(d Dispatch) {
	x := j.durables[d.Durable]
	if d.Term >= x.term && d.Attach < x.attach {
		j.Failf("holder: %d of durable %d goes to attachment %d in term %d, and attachment %d had something in term %d", d.ID, d.Durable, d.Attach, d.Term, x.attach, x.term)
	}
	if d.Attach >= x.attach {
		x.attach, x.term = d.Attach, max(x.term, d.Term)
	}
}

// Left says that a subscription is over: it holds nothing any more.
func (j *Judge) Left(subscription uint64) {
	for h := range j.holds[subscription] {
		j.free(subscription, h)
	}
	delete(j.holds, subscription)
}

func (j *Judge) free(subscription uint64, h hold) {
	if r := j.known(h.durable, h.id); r != nil && r.holder == subscription {
		r.holder = 0
	}
}

// Recalled says that a suspended leader has taken back what a subscription holds:
// that delivery does not count.
func (j *Judge) Recalled(subscription uint64) {
	for h := range j.holds[subscription] {
		if r := j.known(h.durable, h.id); r != nil && r.holder == subscription {
			r.recalled = true
		}
	}
	j.Left(subscription)
}

// Nacked says that a subscription gave a message back.
func (j *Judge) Nacked(durable, subscription, id uint64) {
	h := hold{durable, id}
	if _, ok := j.holds[subscription][h]; ok {
		delete(j.holds[subscription], h)
		j.free(subscription, h)
	}
}

// Acked says that a subscription acknowledged a message to the leader of a
// term.
func (j *Judge) Acked(term, durable, subscription, id uint64) {
	r := j.known(durable, id)
	if r == nil {
		return
	}
	h := hold{durable, id}
	if _, ok := j.holds[subscription][h]; ok && r.holder == subscription {
		r.settled = term
		delete(j.holds[subscription], h)
		r.holder = 0
	}
	r.asked = true
}

// SettledSync says that somebody was told by the leader of a term that a
// message is settled.
func (j *Judge) SettledSync(term, durable, id uint64) {
	if r := j.known(durable, id); r != nil && (r.confirmed == 0 || term < r.confirmed) {
		r.confirmed = term
	}
}

// maySettle checks that somebody acknowledged a message that goes.
func (j *Judge) maySettle(durable, id uint64) {
	if r := j.known(durable, id); r == nil || !r.asked {
		j.Failf("message %d of durable %d is settled and nobody acknowledged it", id, durable)
	}
}

// Received says what a subscriber found in a message.
func (j *Judge) Received(durable, id, number, sum uint64) {
	r := j.known(durable, id)
	if r == nil {
		j.Failf("phantom: durable %d delivers %d, which it does not want", durable, id)
		return
	}
	r.received = true
	s := j.store(j.durables[durable].store)
	if m := s.by[id-1]; m.Number != number || m.Sum != sum {
		j.Failf("message %d of durable %d is delivered as number %d with sum %016x, it was published as %d with %016x", id, durable, number, sum, m.Number, m.Sum)
	}
}

// Drained checks, when a durable has nothing pending, that whatever it wanted
// was received and acknowledged.
func (j *Judge) Drained(durable uint64) {
	d := j.durables[durable]
	if d == nil {
		return
	}
	for i, r := range d.records {
		if r.wanted && (!r.received || !r.asked) {
			m := j.store(d.store).by[i]
			j.Failf("lost: durable %d is drained, and message %d (number %d, confirmed %v) was never received", durable, i+1, m.Number, m.confirmed)
			return
		}
	}
}
