package model

import (
	"fmt"
	"slices"
)

// sessionIdle is how long, in running time, an unused session is kept.
const sessionIdle = int64(3600 * 1e9)

// caughtUp is how far a durable may be behind for a publish to raise its
// watermark.
const caughtUp = 1024

// Machine is what the log means: stores, durables and sessions in the plainest
// form. Every method is one command; it returns an error if the result that the
// replicas gave is not the one that follows from the rules.
type Machine struct {
	Stores   map[uint64]*Store
	Durables map[uint64]*Durable

	sessions map[uint64]*session
	opened   uint64 // last session id
	named    uint64 // last dynamic durable's number
	revision uint64
	term     uint64
	time     int64
	running  int64

	Suspended bool
}

// Store is one store.
type Store struct {
	Last         uint64 // id
	MessageLimit uint64
	ByteLimit    uint64
	batches      []batch // ascending, those that somebody needs
}

type batch struct {
	first, count, bytes, live uint64
}

// Durable is one durable.
type Durable struct {
	Store     uint64
	Name      string
	Interest  Interest
	Standard  bool
	Dynamic   bool
	Pending   map[uint64]struct{}
	Ended     map[uint64]uint32 // of pending messages, above 0
	marks     []uint64          // watermarks at changes of leader
	Watermark uint64
	handing   bool // the present leader said that it delivers
	attached  Attachment
	number    uint64
}

// Attachment is who holds a standard durable.
type Attachment struct{ Number, Process, Nonce uint64 }

// Interest is what a durable wants: every message, or those of one group.
type Interest struct {
	All   bool
	Group int
}

func (i Interest) wants(m Content) bool { return i.All || i.Group == m.Group }

// Content is a message as its publisher made it.
type Content struct {
	Number uint64 // unique in a run
	Sum    uint64 // of everything in it
	Group  int
}

// Result is what a command was answered. Code is in words.
type Result struct {
	Code                           string
	Interested, Duplicate, Created bool
	Count                          uint32
	First                          uint64
	Attempt                        uint32
	Session, Last, Durable, Attach uint64
}

func newMachine() *Machine {
	return &Machine{Stores: make(map[uint64]*Store), Durables: make(map[uint64]*Durable), sessions: make(map[uint64]*session)}
}

// Advance begins an entry.
func (m *Machine) Advance(term uint64, stamp int64) {
	now := max(m.time, stamp)
	if term == m.term && !m.Suspended {
		m.running += now - m.time
	}
	m.time = now
	if term > m.term {
		m.term = term
		for _, d := range m.Durables {
			d.mark(m.Stores[d.Store].Last)
		}
	}
	for id, x := range m.sessions {
		if m.running-x.active > sessionIdle {
			delete(m.sessions, id)
		}
	}
}

// Suspend has the cluster refuse what is new, and R stand still, until Resume.
func (m *Machine) Suspend(r Result) error {
	m.Suspended = true
	return want("suspend", r, Result{Code: "ok"})
}

// Resume undoes Suspend.
func (m *Machine) Resume(r Result) error {
	m.Suspended = false
	return want("resume", r, Result{Code: "ok"})
}

// Running returns R, the time that does not count changes of leader, nor that in
// which the cluster was suspended.
func (m *Machine) Running() int64 { return m.running }

func (d *Durable) mark(last uint64) {
	handed := d.handing
	d.handing = false
	if !handed {
		return
	}
	at := min(d.Watermark, last)
	if len(d.Pending) == 0 || at < d.floor() {
		return
	}
	if n := len(d.marks); n > 0 {
		at = max(at, d.marks[n-1])
	}
	d.marks = append(d.marks, at)
}

func (d *Durable) floor() uint64 {
	low := uint64(0)
	for id := range d.Pending {
		if low == 0 || id < low {
			low = id
		}
	}
	return low
}

// Possible is how often a message may have been delivered by leaders that are
// gone.
func (d *Durable) Possible(id uint64) (n uint32) {
	for _, at := range d.marks {
		if at >= id {
			n++
		}
	}
	return n
}

// Definition is what a realm says of one store.
type Definition struct {
	ID                      uint64
	MessageLimit, ByteLimit uint64
	Durables                []Static
}

// Static is a durable of a definition.
type Static struct {
	ID       uint64
	Name     string
	Standard bool
	Interest Interest
}

