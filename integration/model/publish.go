package model

// message is one message as its publisher sees it.
type message struct {
	Content
	store     uint64
	id        uint64 // 0: not stored
	above     uint64 // id that was confirmed before it was published
	confirmed bool
	refused   bool
}

// ids is which message has which id in a store.
type ids struct {
	by        []*message // of id i at i-1
	confirmed uint64     // the highest that a publisher was told
}

func (j *Judge) store(id uint64) *ids {
	s := j.stores[id]
	if s == nil {
		s = &ids{}
		j.stores[id] = s
	}
	return s
}

// NumberOf returns which message has an id in a store, 0 if none.
func (j *Judge) NumberOf(store, id uint64) uint64 {
	by := j.store(store).by
	if id == 0 || id > uint64(len(by)) {
		return 0
	}
	return by[id-1].Number
}

// Publishing says that a publisher begins to publish a message.
func (j *Judge) Publishing(store uint64, c Content) {
	j.messages[c.Number] = &message{Content: c, store: store, above: j.store(store).confirmed}
}

// Publish applies a batch, for the first of all replicas.
func (j *Judge) Publish(p Publish, r Result) {
	a, err := j.Machine.Publish(p, r)
	j.Check(err)
	if a == nil {
		return
	}
	j.stored(a)
	for id, d := range j.Machine.Durables {
		for i, c := range a.Batch.Messages {
			if d.Store == a.Store && d.Interest.wants(c) {
				j.interested(id, a.Store, a.First+uint64(i))
			}
		}
	}
}

// Settle settles messages, for the first of all replicas. Nothing goes that
// nobody acknowledged.
func (j *Judge) Settle(durable uint64, ranges []Range, r Result) {
	if d := j.Machine.Durables[durable]; d != nil {
		for _, at := range ranges {
			for id := at.First; id <= min(at.Last, j.Machine.Stores[d.Store].Last); id++ {
				if _, ok := d.Pending[id]; ok {
					j.maySettle(durable, id)
				}
			}
		}
	}
	j.Check(j.Machine.Settle(durable, ranges, r))
}

// stored notes that the log gave ids to a batch.
func (j *Judge) stored(a *Accepted) {
	s := j.store(a.Store)
	if a.First != uint64(len(s.by))+1 {
		j.Failf("ids: a batch of store %d begins at %d, the last id was %d", a.Store, a.First, len(s.by))
		return
	}
	for i, c := range a.Batch.Messages {
		m := j.messages[c.Number]
		id := a.First + uint64(i)
		switch {
		case m == nil || m.store != a.Store:
			j.Failf("phantom: nobody published message %d to store %d", c.Number, a.Store)
			return
		case m.id != 0:
			j.Failf("duplicate: message %d of store %d has ids %d and %d", c.Number, a.Store, m.id, id)
		case m.refused:
			j.Failf("message %d of store %d was definitely refused and is stored as %d", c.Number, a.Store, id)
		case id <= m.above:
			j.Failf("real time: message %d was published after id %d was confirmed and is stored as %d", c.Number, m.above, id)
		}
		m.id = id
		s.by = append(s.by, m)
	}
}

// Confirmed says that a publisher was told that a batch is stored from id first
// on; 0 if it was told no ids.
func (j *Judge) Confirmed(b *Batch, first uint64) {
	for i, c := range b.Messages {
		m := j.messages[c.Number]
		switch {
		case m.id == 0:
			j.Failf("message %d of store %d was confirmed and is in no log", c.Number, m.store)
			return
		case first != 0 && m.id != first+uint64(i):
			j.Failf("message %d of store %d was confirmed as %d and is stored as %d", c.Number, m.store, first+uint64(i), m.id)
		case m.refused:
			j.Failf("message %d of store %d was refused and confirmed", c.Number, m.store)
		}
		m.confirmed = true
		s := j.store(m.store)
		s.confirmed = max(s.confirmed, m.id)
	}
}

// Refused says that a publisher was told that a batch is not stored and never
// will be.
func (j *Judge) Refused(b *Batch) {
	for _, c := range b.Messages {
		m := j.messages[c.Number]
		if m.id != 0 {
			j.Failf("message %d of store %d is stored as %d and was refused", c.Number, m.store, m.id)
		}
		m.refused = true
	}
}

// Messages counts what was published, stored and confirmed.
func (j *Judge) Messages() (published, stored, confirmed int) {
	for _, m := range j.messages {
		published++
		if m.id != 0 {
			stored++
		}
		if m.confirmed {
			confirmed++
		}
	}
	return published, stored, confirmed
}
