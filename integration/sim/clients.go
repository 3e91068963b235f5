package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/integration/model"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

const (
	kindStandard = 1
	kindShared   = 2
	groups       = 4 // values of the field that matchers ask for
)

// clients is everybody outside of the servers.
type clients struct {
	publishers    []*publisher
	subscribers   []*subscriber
	conns         []*conn
	links         []*link // attached
	subscriptions uint64
	batches       map[uint64]*model.Batch // by hash of the bytes
	numbers       uint64
	definition    statepb.Deploy
	created       int
	poisoned      map[string]bool
	builder       message.Builder
	suspends      bool // the operator wants the cluster suspended
}

// openClients makes the publishers and subscribers of a run. They come to life
// with its first steps.
func (w *world) openClients() {
	w.batches, w.poisoned = map[uint64]*model.Batch{}, map[string]bool{}
	w.define()
	w.deployNow()
	if w.setup.suspend > 0 {
		w.operate()
	}
	id := uint64(100)
	for i := range w.setup.publishers {
		id++
		p := &publisher{w: w, id: id, store: uint64(1 + i%2), first: 1, most: 1 + w.rng.IntN(8)}
		if w.chance(0.2) {
			p.most = 64
		}
		w.publishers = append(w.publishers, p)
	}
	if w.setup.dropStore {
		w.publishers = append(w.publishers, &publisher{w: w, id: id + 1, store: passing, first: 1, most: 4})
		w.after(w.draw(int64(w.opts.Steps)*w.setup.pace), w.dropStore)
	}
	for _, s := range w.definition.Stores {
		for _, d := range s.Durables {
			n := 1
			if d.Kind == kindShared {
				n = 1 + w.rng.IntN(3)
			}
			for range n {
				w.addSubscriber(d.Id, d.Kind == kindStandard)
			}
		}
	}
}

func (w *world) addSubscriber(durable uint64, standard bool) {
	s := &subscriber{
		w: w, id: 200 + uint64(len(w.subscribers)), process: w.rng.Uint64(), durable: durable, standard: standard,
		flights: map[uint64][]uint64{},
	}
	if w.step == 0 && w.fault(w.setup.lazy) {
		s.quiet = w.now + w.draw(int64(w.opts.Steps)*w.setup.pace)
	}
	w.subscribers = append(w.subscribers, s)
	w.after(w.draw(100*ms), s.connect)
}

// define draws the first definition.
func (w *world) define() {
	next := uint64(0)
	durable := func(name string, kind uint32) *statepb.Durable {
		next++
		d := &statepb.Durable{Id: next, Name: name, Kind: kind}
		if w.chance(0.4) {
			d.Matcher = w.matcher()
		}
		return d
	}
	stores := 2
	if w.setup.dropStore {
		stores = passing
	}
	for i := range stores {
		s := &statepb.Store{Id: uint64(i + 1), Name: fmt.Sprintf("store-%d", i+1)}
		s.Durables = append(s.Durables, durable("audit", kindStandard), durable("delays", kindShared))
		if w.chance(0.5) {
			s.Durables = append(s.Durables, durable("more", uint32(1+w.rng.IntN(2))))
		}
		if w.setup.limit {
			s.MessageLimit = 20 + w.rng.Uint64N(200)
			if w.chance(0.5) {
				s.ByteLimit = 2000 + w.rng.Uint64N(20000)
			}
		}
		w.definition.Stores = append(w.definition.Stores, s)
	}
	w.created = int(next)
}

// passing is the id of a store that may be there only for a while.
const passing = 3

// dropStore deletes a store, with everything in it and everybody at it.
func (w *world) dropStore() {
	if w.healed {
		return
	}
	w.definition.Stores = w.definition.Stores[:passing-1]
	w.publishers = slices.DeleteFunc(w.publishers, func(p *publisher) bool {
		if p.store == passing {
			p.over = true
		}
		return p.over
	})
	w.deployNow()
	w.seen.hit(StoreDropped)
}

// poison proposes what no client would.
func (w *world) poison() {
	n := w.leaderOf()
	if n == nil {
		return
	}
	kinds := []byte{kindPublish, kindSettle, kindRelease, kindWatermark, kindOpenSession, kindCreateDurable, kindAttach, kindDeploy, kindChecksum, kindTick, kindSuspend}
	var c []byte
	if w.chance(0.9) {
		c = append(c, kinds[w.rng.IntN(len(kinds))], 0xff, 0xff, 0xff)
	}
	w.poisoned[string(c)] = true
	n.propose(c, func(r store.Result, err error) {
		if err == nil && r.Code != store.Invalid {
			w.judge.Failf("the command %x is answered %v: %s", c, r.Code, r.Detail)
		}
	})
}