// Deploy applies a definition. It is sound, and its names are not those of
// dynamic durables.
func (m *Machine) Deploy(revision uint64, stores []Definition, r Result) error {
	if revision <= m.revision {
		return want("deploy", r, Result{Code: "stale", Last: m.revision})
	}
	if m.Suspended && m.deletes(stores) {
		return want("deploy", r, Result{Code: "suspended"})
	}
	m.revision = revision
	keep := map[uint64]bool{}
	for _, s := range stores {
		if m.Stores[s.ID] == nil {
			m.Stores[s.ID] = &Store{}
		}
		m.Stores[s.ID].MessageLimit, m.Stores[s.ID].ByteLimit = s.MessageLimit, s.ByteLimit
		for _, d := range s.Durables {
			keep[d.ID] = true
			if m.Durables[d.ID] == nil {
				m.Durables[d.ID] = newDurable(s.ID, d.Name, d.Interest, d.Standard)
			}
		}
	}
	for id, d := range m.Durables {
		if !d.Dynamic && !keep[id] {
			m.drop(id)
		}
	}
	for id := range m.Stores {
		if !slices.ContainsFunc(stores, func(s Definition) bool { return s.ID == id }) {
			m.dropStore(id)
		}
	}
	return want("deploy", r, Result{Code: "ok"})
}

// deletes reports whether a definition leaves out a store, or a static durable.
func (m *Machine) deletes(stores []Definition) bool {
	keep := map[uint64]bool{}
	for _, s := range stores {
		for _, d := range s.Durables {
			keep[d.ID] = true
		}
	}
	for id, d := range m.Durables {
		if !d.Dynamic && !keep[id] {
			return true
		}
	}
	for id := range m.Stores {
		if !slices.ContainsFunc(stores, func(s Definition) bool { return s.ID == id }) {
			return true
		}
	}
	return false
}

// dropStore deletes a store and everything in it.
func (m *Machine) dropStore(id uint64) {
	for k, d := range m.Durables {
		if d.Store == id {
			delete(m.Durables, k)
		}
	}
	for k, x := range m.sessions {
		if x.store == id {
			delete(m.sessions, k)
		}
	}
	delete(m.Stores, id)
}

func newDurable(store uint64, name string, i Interest, standard bool) *Durable {
	return &Durable{Store: store, Name: name, Interest: i, Standard: standard, Pending: map[uint64]struct{}{}, Ended: map[uint64]uint32{}}
}

// dynamic is set in the ids of durables that subscribers created.
const dynamic = 1 << 63

// CreateDurable creates a dynamic durable or finds the one of that name; the
// caller asks for it as it is.
func (m *Machine) CreateDurable(store uint64, name string, standard bool, i Interest, r Result) error {
	if m.Stores[store] == nil {
		return want("create durable", r, Result{Code: "no such store"})
	}
	for id, d := range m.Durables {
		if d.Store != store || d.Name != name {
			continue
		}
		code := "ok"
		if d.Standard != standard {
			code = "kind mismatch"
		} else if !i.All && d.Interest != i {
			code = "matcher mismatch"
		}
		return want("create durable", r, Result{Code: code, Durable: id})
	}
	if m.Suspended {
		return want("create durable", r, Result{Code: "suspended"})
	}
	m.named++
	id := dynamic | m.named
	d := newDurable(store, name, i, standard)
	d.Dynamic = true
	m.Durables[id] = d
	return want("create durable", r, Result{Code: "ok", Durable: id, Created: true})
}

// DeleteDurable deletes a dynamic durable.
func (m *Machine) DeleteDurable(id uint64, r Result) error {
	switch d := m.Durables[id]; {
	case d == nil:
		return want("delete durable", r, Result{Code: "no such durable", Durable: id})
	case !d.Dynamic:
		return want("delete durable", r, Result{Code: "static durable", Durable: id})
	case m.Suspended:
		return want("delete durable", r, Result{Code: "suspended"})
	}
	m.drop(id)
	return want("delete durable", r, Result{Code: "ok", Durable: id})
}

func (m *Machine) drop(id uint64) {
	d := m.Durables[id]
	s := m.Stores[d.Store]
	for at := range d.Pending {
		s.release(at)
	}
	s.sweep()
	delete(m.Durables, id)
}

