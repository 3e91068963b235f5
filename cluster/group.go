package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// inboxBytes bounds the commands that wait for a group's loop or for the
// group's commit: proposers block beyond it. It is a quarter of what Raft takes
// uncommitted, so that settlements, which do not count, always pass.
const inboxBytes = 16 << 20

// inboxMessages bounds the peer messages that wait for a group's loop. Raft
// repeats what is dropped. It is four times what one follower may have in flight.
const inboxMessages = 4 * maxInflightMessages

// Member is where a replica lives.
type Member struct {
	Replica uint64
	Server  uint64
}

// GroupConfig is what a host needs to run one replica of a group.
type GroupConfig struct {
	Options
	Name    string // of the group, for logs and profiles
	Members []Member
	// OnFail is called once, on the group's goroutine, when the replica stops
	// by an error.
	OnFail func(error)
}

// Group runs one replica. Only in a turn are the replica, its machine and
// everything they point to touched, and one runs at a time, so the machine needs no
// lock. Everything else reaches them through the inbox. Turns are run by a goroutine
// of the group's own, the loop, and for a lone message by the goroutine that brings
// it (see here).
type Group[R any] struct {
	cfg     GroupConfig
	host    *Host
	replica *Replica[R]
	log     Log
	logger  *slog.Logger
	servers map[uint64]uint64 // replica id -> server id

	in struct {
		sync.Mutex
		inbox[R]
		bytes int         // of proposals accepted and not done
		count int         // of them
		room  []*place[R] // proposals that wait for room, the oldest first
	}
	// turns is held by who runs a turn: the loop, or whoever brings a lone message.
	// It guards the replica, its machine and these.
	turns    sync.Mutex
	taken    inbox[R] // by the turn
	effects  Effects  // of the turn
	armed    int64    // Mono at which the loop wakes by itself, 0 never
	failed   error    // of a turn that the loop did not run: it ends by it
	writing  int      // writes that the log has not done
	onFollow []func() // told when this replica does not lead

	nextTick int64 // the host's ticker owns it

	wake chan struct{} // capacity 1: a signal, not a queue
	done chan struct{} // closed when run has returned
	err  error         // why run returned; read only after done

	leader atomic.Uint64 // replica id
	term   atomic.Uint64
	led    atomic.Bool

	receiving atomic.Bool // a snapshot is on its way in

	quiet   atomic.Bool // the replica needs no ticks
	ticking atomic.Bool // the host's ticker has this group on its list
}

// inbox is what waits for the loop. Everything is taken at once.
type inbox[R any] struct {
	ticks     int
	messages  []*pb.Message
	snapshots []arrived
	proposals []Proposal[R]
	stored    []StorageWrite
	calls     []func(Now)
	down      []uint64
	silent    []uint64
	stop      bool
}

type arrived struct {
	m  *pb.Message
	in Receiver
}

// StartGroup starts the replica of a group on log. A replica that may have
// forgotten is not started: see ErrMayHaveForgotten. The group must be closed.
func StartGroup[R any](h *Host, cfg GroupConfig, log Log, machine Machine[R], leading Leading) (*Group[R], error) {
	g := &Group[R]{
		cfg: cfg, host: h, log: log,
		logger:  h.opts.Logger.With("group", cfg.Name, "replica", cfg.ID),
		servers: make(map[uint64]uint64, len(cfg.Members)),
		wake:    make(chan struct{}, 1), done: make(chan struct{}),
	}
	var err error
	if g.replica, err = NewReplica(cfg.Options, log, machine, heralded{leading, &g.led}, h.now()); err != nil {
		return nil, err
	}
	for _, m := range cfg.Members {
		g.servers[m.Replica] = m.Server
	}
	if err := h.add(replicaKey{cfg.Group, cfg.ID}, g); err != nil {
		return nil, err
	}
	g.ticking.Store(true)
	h.arrive(g)
	go pprof.Do(context.Background(), pprof.Labels("group", cfg.Name), func(context.Context) { g.run() })
	return g, nil
}

// heralded makes it known that the replica leads before the machine is told:
// whoever the machine wakes must find it so.
type heralded struct {
	Leading
	led *atomic.Bool
}

func (h heralded) Lead(term uint64, now Now) {
	h.led.Store(true)
	h.Leading.Lead(term, now)
}

func (h heralded) Unlead() {
	h.led.Store(false)
	h.Leading.Unlead()
}

// Close stops the replica, waits until it has stopped and returns the error that
// had stopped it before, if any. Closing twice is allowed.
func (g *Group[R]) Close() error {
	g.post(func(in *inbox[R]) { in.stop = true })
	<-g.done
	return g.err
}

// Done is closed when the replica has stopped.
func (g *Group[R]) Done() <-chan struct{} { return g.done }