// sprinkle publishes a batch without a session: once, whatever comes of it.
func (w *world) sprinkle() {
	n := w.leaderOf()
	if n == nil {
		return
	}
	b := w.makeBatch(1 + w.rng.Uint64N(2))
	n.propose(store.AppendPublish(nil, b.to, 0, 0, 0, b.data), func(r store.Result, err error) {
		switch {
		case err == nil && r.Code == store.OK:
			w.judge.Confirmed(b.Batch, uint64(r.First))
		case err == nil, w.opts.Mutant == UnknownRefused, errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrStopped):
			w.judge.Refused(b.Batch)
		}
	})
}

// redefine changes the definition a little.
func (w *world) redefine() {
	s := w.definition.Stores[w.rng.IntN(2)]
	if w.setup.limit {
		s.MessageLimit = 20 + w.rng.Uint64N(300)
	}
	switch n := len(s.Durables); {
	case n < 5 && w.chance(0.6):
		w.created++
		d := &statepb.Durable{Id: uint64(w.created), Name: fmt.Sprintf("static-%d", w.created), Kind: uint32(1 + w.rng.IntN(2))}
		s.Durables = append(s.Durables, d)
		w.addSubscriber(d.Id, d.Kind == kindStandard)
	case n > 1:
		i := w.rng.IntN(n)
		s.Durables = slices.Delete(s.Durables, i, i+1)
	}
	w.deployNow()
}

// deployNow brings the definition into the log, however long it takes.
func (w *world) deployNow() {
	w.definition.Revision++
	w.deployAgain(w.definition.Revision, store.AppendDeploy(nil, &w.definition))
}

func (w *world) deployAgain(revision uint64, command []byte) {
	again := func() {
		if revision == w.definition.Revision {
			w.after(20*ms, func() { w.deployAgain(revision, command) })
		}
	}
	n := w.leaderOf()
	if n == nil {
		again()
		return
	}
	answered, term := false, uint64(0)
	if w.chance(0.5) {
		term = n.leads // decided in this term, and void in any other
	}
	n.proposeIn(term, command, func(r store.Result, err error) {
		answered = true
		switch {
		case err != nil, r.Code == store.Suspended: // it deletes something
			again()
		case r.Code != store.OK && r.Code != store.Stale:
			w.judge.Failf("deploying revision %d is answered %v: %s", revision, r.Code, r.Detail)
		}
	})
	w.after(clientTimeout, func() {
		if !answered {
			again()
		}
	})
}

// expected reports whether a durable is there, or will be when the definition is
// deployed.
func (w *world) expected(durable uint64) bool {
	for _, s := range w.definition.Stores {
		if slices.ContainsFunc(s.Durables, func(d *statepb.Durable) bool { return d.Id == durable }) {
			return true
		}
	}
	return w.judge.Machine.Durables[durable] != nil
}

func (w *world) matcher() string { return fmt.Sprintf(`{"g":%d}`, w.rng.IntN(groups)) }

// interestOf reads the matchers of this package.
func interestOf(matcher string) model.Interest {
	var g int
	if _, err := fmt.Sscanf(matcher, `{"g":%d}`, &g); err != nil {
		return model.Interest{All: true}
	}
	return model.Interest{Group: g}
}

func definitionOf(p *statepb.Deploy) (out []model.Definition) {
	for _, s := range p.Stores {
		d := model.Definition{ID: s.Id, MessageLimit: s.MessageLimit, ByteLimit: s.ByteLimit}
		for _, x := range s.Durables {
			d.Durables = append(d.Durables, model.Static{ID: x.Id, Name: x.Name, Standard: x.Kind == kindStandard, Interest: interestOf(x.Matcher)})
		}
		out = append(out, d)
	}
	return out
}

