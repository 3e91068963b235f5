package service

import (
	"slices"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// The ids of what every rig deploys.
const (
	flights = 1 // store
	audit   = 11
	delays  = 12
)

const millisecond = int64(1e6)

// rig is a replica around a service, as small as it can be: it makes entries of
// what the service and others want, keeps them until they are committed, and
// applies them in order.
type rig struct {
	t     testing.TB
	s     *Service
	index uint64
	term  uint64
	mono  int64
	log   []sealed // sealed, not applied
	next  uint64   // ids of subscriptions
}

type sealed struct {
	entry    cluster.Entry
	internal int
}

// newRig returns a service that leads, with store flights and two durables.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, s: New(), mono: 1e9}
	r.lead()
	r.run(store.AppendDeploy(nil, &statepb.Deploy{Revision: 1, Stores: []*statepb.Store{{
		Id: flights, Name: "flights", Durables: []*statepb.Durable{
			{Id: audit, Name: "audit", Kind: uint32(durable.KindStandard)},
			{Id: delays, Name: "delays", Kind: uint32(durable.KindShared)},
		},
	}}}))
	return r
}

func (r *rig) now() cluster.Now { return cluster.Now{Mono: r.mono, Wall: 1e18 + r.mono} }

// lead begins the next term with its empty entry, as Raft does.
func (r *rig) lead() {
	r.t.Helper()
	r.term++
	r.index++
	r.apply(cluster.Entry{Index: r.index, Term: r.term, Stamp: 1e18 + r.mono})
	r.s.Lead(r.term, r.now())
}

// unlead ends the leadership; what was sealed is lost.
func (r *rig) unlead() {
	for _, s := range r.log {
		r.index = min(r.index, s.entry.Index-1)
	}
	r.log = nil
	r.s.Unlead()
}

// seal makes an entry of proposals and what the service wants, if there is
// anything, and says what the service put into it.
func (r *rig) seal(proposals ...[]byte) [][]byte {
	own := r.s.Commands(nil, len(proposals) > 0, r.now())
	if len(own)+len(proposals) == 0 {
		return nil
	}
	r.index++
	e := cluster.Entry{Index: r.index, Term: r.term, Stamp: 1e18 + r.mono, Commands: append(slices.Clone(own), proposals...)}
	at := uint32(20)
	for _, c := range e.Commands {
		e.Offsets = append(e.Offsets, at)
		at += uint32(len(c)) + 4
	}
	r.log = append(r.log, sealed{e, len(own)})
	return own
}

// commit applies the oldest entry and returns the results of its proposals.
func (r *rig) commit() []store.Result {
	r.t.Helper()
	s := r.log[0]
	r.log = r.log[1:]
	return r.apply(s.entry)[s.internal:]
}

func (r *rig) apply(e cluster.Entry) []store.Result {
	r.t.Helper()
	out, err := r.s.Apply(e, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// settle lets the service hand out what it owes and makes entries of what it
// wants for that, until nothing is left at this moment.
func (r *rig) settle() {
	r.t.Helper()
	for {
		r.s.Settled(true, r.now())
		if d := r.s.Deadline(); d == 0 || d > r.mono {
			return
		}
		r.seal()
		for len(r.log) > 0 {
			r.commit()
		}
	}
}

// run carries out one proposal and everything that follows from it.
func (r *rig) run(command []byte) store.Result {
	r.t.Helper()
	r.seal(command)
	var out []store.Result
	for len(r.log) > 0 {
		out = r.commit()
	}
	r.settle()
	return out[0]
}

// pass lets time pass and does what is due.
func (r *rig) pass(d int64) {
	r.t.Helper()
	r.mono += d
	r.settle()
}

// publish stores a batch of n small messages.
func (r *rig) publish(n int) store.Result {
	r.t.Helper()
	res := r.run(publish(n))
	if res.Code != store.OK {
		r.t.Fatalf("publish: %v", res)
	}
	return res
}

func publish(n int) []byte { return store.AppendPublish(nil, flights, 0, 0, 0, batch(n)) }

func batch(n int) []byte {
	var b message.Builder
	for range n {
		if err := b.AddBody([]byte("0123456789")); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// subscriber remembers what a subscription was told.
type subscriber struct {
	*Subscription
	got   []Delivery
	ended []perdurepb.Reason
}

func (s *subscriber) ids() []message.ID {
	var out []message.ID
	for i := range s.got {
		d := &s.got[i]
		ranges := d.Ranges
		if ranges == nil {
			ranges = []Range{{First: d.Batch.First, Last: d.Batch.Last()}}
		}
		for _, g := range ranges {
			for id := g.First; id <= g.Last; id++ {
				out = append(out, id)
			}
		}
	}
	return out
}

// counts returns what deliveries said of the counts of a message.
func (s *subscriber) counts(id message.ID) []Count {
	var out []Count
	for _, d := range s.got {
		for _, c := range d.Counts {
			if c.ID == id {
				out = append(out, c)
			}
		}
	}
	return out
}

func (s *subscriber) wantIDs(t testing.TB, want ...message.ID) {
	t.Helper()
	if got := s.ids(); !slices.Equal(got, want) {
		t.Fatalf("subscriber %d of durable %d has %v, want %v", s.ID, s.Durable, got, want)
	}
}

func (s *subscriber) wantEnded(t testing.TB, want ...perdurepb.Reason) {
	t.Helper()
	if !slices.Equal(s.ended, want) {
		t.Fatalf("subscriber %d ended %v, want %v", s.ID, s.ended, want)
	}
}

// make returns a subscription that is not attached.
func (r *rig) make(durable, process uint64) *subscriber {
	r.next++
	s := &subscriber{Subscription: &Subscription{ID: r.next, Durable: durable, Process: process}}
	s.Deliver = func(d Delivery) { s.got = append(s.got, d) }
	s.Ended = func(why perdurepb.Reason) { s.ended = append(s.ended, why) }
	if durable == audit {
		res := r.run(store.AppendAttach(nil, durable, process, s.ID))
		if res.Code != store.OK {
			r.t.Fatal(res)
		}
		s.Attach = res.Attach
	}
	return s
}

// subscribe attaches a subscriber with credit for n messages.
func (r *rig) subscribe(durable, process, n uint64) *subscriber {
	r.t.Helper()
	s := r.make(durable, process)
	if err := r.s.Attach(s.Subscription, dispatch.Credit{Messages: n, Bytes: 1 << 20}); err != nil {
		r.t.Fatal(err)
	}
	r.settle()
	return s
}

// answer remembers what a settlement came to.
type answer struct{ done, owner, lost bool }

func (a *answer) set(owner, lost bool) { *a = answer{true, owner, lost} }

func acks(first, last message.ID) Settlement {
	return Settlement{Acks: []Range{{First: first, Last: last}}}
}

func (r *rig) pending(durable uint64) uint64 {
	d, ok := r.s.Durable(durable)
	if !ok {
		return 0
	}
	return d.Pending().Len()
}

// create is a shared durable that a subscriber asks for.
func create(name string) *statepb.CreateDurable {
	return &statepb.CreateDurable{Store: flights, Name: name, Kind: uint32(durable.KindShared)}
}