// Err is why the replica stopped, nil while it runs or when it was closed.
func (g *Group[R]) Err() error {
	select {
	case <-g.done:
		return g.err
	default:
		return nil
	}
}

// Leader returns the server that leads as far as this replica knows, 0 if it
// knows none, and the term.
func (g *Group[R]) Leader() (server, term uint64) {
	return g.servers[g.leader.Load()], g.term.Load()
}

// Leads reports whether this replica leads and has applied everything that an
// earlier leader promised.
func (g *Group[R]) Leads() bool { return g.led.Load() }

// Log returns the group's log, for reading.
func (g *Group[R]) Log() Log { return g.log }

// post puts something into the inbox, unless the loop has ended.
func (g *Group[R]) post(put func(*inbox[R])) bool {
	g.in.Lock()
	defer g.in.Unlock()
	if g.stopped() {
		return false
	}
	put(&g.in.inbox)
	g.signal()
	return true
}

func (g *Group[R]) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// stopped reports whether run has returned or will not look again; the inbox
// is locked.
func (g *Group[R]) stopped() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Do runs f on the group's loop, where the machine may be read, and waits for
// it. On an error f has not run and will not.
func (g *Group[R]) Do(ctx context.Context, f func(Now)) error {
	ran := make(chan struct{})
	var once atomic.Int32 // 0 waiting, 1 running, 2 given up
	g.Go(func(now Now) {
		if once.CompareAndSwap(0, 1) {
			f(now)
			close(ran)
		}
	})
	giveUp := func(err error) error {
		if once.CompareAndSwap(0, 2) {
			return err
		}
		<-ran
		return nil
	}
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return giveUp(context.Cause(ctx))
	case <-g.done:
		return giveUp(ErrStopped)
	}
}

// Go runs f on the group's loop later, unless the replica stops before. Callers
// bound what they have waiting.
func (g *Group[R]) Go(f func(Now)) { g.post(func(in *inbox[R]) { in.calls = append(in.calls, f) }) }

// run owns the replica until it is closed or fails.
func (g *Group[R]) run() {
	defer g.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	g.turns.Lock() // and not unlocked at the end: then nobody may touch the replica
	for {
		wait := time.Hour
		if g.armed = g.replica.Deadline(); g.armed != 0 {
			wait = max(0, time.Duration(g.armed-g.host.now().Mono))
		}
		g.turns.Unlock()
		timer.Reset(wait)
		select {
		case <-g.wake:
		case <-timer.C:
		}
		g.turns.Lock()
		if g.err = g.failed; g.err != nil {
			return
		}
		var stop bool
		if stop, g.err = g.turn(); stop || g.err != nil {
			return
		}
	}
}

// end answers everybody who waits, also after a panic: one group's fault must
// not take the process, or the other groups, with it.
func (g *Group[R]) end() {
	if p := recover(); p != nil {
		g.err = fmt.Errorf("cluster: group %s: panic: %v", g.cfg.Name, p)
		g.logger.Error("replica panicked", "err", g.err, "stack", string(debug.Stack()))
	}
	g.host.remove(replicaKey{g.cfg.Group, g.cfg.ID}, g)
	g.leader.Store(0)
	g.led.Store(false)
	g.survives(func() {
		for _, m := range g.replica.Farewell() {
			g.host.send(g.servers[m.GetTo()], g.envelope(m), m)
		}
	})
	// After a panic the machine may panic again. The first attempt has then told
	// it that it does not lead, and the second answers the proposers.
	if !g.survives(g.replica.Stop) {
		g.survives(g.replica.Stop)
	}
	g.drain()
	g.in.Lock()
	close(g.done)
	rest := g.in.inbox
	g.in.inbox = inbox[R]{}
	g.in.Unlock()
	for _, p := range rest.proposals {
		p.finish(ErrStopped)
	}
	for _, s := range rest.snapshots {
		_ = s.in.Abort()
	}
	if g.err != nil {
		g.logger.Error("replica stopped", "err", g.err)
		if g.cfg.OnFail != nil {
			g.cfg.OnFail(g.err)
		}
	}
}

// survives runs f and reports whether it did not panic.
func (g *Group[R]) survives(f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			g.err = errors.Join(g.err, fmt.Errorf("cluster: group %s: panic while stopping: %v", g.cfg.Name, p))
		}
	}()
	f()
	return true
}

func (g *Group[R]) envelope(m *pb.Message) Envelope {
	return Envelope{Group: g.cfg.Group, Epoch: g.cfg.Epoch, From: g.cfg.ID, To: m.GetTo(), Incarnation: g.host.opts.Incarnation}
}

