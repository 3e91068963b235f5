package sim

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// send carries a message to another node: late, twice or never. It returns false
// where a transport would see that it cannot be sent.
func (w *world) send(from *node, m *pb.Message) bool {
	to := w.nodes[m.GetTo()-1]
	w.note(from.id, m.GetType().String(), m.GetTo(), m.GetTerm(), m.GetIndex())
	if !to.up {
		return w.chance(0.3)
	}
	if w.cut(from.id, to.id) || w.fault(w.setup.lose) {
		return true
	}
	times := 1
	if w.fault(w.setup.repeat) {
		times = 2
	}
	for range times {
		d := w.setup.delay + w.draw(w.setup.jitter+1)
		if w.fault(w.setup.late) {
			d += w.draw(300 * ms)
		}
		copied := copyMessage(m)
		w.after(d, func() {
			// It may come after its sender has ended, or come back in another
			// life of the receiver: both are replicas that remember.
			if to.up && !w.cut(from.id, to.id) {
				to.post(func(in *inbox) { in.messages = append(in.messages, copied) })
			}
		})
	}
	return true
}

// copyMessage returns what a receiver would have decoded. Data of entries is
// shared: nobody may change it.
func copyMessage(m *pb.Message) *pb.Message {
	c := &pb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Commit: m.Commit,
		Vote: m.Vote, Snapshot: m.Snapshot, Reject: m.Reject, RejectHint: m.RejectHint, Context: m.Context,
	}
	if len(m.Entries) > 0 {
		c.Entries = make([]*pb.Entry, len(m.Entries))
		for i, e := range m.Entries {
			c.Entries[i] = &pb.Entry{Term: e.Term, Index: e.Index, Type: e.Type, Data: e.Data}
		}
	}
	return c
}

// stream carries a snapshot to another node, a piece at a time.
func (n *node) stream(s cluster.SnapshotSend) {
	w, to := n.w, n.w.nodes[s.Message.GetTo()-1]
	w.note(n.id, "snapshot", to.id, s.Capture.Applied(), uint64(len(s.Live)))
	w.seen.hit(SnapshotSent)
	p := &passage{from: n, to: to, send: s, fromLife: n.life, toLife: to.life}
	if w.fault(w.setup.snapshotBreaks) {
		p.breaks = 1 + w.rng.IntN(4)
	}
	w.after(w.setup.delay+w.draw(w.setup.jitter+1), p.begin)
}

// passage is one snapshot on its way.
type passage struct {
	from, to         *node
	fromLife, toLife uint64
	send             cluster.SnapshotSend
	in               cluster.Receiver
	steps            []func() error
	breaks           int // after so many pieces, if above 0
}

func (p *passage) broken() bool {
	w := p.from.w
	return !p.to.up || p.to.life != p.toLife || !p.from.up || p.from.life != p.fromLife || w.cut(p.from.id, p.to.id)
}

// begin opens the receiver; at most one is open, as in cluster.Group.
func (p *passage) begin() {
	w := p.from.w
	if p.broken() || p.to.receive > 0 {
		p.done(errBroken)
		return
	}
	p.to.receive++
	in, err := p.to.log.Receive(p.send.Message.GetSnapshot().GetMetadata())
	if err != nil {
		p.to.receive = 0
		p.done(err)
		return
	}
	p.in = in
	err = p.send.Capture.Pages(func(key, value []byte) error {
		if w.lost(key) {
			return nil
		}
		key, value = slices.Clone(key), slices.Clone(value)
		p.steps = append(p.steps, func() error { return in.Page(key, value) })
		return nil
	})
	if err == nil {
		err = p.send.Capture.Entries(p.send.Live, func(index uint64, data []byte) error {
			p.steps = append(p.steps, func() error { return in.Entry(index, data) })
			return nil
		})
	}
	if err != nil {
		p.from.w.judge.Failf("replica %d: snapshot at %d: %w", p.from.id, p.send.Capture.Applied(), err)
		return
	}
	p.more()
}

// more moves some records.
func (p *passage) more() {
	w := p.from.w
	p.to.meets(atSnapshot)
	if p.broken() || p.breaks == 1 {
		p.to.w.note(p.to.id, "broken off", p.send.Capture.Applied(), 0, 0)
		w.seen.hit(SnapshotBroken)
		if p.to.up && p.to.life == p.toLife {
			p.to.receive = 0
			_ = p.in.Abort() // a MemLog's receiver has nothing to fail
		}
		p.done(errBroken)
		return
	}
	p.breaks = max(0, p.breaks-1)
	n := min(len(p.steps), 1+w.rng.IntN(30))
	for _, step := range p.steps[:n] {
		if err := step(); err != nil {
			w.judge.Failf("replica %d: receiving a snapshot: %w", p.to.id, err)
			return
		}
	}
	p.steps = p.steps[n:]
	if len(p.steps) > 0 {
		w.after(w.draw(w.setup.jitter+1), p.more)
		return
	}
	m := copyMessage(p.send.Message)
	p.to.post(func(in *inbox) { in.snapshots = append(in.snapshots, arrived{m, p.in}) })
	p.done(nil)
}

// done tells the sender.
func (p *passage) done(err error) {
	w := p.from.w
	if closing := p.send.Capture.Close(); closing != nil {
		w.judge.Failf("replica %d: closing a capture: %w", p.from.id, closing)
	}
	w.after(w.setup.delay, func() {
		if p.from.up && p.from.life == p.fromLife {
			p.from.call(func(cluster.Now) { p.from.replica.SnapshotSent(p.send.Message.GetTo(), err) })
		}
	})
}