// Attach makes a subscriber the holder of a standard durable.
func (m *Machine) Attach(id, process, nonce uint64, r Result) error {
	d := m.Durables[id]
	switch {
	case d == nil:
		return want("attach", r, Result{Code: "no such durable", Durable: id})
	case !d.Standard:
		return want("attach", r, Result{Code: "kind mismatch", Durable: id})
	case d.attached.Number != 0 && d.attached.Process == process && d.attached.Nonce == nonce:
		return want("attach", r, Result{Code: "ok", Durable: id, Attach: d.attached.Number})
	case m.Suspended:
		return want("attach", r, Result{Code: "suspended"})
	}
	d.number++
	d.attached = Attachment{d.number, process, nonce}
	return want("attach", r, Result{Code: "ok", Durable: id, Attach: d.number})
}

// Detach ends an attachment.
func (m *Machine) Detach(id, attach uint64, r Result) error {
	d := m.Durables[id]
	switch {
	case d == nil:
		return want("detach", r, Result{Code: "no such durable", Durable: id})
	case attach == 0 || d.attached.Number != attach:
		return want("detach", r, Result{Code: "detached", Durable: id, Attach: d.attached.Number})
	}
	d.attached = Attachment{}
	return want("detach", r, Result{Code: "ok", Durable: id})
}

// Range is the ids from First to Last, both included.
type Range struct{ First, Last uint64 }

// Settle ends the interest of a durable in messages.
func (m *Machine) Settle(id uint64, ranges []Range, r Result) error {
	d := m.Durables[id]
	if d == nil {
		return want("settle", r, Result{Code: "no such durable", Durable: id})
	}
	s := m.Stores[d.Store]
	for _, at := range ranges {
		for i := at.First; i <= min(at.Last, s.Last); i++ {
			if _, ok := d.Pending[i]; ok {
				delete(d.Pending, i)
				delete(d.Ended, i)
				s.release(i)
			}
		}
	}
	s.sweep()
	return want("settle", r, Result{Code: "ok", Durable: id})
}

// Release counts deliveries that ended without an acknowledgement.
func (m *Machine) Release(id uint64, ranges []Range, counted bool, r Result) error {
	d := m.Durables[id]
	if d == nil {
		return want("release", r, Result{Code: "no such durable", Durable: id})
	}
	for _, at := range ranges {
		for i := at.First; counted && i <= min(at.Last, m.Stores[d.Store].Last); i++ {
			if _, ok := d.Pending[i]; ok {
				d.Ended[i]++
			}
		}
	}
	return want("release", r, Result{Code: "ok", Durable: id})
}

// RaiseWatermark lets the leader deliver up to an id.
func (m *Machine) RaiseWatermark(id, at uint64, r Result) error {
	d := m.Durables[id]
	if d == nil {
		return want("watermark", r, Result{Code: "no such durable", Durable: id})
	}
	d.Watermark, d.handing = max(d.Watermark, at), true
	return want("watermark", r, Result{Code: "ok", Durable: id})
}

// release takes one pending pair from the message with an id.
func (s *Store) release(id uint64) {
	i, ok := slices.BinarySearchFunc(s.batches, id, func(b batch, id uint64) int {
		switch {
		case b.first+b.count-1 < id:
			return -1
		case b.first > id:
			return 1
		}
		return 0
	})
	if ok {
		s.batches[i].live--
	}
}

func (s *Store) sweep() {
	s.batches = slices.DeleteFunc(s.batches, func(b batch) bool { return b.live == 0 })
}

// Usage is what counts for the limits of a store.
func (s *Store) Usage() (messages, bytes uint64) {
	for _, b := range s.batches {
		n := min(b.count, b.live)
		messages += n
		bytes += n * share(b.bytes, b.count)
	}
	return messages, bytes
}

// full reports whether a store cannot hold so much more.
func (s *Store) full(more, moreBytes uint64) bool {
	if s.MessageLimit == 0 && s.ByteLimit == 0 {
		return false
	}
	messages, bytes := s.Usage()
	return s.MessageLimit > 0 && messages+more > s.MessageLimit || s.ByteLimit > 0 && bytes+moreBytes > s.ByteLimit
}

func share(bytes, n uint64) uint64 { return (bytes + n - 1) / n }

// want compares the result of a command with the one that follows from the
// rules.
func want(what string, got, want Result) error {
	if got != want {
		return fmt.Errorf("%s: answered %+v, want %+v", what, got, want)
	}
	return nil
}
