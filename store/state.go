package store

import (
	"cmp"
	"slices"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// storeState is one store.
type storeState struct {
	id   uint64
	spec storeSpec
	mark durable.Mark

	epoch   uint16
	counter uint64 // of the last id given

	index     index
	messages  uint64          // accounted
	bytes     uint64          // accounted
	unmatched []*durableState // without matcher, ascending by id
	matchers  message.Index   // the others, by slot
	slots     []*durableState // the others, where their slot says; nil if none
	vacant    []uint64        // slots without a durable
	matched   int             // how many are in matchers
	names     map[string]*durableState
	dynamic   uint32 // how many are dynamic
}

// storeSpec is what a definition says of a store.
type storeSpec struct {
	name         string
	byteLimit    uint64
	messageLimit uint64
	maxMessage   uint64
	noconfirm    bool
	dynamicLimit uint32
	templates    []Template
}

// last returns the last id given, 0 if none; in an epoch without any, the id
// that the first one follows.
func (s *storeState) last() message.ID { return message.MakeID(s.epoch, s.counter) }

// durableState is one durable.
type durableState struct {
	id       uint64
	store    *storeState
	name     string
	pageMark durable.Mark
	track    *durable.Tracker // of all durables

	options  durable.Options
	matcher  *message.Matcher // nil: every message
	dynamic  bool
	template string

	pending   durable.Pending
	counts    durable.Counts
	marks     durable.Marks
	watermark message.ID // the leader delivers nothing above
	handing   bool       // the present leader has said that it delivers
	matched   uint64     // messages it wanted, ever
	acked     uint64     // messages that were settled, ever

	attach  Attachment
	number  uint64       // of the last attachment, rising
	slot    uint64       // of one with a matcher, in store.slots
	scratch []message.ID // ids of the batch being applied

	touched  bool // in events.touched
	attached bool // in events.attached
}

// touch notes that the durable's own page is about to change.
func (d *durableState) touch() { d.track.Touch(&d.pageMark, d.id) }

// mark notes that a leader is gone, which may have delivered up to the
// watermark, if it ever said that it would.
func (d *durableState) mark() {
	if !d.handing {
		return
	}
	d.touch()
	if at, ok := d.handed(); ok {
		d.marks.Add(at)
	}
	d.handing = false
}

// handed returns the id up to which the present leader may have delivered
// something that is pending. ok is false if there is none.
func (d *durableState) handed() (at message.ID, ok bool) {
	at = min(d.watermark, d.store.last())
	return at, d.handing && d.pending.Len() > 0 && at >= d.pending.Floor()
}

// prune forgets the marks that no pending message can see.
func (d *durableState) prune() {
	if d.marks.Empty() {
		return
	}
	if d.pending.Len() == 0 {
		d.marks.Clear()
	} else {
		d.marks.Prune(d.pending.Floor())
	}
}

func findStore(list []*storeState, id uint64) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(s *storeState, id uint64) int { return cmp.Compare(s.id, id) })
}

func findDurable(list []*durableState, id uint64) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(d *durableState, id uint64) int { return cmp.Compare(d.id, id) })
}

// insertDurable puts d into a list that ascends by id.
func insertDurable(list []*durableState, d *durableState) []*durableState {
	i, _ := findDurable(list, d.id)
	return slices.Insert(list, i, d)
}

// removeDurable takes d out of a list that ascends by id.
func removeDurable(list []*durableState, d *durableState) []*durableState {
	if i, ok := findDurable(list, d.id); ok {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// link makes d known to the machine and to its store. Loading calls it too.
func (m *Machine) link(d *durableState) {
	s := d.store
	m.byID[d.id] = d
	m.durables = insertDurable(m.durables, d)
	s.names[d.name] = d
	if d.dynamic {
		s.dynamic++
	}
	if d.matcher == nil {
		s.unmatched = insertDurable(s.unmatched, d)
	} else {
		s.seat(d)
		s.matchers.Add(d.slot, d.matcher)
		s.matched++
	}
}

// seat gives d a slot, so that matching finds it without a look-up by id.
func (s *storeState) seat(d *durableState) {
	if n := len(s.vacant); n > 0 {
		d.slot = s.vacant[n-1]
		s.vacant = s.vacant[:n-1]
	} else {
		d.slot = uint64(len(s.slots))
		s.slots = append(s.slots, nil)
	}
	s.slots[d.slot] = d
}

// unlink makes d unknown. What is pending in it is the caller's business.
func (m *Machine) unlink(d *durableState) {
	s := d.store
	delete(m.byID, d.id)
	m.durables = removeDurable(m.durables, d)
	if s.names[d.name] == d {
		delete(s.names, d.name)
	}
	if d.dynamic {
		s.dynamic--
	}
	if d.matcher == nil {
		s.unmatched = removeDurable(s.unmatched, d)
	} else {
		s.matchers.Remove(d.slot)
		s.slots[d.slot] = nil
		s.vacant = append(s.vacant, d.slot)
		s.matched--
	}
	m.events.forget(d)
	m.events.removed = append(m.events.removed, d.id)
}

// each yields the durables of s, ascending by id.
func (m *Machine) each(s *storeState, yield func(*durableState)) {
	for _, d := range m.durables {
		if d.store == s {
			yield(d)
		}
	}
}
