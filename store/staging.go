package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// loads is what the machine knows of saved states that are loaded into it.
type loads struct {
	done    uint64   // the load that was committed last; 0 is none
	before  uint64   // the one before done; 0 is none, or not known
	resumed bool     // since done
	staged  *staging // under way; nil is none

	mark  durable.Mark
	track durable.Tracker
}

// staging is a saved state that is being loaded. Its parts come as commands, and
// each leaves the state as a whole: a load goes on under another leader and after
// a restart. What it holds is a machine of its own, whose stores and durables have
// their positions in the file, from 1 on, as ids, and whose batches are where the
// commands are in the log. Nobody sees it before it is complete.
type staging struct {
	load    uint64
	next    uint64 // part
	replace bool
	hash    string
	targets []target
	state   *Machine

	// What follows is not saved: it follows from state.
	tally    *statefile.Tally
	durables [][]*durableState // of each store
	live     []uint64          // of each store: pairs of a durable and a message in batches
}

// target is a store of the file, and the store that becomes it.
type target struct {
	name  string
	store uint64
}

func newStaging() *staging { return &staging{state: New()} }

// loaded builds what is not saved: the tally is that of the records which came so
// far, since these are what the state would be saved as.
func (g *staging) loaded() error {
	g.tally = statefile.NewTally(g.state.session)
	if err := g.state.walk(nil, func(r statefile.Record, _ *batch) error { return g.tally.Put(r) }); err != nil {
		return err
	}
	for _, s := range g.state.stores {
		g.addStore()
		s.index.each(func(b *batch) { g.live[s.id-1] += b.live })
	}
	for _, d := range g.state.durables {
		g.addDurable(d)
	}
	return nil
}

func (g *staging) addStore() {
	g.durables, g.live = append(g.durables, nil), append(g.live, 0)
}

func (g *staging) addDurable(d *durableState) {
	at := d.store.id - 1
	g.durables[at] = append(g.durables[at], d)
}

// AppendPage implements [durable.Source].
func (l *loads) AppendPage(dst []byte, _ uint64) ([]byte, *durable.Mark) {
	g := l.staged
	switch {
	case l.done == 0 && g == nil:
		return dst, nil
	}
	dst = putInts(dst, l.done)
	if l.before != 0 || l.resumed { // versions that did not know this wrote no load 0
		dst = putInts(dst, 0, l.before, flags(l.resumed))
	}
	if g == nil {
		return dst, &l.mark
	}
	dst = putText(putInts(dst, g.load, g.next, flags(g.replace)), g.hash)
	dst = putInts(dst, uint64(len(g.targets)))
	for _, t := range g.targets {
		dst = putInts(putText(dst, t.name), t.store)
	}
	return dst, &l.mark
}

func (l *loads) decode(b []byte) error {
	d := decoder{b: b}
	l.done = d.uint64()
	l.track.Loaded(&l.mark, 0)
	if len(d.b) > 0 && d.b[0] == 0 {
		d.uint64()
		l.before, l.resumed = d.uint64(), d.int(1) == 1
		d.failed = d.failed || l.before == 0 && !l.resumed
	}
	if len(d.b) == 0 {
		return d.end()
	}
	if l.staged == nil {
		l.staged = newStaging()
	}
	g := l.staged
	g.load, g.next, g.replace, g.hash = d.uint64(), d.uint64(), d.int(1) == 1, d.text()
	for n := d.uint64(); n > 0 && !d.failed; n-- {
		g.targets = append(g.targets, target{name: d.text(), store: d.uint64()})
	}
	return d.end()
}

// has reports whether there is a staged page with a key.
func (l *loads) has(kind byte, owner, page uint64) (found bool) {
	if l.staged == nil {
		return false
	}
	l.staged.state.sources(func(k byte, o uint64, _ *durable.Tracker, s durable.Source) {
		if k|pageStaged == kind && o == owner {
			_, mark := s.AppendPage(nil, page)
			found = found || mark != nil
		}
	})
	return found
}

// touchLoads notes that the page of loads changes.
func (m *Machine) touchLoads() { m.loads.track.Touch(&m.loads.mark, 0) }

// Load returns the load that is under way and the part that is wanted next; 0, 0
// if there is none.
func (m *Machine) Load() (load, next uint64) {
	if g := m.loads.staged; g != nil {
		return g.load, g.next
	}
	return 0, 0
}

