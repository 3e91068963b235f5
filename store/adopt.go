package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
)

// adoption is what a store becomes.
type adoption struct {
	to, from *storeState
	epoch    uint16 // of the ids that it will give
	counter  uint64
	heirs    []heir
}

// heir is a durable that becomes what was loaded; nil is one that is created.
type heir struct{ to, from *durableState }

// anew tells whether the store opens an epoch: ids that it has given may not name
// other messages. Sessions of before end, since what they were told of is gone.
func (a *adoption) anew() bool { return a.counter == 0 && a.epoch > a.from.epoch }

// loadCommit applies a LoadCommit: all of it, or nothing.
func (m *Machine) loadCommit(c *statepb.LoadCommit) Result {
	g := m.loads.staged
	switch {
	case c.Load != 0 && c.Load == m.loads.done:
		return Result{Duplicate: true}
	case g == nil || g.load != c.Load:
		return noLoad(c.Load)
	case g.next != c.Parts:
		return Result{Code: SequenceGap, Last: g.next, Detail: fmt.Sprintf("%d of %d parts have come", g.next, c.Parts)}
	}
	plan, r := m.planAdoption(g)
	if r.Code != OK {
		m.unstage(true)
		return r
	}
	now := m.running
	for x := g.state.sessions.first; x != nil; x = x.next {
		now = max(now, g.state.running-x.active)
	}
	m.unstage(false)
	for i := range plan {
		m.adopt(&plan[i])
	}
	m.adoptSessions(g, plan, now)
	m.time, m.running, m.session = max(m.time, g.state.time), now, max(m.session, g.state.session)
	m.touchMeta()
	m.loads.before, m.loads.done, m.loads.resumed = m.loads.done, g.load, false
	m.touchLoads()
	m.events.replaced = true
	return Result{}
}

// refuse answers a load that does not fit.
func refuse(format string, args ...any) Result {
	return Result{Code: LoadRefused, Detail: fmt.Sprintf(format, args...)}
}

// planAdoption checks what was loaded, and says what becomes what.
func (m *Machine) planAdoption(g *staging) ([]adoption, Result) {
	if len(g.state.stores) != len(g.targets) {
		return nil, refuse("%d of %d stores have come", len(g.state.stores), len(g.targets))
	}
	if err := g.state.agrees(g.live); err != nil {
		return nil, refuse("%v", err)
	}
	if hash := g.tally.Summary().StateHash; hash != g.hash {
		return nil, refuse("the state hashes to %s, not to %s", hash, g.hash)
	}
	plan := make([]adoption, 0, len(g.targets))
	for i, from := range g.state.stores {
		to, r := m.target(g, i)
		if r.Code != OK {
			return nil, r
		}
		a := adoption{to: to, from: from, epoch: from.epoch, counter: from.counter}
		if to.last() != 0 {
			if a.epoch, a.counter = max(to.epoch, from.epoch), 0; a.epoch == math.MaxUint16 {
				return nil, refuse("store %q has no epochs left", to.spec.name)
			}
			a.epoch++
		}
		for _, d := range g.durables[i] {
			o := to.heir(d.name)
			if why := to.misfit(d.name, d.dynamic, d.options.Kind, d.options.Matcher); why != "" {
				return nil, refuse("%s", why)
			}
			a.heirs = append(a.heirs, heir{to: o, from: d})
		}
		plan = append(plan, a)
	}
	for x := g.state.sessions.first; x != nil; x = x.next {
		if err := m.unopened(x.id, plan[x.store-1].to); err != nil {
			return nil, refuse("%v", err)
		}
	}
	return plan, Result{}
}

// heir is the durable of s that a loaded one of the same name becomes, nil if there
// is none: dynamic ones go with all that the store has.
func (s *storeState) heir(name string) *durableState {
	if o := s.names[name]; o != nil && !o.dynamic {
		return o
	}
	return nil
}

