package cluster

import (
	"fmt"
	"runtime/debug"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Bounds of a turn that is run by whoever brings something, and not by the loop.
// What is more than this may take its time, and others must not wait behind it.
const (
	littleBytes  = 32 << 10
	littleCount  = 8
	littlePasses = 4
)

// turn takes what waits, feeds it to the replica and carries out what comes of
// it, until nothing is left to do. It is the loop's.
func (g *Group[R]) turn() (stop bool, err error) {
	for first := true; ; first = false {
		g.take()
		if !first && g.taken.empty() {
			return false, nil
		}
		if _, stop, err = g.pass(false); stop || err != nil {
			return stop, err
		}
	}
}

// pass feeds what was taken to the replica and carries out what comes of it. write
// says that the caller will call Log.Work if something waits for it.
func (g *Group[R]) pass(write bool) (waits, stop bool, err error) {
	now := g.host.now()
	if err := g.feed(now, &g.taken, &g.effects); err != nil {
		return false, false, err
	}
	if g.taken.stop {
		return false, true, nil
	}
	if err := g.replica.Advance(now, &g.effects); err != nil {
		return false, false, err
	}
	waits = g.perform(&g.effects, write)
	g.publish()
	// Also while more keeps coming: a busy group must still hand out.
	g.replica.Settle(now)
	return waits, false, nil
}

// here runs a turn on the goroutine that brought something, if nobody else is at
// it, what waits is little, and no more than one proposal is on its way; else it
// wakes the loop. Passing a lone message from goroutine to goroutine, each time to a
// thread that sleeps, costs more than all that is done with it. If write is set, this
// goroutine also waits for the disk in place of the append worker. Either way nobody
// but this group may have to wait for the caller: a turn may apply much, write
// inline, or read the disk.
func (g *Group[R]) here(write bool) {
	for g.turnHere(write) {
		if !g.log.Work() {
			g.signal()
			return
		}
	}
}

// turnHere reports whether a write waits for Log.Work.
func (g *Group[R]) turnHere(write bool) (waits bool) {
	if !g.turns.TryLock() {
		g.signal() // whoever is at it may have looked for the last time
		return false
	}
	defer g.turns.Unlock()
	defer func() {
		if p := recover(); p != nil {
			g.failed = fmt.Errorf("cluster: group %s: panic: %v", g.cfg.Name, p)
			g.logger.Error("replica panicked", "err", g.failed, "stack", string(debug.Stack()))
		}
		if g.failed != nil {
			waits = false // the loop ends, and waits for what was appended
			g.signal()
		}
	}()
	more := false
	for n := 0; !waits && g.failed == nil; n++ {
		if more = n == littlePasses || !g.takeLittle(); more || g.taken.empty() {
			break
		}
		waits, _, g.failed = g.pass(write)
	}
	if d := g.replica.Deadline(); d != 0 && (g.armed == 0 || d < g.armed) {
		g.armed, more = d, true
	}
	if more {
		g.signal()
	}
	return waits
}

// takeLittle takes what waits, unless it is much or nothing for others to do.
func (g *Group[R]) takeLittle() bool {
	g.taken.clear()
	g.in.Lock()
	defer g.in.Unlock()
	in := &g.in.inbox
	size := g.in.bytes
	for _, m := range in.messages {
		size += weight(m)
	}
	for _, w := range in.stored {
		if w.Write.Install != nil {
			return false // its state is to be read
		}
	}
	if size > littleBytes || g.in.count > 1 || len(in.messages)+len(in.proposals)+len(in.stored) > littleCount ||
		in.ticks > 0 || len(in.snapshots) > 0 || len(in.calls) > 0 || len(in.down) > 0 || len(in.silent) > 0 || in.stop {
		return false
	}
	g.takeLocked()
	return true
}

// weight is how many bytes a message brings.
func weight(m *pb.Message) int {
	n := 0
	for _, e := range m.GetEntries() {
		n += len(e.GetData())
	}
	return n
}

// drain waits for the writes that the log still has: whoever opens the log next
// must find them done.
func (g *Group[R]) drain() {
	for g.log.Work() {
		// What waits for Work would wait for ever.
	}
	for {
		g.in.Lock()
		g.writing -= len(g.in.stored)
		g.in.stored = nil
		g.in.Unlock()
		if g.writing <= 0 {
			return
		}
		<-g.wake
	}
}

func (in *inbox[R]) empty() bool {
	return in.ticks == 0 && len(in.messages) == 0 && len(in.snapshots) == 0 && len(in.proposals) == 0 &&
		len(in.stored) == 0 && len(in.calls) == 0 && len(in.down) == 0 && len(in.silent) == 0 && !in.stop
}

func (g *Group[R]) take() {
	g.taken.clear()
	g.in.Lock()
	defer g.in.Unlock()
	g.takeLocked()
}

// takeLocked moves what waits into taken, which is clear and whose slices it gives the
// inbox in exchange.
func (g *Group[R]) takeLocked() { g.taken, g.in.inbox = g.in.inbox, g.taken }

// clear empties in and keeps its slices.
func (in *inbox[R]) clear() {
	clear(in.messages)
	clear(in.proposals)
	clear(in.snapshots)
	clear(in.stored)
	clear(in.calls)
	*in = inbox[R]{
		messages: in.messages[:0], snapshots: in.snapshots[:0], proposals: in.proposals[:0],
		stored: in.stored[:0], calls: in.calls[:0], down: in.down[:0], silent: in.silent[:0],
	}
}

func (g *Group[R]) feed(now Now, in *inbox[R], eff *Effects) error {
	g.writing -= len(in.stored)
	if g.replica.Quiet() {
		for replica, server := range g.servers {
			g.replica.Hear(replica, g.host.seen(server))
		}
	}
	// First, since nothing else may fail before they belong to the replica, which
	// answers them whatever happens.
	for _, p := range in.proposals {
		g.replica.Propose(p)
	}
	for _, w := range in.stored {
		if w.Write.Install != nil {
			g.receiving.Store(false)
		}
		if err := g.replica.Stored(w, eff); err != nil {
			return err
		}
	}
	// A loop that was held up must not take the ticks it missed for silence of
	// the leader: one tick stands for all of them.
	if in.ticks > 0 {
		g.replica.Tick(now)
	}
	for _, m := range in.messages {
		g.replica.Step(now, m)
	}
	for _, s := range in.snapshots {
		g.replica.StepSnapshot(now, s.m, s.in)
		// A snapshot that Raft does not want must be told apart before the next.
		if err := g.replica.Advance(now, eff); err != nil {
			return err
		}
		if !g.replica.installs {
			g.receiving.Store(false)
		}
	}
	for replica, server := range g.servers {
		if slices.Contains(in.down, server) {
			g.replica.PeerDown(now, replica)
		}
		if slices.Contains(in.silent, server) {
			g.replica.Silent(now, replica)
		}
	}
	for _, f := range in.calls {
		f(now)
	}
	return nil
}

func (g *Group[R]) perform(eff *Effects, write bool) (waits bool) {
	for _, m := range eff.Messages {
		if !g.host.send(g.servers[m.GetTo()], g.envelope(m), m) {
			g.replica.Unreachable(m.GetTo())
		}
	}
	for _, w := range eff.Writes {
		w.Write.Here = write && len(eff.Writes) == 1
		waits = g.log.Append(w.Write, func(here bool) { g.stored(w, here) }) || waits
		g.writing++ // not of a write that panicked: it is never done
	}
	for _, s := range eff.Snapshots {
		g.send(s)
	}
	clear(eff.Messages)
	clear(eff.Writes)
	*eff = Effects{Messages: eff.Messages[:0], Writes: eff.Writes[:0]}
	return waits
}

// stored takes note of a write that is done. Here is told to whoever looks into the
// inbox next anyway.
func (g *Group[R]) stored(w StorageWrite, here bool) {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.stored = append(g.in.stored, w)
	if !here {
		g.signal()
	}
}