// LastLoad returns the load that was committed last, 0 if there was none.
func (m *Machine) LastLoad() uint64 { return m.loads.done }

// LoadBefore returns the load that was committed before the last one, 0 if there was
// none or this is not known, and whether the cluster was resumed since the last.
func (m *Machine) LoadBefore() (load uint64, resumed bool) { return m.loads.before, m.loads.resumed }

// untouched reports whether nothing was ever published to s, nor has anybody
// created a durable there.
func (s *storeState) untouched() bool { return s.last() == 0 && s.dynamic == 0 }

func noLoad(load uint64) Result {
	return Result{Code: NoSuchLoad, Detail: fmt.Sprintf("load %016x is not under way", load)}
}

// loadBegin applies a LoadBegin.
func (m *Machine) loadBegin(c *statepb.LoadBegin) Result {
	switch g := m.loads.staged; {
	case c.Load == 0 || len(c.Stores) == 0 || c.Time < 0 || c.LastSession > statefile.MaxCounter:
		return invalid("a load needs a name, a time, stores and sessions that can be")
	case c.Load == m.loads.done:
		return Result{Duplicate: true}
	case g != nil && g.load != c.Load:
		return Result{Code: Loading, Last: g.next, Detail: fmt.Sprintf("load %016x is under way: go on with it, or abort it", g.load)}
	case g != nil && !g.begunBy(c):
		return Result{Code: Loading, Last: g.next, Detail: fmt.Sprintf("load %016x is under way with another state, or into other stores: go on with that, or abort it", g.load)}
	case g != nil:
		return Result{Last: g.next, Duplicate: true}
	case !m.suspended:
		return Result{Code: NotSuspended, Detail: "states are loaded while the cluster is suspended"}
	}
	g := newStaging()
	g.load, g.replace, g.hash = c.Load, c.Replace, c.StateHash
	for i, t := range c.Stores {
		if i > 0 && c.Stores[i-1].Name >= t.Name {
			return invalid(fmt.Sprintf("store %q after %q", t.Name, c.Stores[i-1].Name))
		}
		for _, other := range g.targets {
			if other.store == t.Store {
				return invalid(fmt.Sprintf("stores %q and %q become the same", other.name, t.Name))
			}
		}
		g.targets = append(g.targets, target{name: t.Name, store: t.Store})
		if _, r := m.target(g, i); r.Code != OK {
			return r
		}
	}
	g.state.time, g.state.session = c.Time, c.LastSession
	g.state.sessions.most, g.state.sessions.idle = m.sessions.most, m.sessions.idle
	g.state.running = m.sessions.idle // no session has been idle for longer
	g.state.touchMeta()
	g.tally = statefile.NewTally(c.LastSession)
	m.loads.staged = g
	m.touchLoads()
	// Who opens a session meanwhile gets none that the load brings.
	m.session = max(m.session, c.LastSession)
	// What was delivered is none of what is loaded: nobody acknowledges it from here on.
	m.events.replaced = true
	return Result{}
}

// begunBy reports whether a LoadBegin is the one that began the load.
func (g *staging) begunBy(c *statepb.LoadBegin) bool {
	return g.hash == c.StateHash && g.replace == c.Replace && g.state.time == c.Time && g.state.session == c.LastSession &&
		slices.EqualFunc(g.targets, c.Stores, func(have target, t *statepb.LoadTarget) bool {
			return have.name == t.Name && have.store == t.Store
		})
}

// target returns the store that becomes that at a position of the file.
func (m *Machine) target(g *staging, at int) (*storeState, Result) {
	t := g.targets[at]
	s := m.store(t.store)
	switch {
	case s == nil:
		return nil, Result{Code: NoSuchStore, Detail: fmt.Sprintf("store %d, which %q is to become, does not exist", t.store, t.name)}
	case !g.replace && !s.untouched():
		return nil, Result{Code: NotEmpty, Detail: fmt.Sprintf("store %q has given ids up to %v and has %d dynamic durables", s.spec.name, s.last(), s.dynamic)}
	}
	return s, Result{}
}

// loadAbort applies a LoadAbort.
func (m *Machine) loadAbort(load uint64) Result {
	if g := m.loads.staged; g == nil || g.load != load {
		return noLoad(load)
	}
	m.unstage(true)
	return Result{}
}