// misfit says why s cannot have a durable that was saved; "" if it can.
func (s *storeState) misfit(name string, dynamic bool, kind durable.Kind, matcher string) string {
	switch o := s.heir(name); {
	case o == nil && !dynamic:
		return fmt.Sprintf("store %q has no durable %q in its definition", s.spec.name, name)
	case o != nil && (o.options.Kind != kind || o.options.Matcher != matcher):
		return fmt.Sprintf("durable %q of store %q is %v with matcher %q, the saved one is %v with matcher %q",
			name, s.spec.name, o.options.Kind, o.options.Matcher, kind, matcher)
	}
	return ""
}

// adopt makes a store what was loaded.
func (m *Machine) adopt(a *adoption) {
	s, f := a.to, a.from
	m.empty(s)
	m.storeTrack.Touch(&s.mark, s.id)
	s.epoch, s.counter, s.messages, s.bytes = a.epoch, a.counter, f.messages, f.bytes
	s.index = f.index
	s.index.move()
	for _, h := range a.heirs {
		d := h.to
		if d == nil {
			m.dynamic++
			d = &durableState{
				id: dynamicBit | m.dynamic, store: s, name: h.from.name, track: &m.durableTrack,
				options: h.from.options, matcher: h.from.matcher, dynamic: true, template: h.from.template,
			}
			m.link(d)
		}
		d.touch()
		d.pending, d.counts, d.marks = h.from.pending, h.from.counts, h.from.marks
		d.pending.Move()
		d.counts.Move()
		d.watermark, d.matched, d.acked = h.from.watermark, h.from.matched, h.from.acked
		d.attach, d.number = h.from.attach, max(d.number, h.from.number)
		m.events.touch(d)
		m.events.attach(d)
	}
}

// empty takes everything out of s but its static durables, which want nothing
// that was published before.
func (m *Machine) empty(s *storeState) {
	var all []*durableState
	m.each(s, func(d *durableState) { all = append(all, d) })
	for _, d := range all {
		m.dropPages(d)
		if d.dynamic {
			m.unlink(d)
			continue
		}
		d.touch()
		d.pending, d.counts, d.marks = durable.Pending{}, durable.Counts{}, durable.Marks{}
		d.watermark, d.handing, d.matched, d.acked = 0, false, 0, 0
	}
	s.index.each(func(b *batch) { m.entries.drop(b.entry, m.applied) })
	m.dropIndex(s)
	m.endSessions(s.id)
}

// move makes x the index of another owner: all its pages are new.
func (x *index) move() {
	x.track = durable.Tracker{}
	for _, p := range x.pages {
		p.mark = durable.Mark{}
		x.track.Touch(&p.mark, p.number)
	}
}

// adoptSessions puts the sessions that were loaded among those there are, in the
// order of their last use. now is R from now on; nobody has been idle for longer
// or shorter than before. A session that goes on at a store that is not replaced,
// because a copy of that store is loaded beside it, stays there.
func (m *Machine) adoptSessions(g *staging, plan []adoption, now int64) {
	l := &m.sessions
	var all []*session
	for x := l.first; x != nil; x = x.next {
		x.active += now - m.running
		all = append(all, x)
	}
	for x := g.state.sessions.first; x != nil; x = x.next {
		a := &plan[x.store-1]
		if a.anew() || l.byID[x.id] != nil {
			continue
		}
		moved := *x
		moved.mark, moved.store = durable.Mark{}, a.to.id
		moved.active = now - (g.state.running - x.active)
		all = append(all, &moved)
		l.byID[moved.id] = &moved
	}
	slices.SortStableFunc(all, func(a, b *session) int { return cmp.Compare(a.active, b.active) })
	l.first, l.last = nil, nil
	for _, x := range all {
		m.used++
		x.used = m.used
		l.push(x)
		l.track.Touch(&x.mark, x.id)
	}
	for len(l.byID) > l.most {
		l.remove(l.first)
	}
}
