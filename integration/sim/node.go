package sim

import (
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

const (
	group         = 7
	electionTicks = 10
)

// node is one server with one replica: what is left of it while it is down, and
// the process while it runs.
type node struct {
	w   *world
	id  uint64
	mem *clustertest.MemLog

	up     bool
	fenced bool   // it may have forgotten, and never comes back
	life   uint64 // incarnation, rising
	born   int64
	*process

	skew, frozen int64 // of its wall clock; frozen at, if not 0
	slow         int64 // the disk takes so much longer
	slowUntil    int64
	frozenUntil  int64 // the process does not run
	thawing      []func()
	doom         doom
	suffix       []*pb.Entry // of the mutant KeepSuffix
}

// process is what a crash ends.
type process struct {
	log     *diskLog
	svc     *service.Service
	replica *cluster.Replica[store.Result]
	eff     cluster.Effects
	in      inbox
	awake   bool // a turn is due
	turning bool
	writing bool  // the append worker is busy
	alarm   int64 // when a turn is due by the replica's deadline
	receive int   // snapshots on their way in; at most one
	spinAt  int64 // when turns began to follow each other at once
	spins   int
	leads   uint64 // the term in which it leads
	nonces  uint64 // of attachments

	checkpoints bool // one is due

	suspended int64 // since when it leads and is suspended; 0 is not

	signs []sign // of life, by node
	quiet bool   // the replica was, when last looked at
}

func newNode(w *world, id uint64, mem *clustertest.MemLog) *node {
	n := &node{w: w, id: id, mem: mem}
	if w.setup.skew > 0 {
		n.skew = w.draw(2*w.setup.skew) - w.setup.skew
	}
	return n
}

// now reads the clocks of the process.
func (n *node) now() cluster.Now {
	wall := wallStart + n.w.now + n.skew
	if n.frozen != 0 {
		wall = n.frozen
	}
	return cluster.Now{Mono: n.w.now - n.born + 1, Wall: wall}
}

const wallStart = int64(1_790_000_000) * second

// start starts the process, unless its copy may have forgotten something.
func (n *node) start() {
	w := n.w
	if err := n.mem.MayHaveForgotten(); err != nil && w.opts.Mutant != RejoinOld {
		w.judge.Failf("a copy that may have forgotten is started: %v", err)
	}
	if w.opts.Mutant == KeepSuffix {
		n.revive()
	}
	n.life++
	n.born = w.now
	svc := service.New()
	n.process = &process{svc: svc, signs: make([]sign, len(w.nodes))}
	n.log = newDiskLog(n, n.mem)
	m := newMachine(n, svc)
	opts := cluster.Options{
		Group: group, ID: n.id, Rank: int(n.id) - 1, Tick: w.setup.tick, HeartbeatTicks: 2, ElectionTicks: electionTicks,
		Beat: time.Duration(beatEvery), Seed: w.opts.Seed ^ n.life<<32,
	}
	m.loads = true
	replica, err := cluster.NewReplica(opts, n.log, m, leading{svc, n}, n.now())
	if err != nil {
		w.judge.Failf("replica %d does not start: %w", n.id, err)
		return
	}
	if w.setup.keepLittle {
		replica.SetRetention(cluster.Retention{Leader: 24 << 10, Follower: 8 << 10, Grain: 2 << 10, Unheard: 300e6})
	}
	n.replica = replica
	n.up = true
	w.note(n.id, "start", n.life, w.judge.AppliedBy(n.id), 0)
	n.scheduleTick()
	n.scheduleBeat()
	n.kick()
}

// alive wraps f so that it does nothing after the process has ended, and waits
// in its turn while it is frozen.
func (n *node) alive(f func()) func() {
	life := n.life
	run := func() {
		if n.up && n.life == life {
			f()
		}
	}
	return func() {
		if n.w.now >= n.frozenUntil && len(n.thawing) == 0 {
			run()
			return
		}
		n.thawing = append(n.thawing, run)
		if len(n.thawing) == 1 {
			n.w.after(max(0, n.frozenUntil-n.w.now), n.thaw)
		}
	}
}

// thaw does what a frozen process has missed, in order.
func (n *node) thaw() {
	if n.w.now < n.frozenUntil {
		n.w.after(n.frozenUntil-n.w.now, n.thaw)
		return
	}
	missed := n.thawing
	n.thawing = nil
	for _, run := range missed {
		run()
	}
}

func (n *node) after(d int64, f func()) { n.w.after(d, n.alive(f)) }

func (n *node) scheduleTick() {
	n.after(int64(n.w.setup.tick), func() {
		if !n.replica.Quiet() {
			n.in.ticks++
			n.kick()
		}
		n.watch()
		n.scheduleTick()
	})
}

// end ends the process: nothing of it goes on. how says what its disk keeps.
func (n *node) end(what string, how func() *clustertest.MemLog) {
	w := n.w
	w.note(n.id, what, uint64(n.mem.Queued()), uint64(n.mem.Unsynced()), 0)
	wasLeader := n.leads != 0
	if wasLeader && n.quiet {
		w.seen.hit(QuietLeaderLost)
	}
	n.up = false
	n.mem = how()
	n.forgetHolds()
	if w.leaderOf() == n || wasLeader {
		w.seen.hit(LeaderCrashed)
	}
	if err := n.mem.MayHaveForgotten(); err != nil {
		n.fenced = true
		w.seen.hit(FenceSeen)
		if !errors.Is(err, cluster.ErrMayHaveForgotten) {
			w.judge.Failf("replica %d is fenced by another error: %v", n.id, err)
		}
		if w.opts.Mutant == RejoinOld {
			n.rejoin()
		}
	}
	// Others see the connection end, mostly.
	for _, o := range w.nodes {
		if o.up && !w.cut(n.id, o.id) && w.chance(0.8) {
			o.after(w.draw(3*ms), func() { o.post(func(in *inbox) { in.down = append(in.down, n.id) }) })
		}
	}
	w.serverGone(n)
}

// forgetHolds notes that nobody holds anything from this process any more.
func (n *node) forgetHolds() {
	for _, l := range slices.Clone(n.w.links) {
		if l.node == n {
			n.w.left(l)
		}
	}
}

// leaderOf returns the node that leads in the highest term, as it thinks.
func (w *world) leaderOf() (leader *node) {
	for _, n := range w.nodes {
		if n.up && n.leads != 0 && (leader == nil || n.leads > leader.leads) {
			leader = n
		}
	}
	return leader
}