func (g *Group[R]) send(s SnapshotSend) {
	to := s.Message.GetTo()
	g.logger.Info("sending snapshot", "to", to, "index", s.Capture.Applied())
	g.host.sendSnapshot(g.servers[to], g.envelope(s.Message), s.Message,
		func(w io.Writer) error { return writeSnapshot(w, s.Capture, s.Live) },
		func(err error) {
			if err := errors.Join(err, s.Capture.Close()); err != nil {
				g.logger.Warn("snapshot not sent", "to", to, "err", err)
			}
			g.Go(func(Now) { g.replica.SnapshotSent(to, err) })
		})
}

// publish makes role and term visible to other goroutines.
func (g *Group[R]) publish() {
	r := g.replica
	if g.leader.Load() != r.leader || g.term.Load() != r.term {
		g.logger.Info("leader", "leader", r.leader, "term", r.term, "role", r.role.String())
		g.leader.Store(r.leader)
		g.term.Store(r.term)
	}
	if r.role != raft.StateLeader {
		for _, f := range g.onFollow {
			f()
		}
		g.onFollow = nil
	}
	if quiet := r.Quiet(); quiet != g.quiet.Load() {
		g.quiet.Store(quiet)
		if !quiet && g.ticking.CompareAndSwap(false, true) {
			g.host.arrive(g)
		}
	}
}

// tick is called by the host's ticker alone. It returns false when the group
// wants no more; then it comes back by Host.arrive.
func (g *Group[R]) tick(now int64) bool {
	if now >= g.nextTick {
		g.nextTick = now + int64(g.cfg.Tick)
		if !g.post(func(in *inbox[R]) { in.ticks++ }) {
			return false
		}
	}
	if !g.quiet.Load() {
		return true
	}
	g.ticking.Store(false)
	// It may have been woken in between: then one of the two puts it back.
	return !g.quiet.Load() && g.ticking.CompareAndSwap(false, true)
}

// watch tells a quiet replica whose server is silent. It is the host's ticker's.
func (g *Group[R]) watch(silence func(server uint64, asks bool) int64) {
	if !g.quiet.Load() {
		return
	}
	leader := g.leader.Load()
	for replica, server := range g.servers {
		leads, patience := leader == g.cfg.ID, g.cfg.electionTimeout()
		if !leads {
			patience += patience / 2 // as long as followers wait for heartbeats, on the average
		}
		if replica == g.cfg.ID || !leads && leader != replica || silence(server, leads) < patience {
			continue
		}
		g.post(func(in *inbox[R]) {
			if !slices.Contains(in.silent, server) {
				in.silent = append(in.silent, server)
			}
		})
	}
}

// patience is how soon the host must tell the group that a server is silent.
func (g *Group[R]) patience() int64 {
	if !g.cfg.mayRest() {
		return math.MaxInt64
	}
	return g.cfg.electionTimeout()
}

func (g *Group[R]) receive(e Envelope, m *pb.Message, lone bool) {
	// A snapshot has a way of its own: without its body Raft must not see one.
	if e.Epoch != g.cfg.Epoch || e.To != g.cfg.ID || m.GetType() == pb.MsgSnap {
		return
	}
	g.in.Lock()
	if len(g.in.messages) < inboxMessages {
		g.in.messages = append(g.in.messages, m)
	}
	g.in.Unlock()
	if lone && weight(m) <= littleBytes {
		g.here(true)
		return
	}
	g.signal()
}

func (g *Group[R]) receiveSnapshot(e Envelope, m *pb.Message, body io.Reader) error {
	if e.Epoch != g.cfg.Epoch || e.To != g.cfg.ID {
		return fmt.Errorf("cluster: group %s: a snapshot for replica %d of epoch %d, here is %d of epoch %d", g.cfg.Name, e.To, e.Epoch, g.cfg.ID, g.cfg.Epoch)
	}
	// One at a time, until it is installed or refused: a second would discard
	// the generation of the first.
	if !g.receiving.CompareAndSwap(false, true) {
		return fmt.Errorf("cluster: group %s: another snapshot is being received", g.cfg.Name)
	}
	in, err := g.receiver(m.GetSnapshot().GetMetadata())
	if err == nil {
		if err = readSnapshot(body, in); err != nil {
			err = errors.Join(err, in.Abort())
		}
	}
	if err != nil {
		g.receiving.Store(false)
		return err
	}
	if !g.post(func(box *inbox[R]) { box.snapshots = append(box.snapshots, arrived{m, in}) }) {
		return errors.Join(ErrStopped, in.Abort())
	}
	return nil
}

// receiver begins a generation, on the loop, which owns the log's writing.
func (g *Group[R]) receiver(meta *pb.SnapshotMetadata) (in Receiver, err error) {
	if do := g.Do(context.Background(), func(Now) { in, err = g.log.Receive(meta) }); do != nil {
		return nil, do
	}
	return in, err
}

func (g *Group[R]) peerDown(server uint64) {
	g.post(func(in *inbox[R]) {
		if !slices.Contains(in.down, server) {
			in.down = append(in.down, server)
		}
	})
}
