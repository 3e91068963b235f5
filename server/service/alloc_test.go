package service

import (
	"fmt"
	"testing"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store"
)

// path is what a batch costs the leader's loop: it is sealed together with the
// acknowledgement of the one before, applied, dispatched, and acknowledged. It
// counts what the service does; entries and batches are made once.
type path struct {
	*rig
	sub      *Subscription
	batch    []byte
	command  []byte
	n        message.ID
	entry    cluster.Entry
	results  []store.Result
	own      [][]byte
	got      Range
	sequence uint64
	acks     [1]Range
}

func newPath(t testing.TB, n int) *path {
	p := &path{rig: newRig(t), n: message.ID(n), batch: batch(n)}
	p.sub = p.make(audit, 1).Subscription
	p.sub.Deliver = func(d Delivery) { p.got = Range{First: d.Batch.First, Last: d.Batch.Last()} }
	if err := p.s.Attach(p.sub, dispatch.Credit{Messages: MaxCredit, Bytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	p.settle()
	session := p.run(store.AppendOpenSession(nil, flights, 0, 0)).Session
	p.run(store.AppendWatermark(nil, audit, 0))
	p.command = store.AppendPublish(nil, flights, session, 1, 1, p.batch)
	p.entry = cluster.Entry{Term: p.term, Stamp: 1e18}
	for range 200 {
		p.step()
	}
	return p
}

// step publishes one batch and settles it.
func (p *path) step() {
	p.sequence++
	p.mono += millisecond
	p.command = p.command[:0]
	p.command = store.AppendPublish(p.command, flights, 1, 1, p.sequence, p.batch)
	p.own = p.s.Commands(p.own[:0], true, p.now())
	p.index++
	p.entry.Index = p.index
	p.entry.Commands = append(append(p.entry.Commands[:0], p.own...), p.command)
	p.entry.Offsets = p.entry.Offsets[:0]
	for range p.entry.Commands {
		p.entry.Offsets = append(p.entry.Offsets, 20)
	}
	var err error
	if p.results, err = p.s.Apply(p.entry, p.results[:0]); err != nil {
		p.t.Fatal(err)
	}
	p.got = Range{}
	p.s.Settled(true, p.now())
	if p.got.Last-p.got.First+1 != p.n {
		p.t.Fatalf("delivered %v: %+v", p.got, p.results)
	}
	p.acks[0] = p.got
	p.s.Settle(p.sub.ID, Settlement{Acks: p.acks[:]}, p.now())
	p.s.Grant(p.sub.ID, dispatch.Credit{Messages: uint64(p.n), Bytes: uint64(len(p.batch) + 100)})
}

// What a batch costs does not depend on how many messages are in it.
func TestAllocationsPerBatch(t *testing.T) {
	var figures []float64
	for _, n := range []int{50, 500, 5000} {
		p := newPath(t, n)
		figures = append(figures, testing.AllocsPerRun(500, p.step))
	}
	t.Logf("allocations per batch of 50, 500, 5000 messages: %v", figures)
	for _, f := range figures {
		if f > 8 || f > figures[0]+2 || f < figures[0]-2 {
			t.Errorf("%v allocations, at most 8 and equal for all sizes", figures)
			break
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newPath(b, n)
			b.ReportAllocs()
			b.SetBytes(int64(len(p.batch)))
			for b.Loop() {
				p.step()
			}
		})
	}
}
