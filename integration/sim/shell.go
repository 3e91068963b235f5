package sim

import (
	"errors"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
)

// inbox is what waits for the loop, as in cluster.Group.
type inbox struct {
	ticks     int
	messages  []*pb.Message
	snapshots []arrived
	proposals []cluster.Proposal[store.Result]
	stored    []cluster.StorageWrite
	calls     []func(cluster.Now)
	down      []uint64
	silent    []uint64
}

func (in *inbox) empty() bool {
	return in.ticks == 0 && len(in.messages) == 0 && len(in.snapshots) == 0 && len(in.proposals) == 0 &&
		len(in.stored) == 0 && len(in.calls) == 0 && len(in.down) == 0 && len(in.silent) == 0
}

type arrived struct {
	m  *pb.Message
	in cluster.Receiver
}

// post puts something into the inbox.
func (n *node) post(put func(*inbox)) {
	put(&n.in)
	n.kick()
}

// call runs f on the loop.
func (n *node) call(f func(cluster.Now)) {
	n.post(func(in *inbox) { in.calls = append(in.calls, f) })
}

// kick lets the loop run soon.
func (n *node) kick() {
	if n.awake || n.turning {
		return
	}
	n.awake = true
	n.after(n.w.draw(n.w.setup.wake+1), n.turn)
}

// turn does what cluster.Group.turn does.
func (n *node) turn() {
	n.awake, n.turning = false, true
	n.alarm = 0
	for first := true; n.up && n.w.judge.Err() == nil; first = false {
		in := n.in
		n.in = inbox{}
		if !first && in.empty() {
			break
		}
		now := n.now()
		if err := n.feed(now, &in); err != nil {
			n.failed(err)
			return
		}
		if err := n.replica.Advance(now, &n.eff); err != nil {
			n.failed(err)
			return
		}
		if n.checkpoints {
			n.checkpoints = false
			n.checkpoint(now)
		}
		if n.meets(atAdvanced) || !n.perform() {
			return
		}
		n.replica.Settle(now)
		n.noteRecalled()
		n.noteQuiet()
	}
	n.turning = false
	n.setAlarm()
}

func (n *node) failed(err error) {
	if !n.up {
		return // it crashed in the middle
	}
	n.w.judge.Failf("replica %d stops: %w", n.id, err)
}

// setAlarm lets the loop run at the replica's deadline.
func (n *node) setAlarm() {
	d := n.replica.Deadline()
	if d == 0 || n.alarm != 0 && n.alarm <= d {
		return
	}
	n.alarm = d
	if d <= n.now().Mono {
		n.spin(d)
	}
	n.after(max(0, d-n.now().Mono), func() {
		if n.alarm == d {
			n.alarm = 0
			n.kick()
		}
	})
}

// spin notes a deadline that is over: a few are all right, but a loop that does
// nothing but turn takes a whole processor.
func (n *node) spin(deadline int64) {
	if n.spinAt != n.w.now {
		n.spinAt, n.spins = n.w.now, 0
	}
	if n.spins++; n.spins > 100 {
		n.w.judge.Failf("replica %d: its loop spins: the deadline %d is over at %d, and nothing comes of it", n.id, deadline, n.now().Mono)
	}
}

func (n *node) feed(now cluster.Now, in *inbox) error {
	for _, p := range in.proposals {
		n.replica.Propose(p)
	}
	for _, s := range in.stored {
		if s.Write.Install != nil {
			n.receive = 0
		}
		if err := n.replica.Stored(s, &n.eff); err != nil {
			return err
		}
	}
	if in.ticks > 0 {
		n.replica.Tick(now)
	}
	for _, m := range in.messages {
		n.replica.Step(now, m)
	}
	for _, s := range in.snapshots {
		if err := n.install(now, s); err != nil {
			return err
		}
	}
	n.hear(in)
	for _, f := range in.calls {
		f(now)
	}
	return nil
}

// install gives the replica a snapshot that has arrived in full.
func (n *node) install(now cluster.Now, s arrived) error {
	n.replica.StepSnapshot(now, s.m, s.in)
	if err := n.replica.Advance(now, &n.eff); err != nil {
		return err
	}
	for _, w := range n.eff.Writes {
		if w.Write.Install == s.in {
			n.w.seen.hit(SnapshotInstalled)
			n.w.note(n.id, "install", s.in.Meta().GetIndex(), 0, 0)
			if n.doom == atInstalled {
				n.doom = notDoomed
				n.after(n.w.draw(2*ms), func() { n.crash(n.w.chance(0.5)) })
			}
			return nil
		}
	}
	n.receive = 0 // Raft did not want it
	return nil
}

// perform does what cluster.Group.perform does. It reports whether the process
// is still there.
func (n *node) perform() bool {
	for _, m := range n.eff.Messages {
		if m.GetType() == pb.MsgApp || m.GetType() == pb.MsgHeartbeat {
			n.w.judge.Leads(m.GetTerm(), n.id)
		}
		if !n.w.send(n, m) {
			n.replica.Unreachable(m.GetTo())
		}
	}
	if n.meets(atMessages) {
		return false
	}
	for i, w := range n.eff.Writes {
		if i > 0 && n.meets(atWrite) {
			return false
		}
		n.log.Append(w.Write, n.stored(w))
	}
	snapshots := n.eff.Snapshots
	n.eff = cluster.Effects{Messages: n.eff.Messages[:0], Writes: n.eff.Writes[:0]}
	for _, s := range snapshots {
		n.w.judge.Leads(s.Message.GetTerm(), n.id)
		n.stream(s)
	}
	n.kickDisk()
	return true
}

// stored returns what a write's done does.
func (n *node) stored(w cluster.StorageWrite) func(bool) {
	life := n.life
	return func(bool) {
		if n.up && n.life == life {
			n.post(func(in *inbox) { in.stored = append(in.stored, w) })
		}
	}
}

// propose replicates a command. done runs on the loop, as Proposal.Done does.
func (n *node) propose(command []byte, done func(store.Result, error)) { n.proposeIn(0, command, done) }

// proposeIn is propose for a command that was decided in a term.
func (n *node) proposeIn(term uint64, command []byte, done func(store.Result, error)) {
	t := n.w.tally(command)
	t.proposed++
	life := n.life
	n.post(func(in *inbox) {
		p := lend(command)
		p.Term = term
		p.Done = func(r store.Result, err error) {
			if !n.up || n.life != life {
				return // it crashed in the middle of a turn: nobody hears of it
			}
			if errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, cluster.ErrStopped) {
				t.refused++
				n.w.checkTally(t)
			}
			done(r, err)
		}
		in.proposals = append(in.proposals, p)
	})
}

// lend proposes two commands of three in memory that is written over as soon as
// it is released; one of these has room for an entry before it.
func lend(command []byte) cluster.Proposal[store.Result] {
	front := 0
	switch len(command) % 3 {
	case 0:
		return cluster.Proposal[store.Result]{Command: command}
	case 1:
		front = cluster.EntryFront
	}
	memory := append(make([]byte, front), command...)
	return cluster.Proposal[store.Result]{Body: memory[front:], Memory: memory, Release: func() {
		for i := range memory {
			memory[i] = 0xee
		}
	}}
}