// unstage forgets what was loaded. Without entries, its batches stay needed: they
// are in other hands.
func (m *Machine) unstage(entries bool) {
	g := m.loads.staged
	g.state.keys(func(kind byte, owner, page uint64) { m.forgetPage(kind|pageStaged, owner)(page) })
	if entries {
		for _, s := range g.state.stores {
			s.index.each(func(b *batch) { m.entries.drop(b.entry, m.applied) })
		}
	}
	m.touchLoads()
	if m.loads.staged = nil; m.loads.done == 0 {
		m.loads.track.Drop(&m.loads.mark, 0)
	}
}

// keys yields the key of every page that m has or that may be saved of it.
func (m *Machine) keys(yield func(kind byte, owner, page uint64)) {
	m.sources(func(kind byte, owner uint64, t *durable.Tracker, _ durable.Source) {
		t.Keys(func(page uint64) { yield(kind, owner, page) })
	})
	yield(pageMeta, 0, 0)
	for _, s := range m.stores {
		yield(pageStore, 0, s.id)
		for _, p := range s.index.pages {
			yield(pageIndex, s.id, p.number)
		}
	}
	for _, d := range m.durables {
		yield(pageDurable, 0, d.id)
		d.pending.Pages(func(page uint64) { yield(pagePending, d.id, page) })
		d.counts.Pages(func(page uint64) { yield(pageCounts, d.id, page) })
	}
	for x := m.sessions.first; x != nil; x = x.next {
		yield(pageSession, 0, x.id)
	}
}

// loadPart applies a LoadPart.
func (m *Machine) loadPart(c []byte, index uint64, offset uint32) Result {
	if len(c) < partHeader {
		return invalid("part of a load is cut off")
	}
	le := binary.LittleEndian
	load, number := le.Uint64(c[1:]), le.Uint64(c[9:])
	g := m.loads.staged
	switch {
	case g == nil || g.load != load:
		return noLoad(load)
	case number < g.next:
		return Result{Last: g.next, Duplicate: true}
	case number > g.next:
		return Result{Code: SequenceGap, Last: g.next, Detail: fmt.Sprintf("part %d follows %d", number, g.next)}
	}
	content := c[partHeader:]
	var records statefile.Records
	records.Start(statefile.Section(c[17]), le.Uint32(c[18:]), content)
	for {
		r, err := records.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = g.tally.Put(r)
		}
		if err == nil {
			err = m.stage(r, index, offset+partHeader+uint32(records.Offset()))
		}
		if err != nil {
			m.unstage(true)
			return Result{Code: LoadRefused, Detail: fmt.Sprintf("part %d: %v", number, err)}
		}
	}
	g.next++
	m.touchLoads()
	return Result{Last: g.next}
}

// stage adds a record, which the tally has found where it belongs, and which ends
// at a place in the entry at index.
func (m *Machine) stage(r statefile.Record, index uint64, end uint32) error {
	g := m.loads.staged
	switch r := r.(type) {
	case *statefile.Batch:
		return m.stageBatch(r, index, end-r.Len)
	case *statefile.Session:
		if err := m.unopened(r.ID, m.store(g.targets[r.Store].store)); err != nil {
			return err
		}
	}
	return g.put(r)
}

// unopened reports whether a session that is loaded, for a store, is one that is
// open here: two publishers would share it. One that is open for another store stays
// there: a store is loaded beside the one that it was saved from.
func (m *Machine) unopened(id uint64, to *storeState) error {
	x := m.sessions.byID[id]
	if x == nil || to != nil && (to.last() != 0 || x.store != to.id) { // the sessions of a store that is replaced are not loaded
		return nil
	}
	return fmt.Errorf("session %d is open here, for store %d: load where no publisher is connected", id, x.store)
}