// create makes a dynamic durable and subscribes it.
func (w *world) create() {
	n := w.leaderOf()
	if n == nil {
		return
	}
	w.created++
	name := fmt.Sprintf("dynamic-%d", w.rng.IntN(4))
	c := &statepb.CreateDurable{Store: uint64(1 + w.rng.IntN(2)), Name: name, Kind: uint32(1 + w.rng.IntN(2))}
	if w.chance(0.4) {
		c.Matcher = w.matcher()
	}
	n.propose(store.AppendCreateDurable(nil, c), func(r store.Result, err error) {
		if err == nil && r.Code == store.OK {
			w.seen.hit(DurableCreated)
			w.addSubscriber(r.Durable, c.Kind == kindStandard)
		}
	})
}

// remove deletes a dynamic durable.
func (w *world) remove() {
	n := w.leaderOf()
	if n == nil || len(w.subscribers) == 0 {
		return
	}
	if s := w.subscribers[w.rng.IntN(len(w.subscribers))]; s.durable>>63 == 1 {
		n.propose(store.AppendDeleteDurable(nil, s.durable), func(r store.Result, err error) {
			if err == nil && r.Code == store.OK {
				w.seen.hit(DurableDeleted)
			}
		})
	}
}

// makeBatch makes a batch that nobody made before, perhaps damaged.
func (w *world) makeBatch(to uint64) *outgoing {
	n := 1 + w.rng.IntN(20)
	if w.chance(0.3) {
		n = 1
	}
	b := &model.Batch{}
	w.builder.Reset()
	for range n {
		w.numbers++
		size := 8 + w.rng.IntN(40)
		if w.chance(0.02) {
			size = 3000
		} else if w.chance(w.setup.large) {
			size = 70_000
			if w.chance(0.1) {
				size = 400_000 // more than a message of Raft takes
			}
		}
		body := make([]byte, size)
		binary.LittleEndian.PutUint64(body, w.numbers)
		for i := 8; i < size; i += 8 {
			body[i] = byte(w.rng.Uint32())
		}
		g := w.rng.IntN(groups)
		m := message.Message{Body: body}
		m.SetInt("g", int64(g))
		if err := w.builder.Add(&m); err != nil {
			w.judge.Failf("a message of %d bytes does not fit: %w", size, err)
		}
		c := model.Content{Number: w.numbers, Sum: contentSum(&m), Group: g}
		w.judge.Publishing(to, c)
		b.Messages = append(b.Messages, c)
	}
	pack := message.Compression(max(0, w.rng.IntN(5)-2))
	data := w.builder.AppendTo(nil, message.Options{Head: pack, Body: pack})
	if w.fault(w.setup.corrupt) {
		// Cut off: what has wrong checksums a server does not propose.
		data = data[:w.rng.IntN(len(data))]
		b.Corrupt = true
	}
	b.Bytes, b.Sum = uint64(len(data)), xxhash.Sum64(data)
	w.batches[b.Sum] = b
	return &outgoing{Batch: b, data: data, to: to}
}

// contentSum is a hash of what is in a message.
func contentSum(m *message.Message) uint64 {
	sum := xxhash.Sum64(m.Body)
	if v, ok := m.Get("g"); ok {
		g, _ := v.AsInt()
		sum = sum*31 + uint64(g)
	}
	return sum
}

func (w *world) attached(l *link) { w.links = append(w.links, l) }

// left notes that a subscription is over at its server.
func (w *world) left(l *link) {
	w.judge.Left(l.sub.ID)
	w.links = slices.DeleteFunc(w.links, func(o *link) bool { return o == l })
}

// act lets clients do something.
func (w *world) act() {
	for _, p := range w.publishers {
		if w.chance(w.setup.publish) {
			p.act()
		}
	}
	switch s := w.subscribers[w.rng.IntN(len(w.subscribers))]; {
	case w.fault(w.setup.silentDeath):
		s.dies()
	case w.fault(w.setup.takeOver) && s.standard && !s.over:
		w.addSubscriber(s.durable, true)
	}
	if len(w.conns) > 0 && w.fault(w.setup.cutStream) {
		w.conns[w.rng.IntN(len(w.conns))].breaks(w.chance(0.3))
		w.sweepConns()
	}
	if w.fault(w.setup.poison) {
		w.poison()
	}
	if w.fault(w.setup.sprinkle) {
		w.sprinkle()
	}
	if w.fault(w.setup.create) {
		w.create()
	}
	if w.fault(w.setup.remove) {
		w.remove()
	}
	if w.fault(w.setup.deploy) {
		w.redefine()
	}
	if !w.suspends && w.fault(w.setup.suspend) {
		w.suspend()
	}
	if w.fault(w.setup.backup) {
		w.backup()
	}
}