// stageBatch adds a batch that is at offset in the entry at index. Pending sets
// came before, so it is known who wants it.
func (m *Machine) stageBatch(r *statefile.Batch, index uint64, offset uint32) error {
	g := m.loads.staged
	state, s := g.state, g.state.stores[r.Store]
	b := batch{first: r.First, entry: index, stamp: r.Stamp, count: r.Count, offset: offset, bytes: r.Len}
	p, err := message.OpenBatch(r.Bytes)
	if err != nil {
		return fmt.Errorf("batch %v: %w", r.First, err)
	}
	if p.Count() != int(r.Count) || r.Stamp > state.time || r.Stamp < s.index.stamp() {
		return fmt.Errorf("batch %v of %d messages does not fit the others", r.First, r.Count)
	}
	for _, d := range g.durables[r.Store] {
		d.pending.Runs(b.first, b.last(), func(_ message.ID, n uint64) bool {
			b.live += n
			return true
		})
	}
	if b.live == 0 {
		return fmt.Errorf("nobody wants anything of batch %v", r.First)
	}
	state.storeTrack.Touch(&s.mark, s.id) // it knows how many batches there are
	s.index.add(b)
	messages, size := b.usage()
	s.messages += messages
	s.bytes += size
	g.live[r.Store] += b.live
	m.entries.add(index)
	return nil
}

// stamp returns the stamp of the last batch, 0 if there is none.
func (x *index) stamp() int64 {
	if len(x.pages) == 0 {
		return 0
	}
	p := x.pages[len(x.pages)-1]
	x.open(p)
	return p.batches[len(p.batches)-1].stamp
}

// put adds a record that is no batch.
func (g *staging) put(r statefile.Record) error {
	switch r := r.(type) {
	case *statefile.Store:
		n := len(g.state.stores)
		if n == len(g.targets) || g.targets[n].name != r.Name {
			return fmt.Errorf("store %q was not announced", r.Name)
		}
		s := newStore(uint64(n) + 1)
		s.spec.name, s.epoch, s.counter = r.Name, r.Epoch, r.Counter
		g.state.stores = append(g.state.stores, s)
		g.state.storeTrack.Touch(&s.mark, s.id)
		g.addStore()
		return nil
	case *statefile.Durable:
		return g.putDurable(r)
	case *statefile.Counts:
		d := g.state.durables[r.Durable]
		for _, e := range r.Ended {
			if !d.pending.Contains(e.ID) {
				return fmt.Errorf("a count of message %v in durable %q, where it is not pending", e.ID, d.name)
			}
			d.counts.Append(e.ID, e.Times)
		}
		return nil
	case *statefile.Pending:
		d := g.state.durables[r.Durable]
		for _, run := range r.Runs {
			d.pending.AddRange(run.First, run.N)
		}
		return nil
	case *statefile.Session:
		return g.putSession(r)
	}
	return fmt.Errorf("a record of %v", r.Section())
}

func (g *staging) putDurable(r *statefile.Durable) error {
	if err := r.Sound(); err != nil {
		return err
	}
	options, matcher, err := durable.Options{Kind: r.Kind, Matcher: r.Matcher, Prefetch: r.Prefetch}.Canonical()
	if err != nil {
		return err
	}
	d := &durableState{
		id: uint64(len(g.state.durables)) + 1, store: g.state.stores[r.Store], name: r.Name, track: &g.state.durableTrack,
		options: options, matcher: matcher, dynamic: r.Dynamic, template: r.Template,
		watermark: r.Watermark, matched: r.Matched, acked: r.Acked, number: r.Attachments,
		attach: Attachment{Number: r.Attachment[0], Process: r.Attachment[1], Nonce: r.Attachment[2]},
	}
	if _, err := d.marks.Load(r.Marks); err != nil {
		return err
	}
	g.state.link(d)
	g.addDurable(d)
	d.touch()
	return nil
}

func (g *staging) putSession(r *statefile.Session) error {
	m := g.state
	active := m.running - r.Idle
	if l := m.sessions.last; r.Idle > m.sessions.idle || l != nil && l.active > active || len(m.sessions.byID) >= m.sessions.most {
		return fmt.Errorf("session %d of store %d, idle for %d ns: it cannot be", r.ID, r.Store, r.Idle)
	}
	x := &session{id: r.ID, store: uint64(r.Store) + 1, last: r.Last, attempt: r.Attempt, closed: r.Closed}
	x.outcomes = make([]outcome, len(r.Outcomes))
	for i, o := range r.Outcomes {
		at := (r.Last - uint64(len(r.Outcomes)-i)) % maxOutcomes
		x.outcomes[at] = outcome{first: o.First, count: o.Count, interested: o.Interested, sum: o.Sum}
	}
	m.sessions.byID[x.id] = x
	m.sessions.push(x)
	m.useSession(x)
	x.active = active
	m.touchMeta()
	return nil
}
