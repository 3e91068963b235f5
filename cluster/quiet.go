package cluster

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A group without traffic is quiet: nobody ticks and nobody sends heartbeats,
// and a thousand such groups cost nothing. What replaces a leader's heartbeats
// is the life of its server, which the shell sees for all groups at once.
//
// Safety rests on Raft alone: to Raft, a quiet replica is one whose clock has
// stopped for a while. Liveness rests on these rules.
//
//   - A leader asks, with its heartbeats, and goes quiet when every other replica
//     has agreed in this round. It stays awake and goes on asking until then, so a
//     lost message costs nothing. It asks while all logs are equal and everything
//     is applied and in a checkpoint, nothing waits, nobody is silent, no
//     leadership is being transferred and the configuration is not joint. Where the
//     election timeout is so short that servers might seem silent, nobody asks.
//   - A follower agrees when its log ends where the leader's does, and all of it is
//     applied and in a checkpoint. From then on it does not tick.
//   - A quiet leader wakes for a proposal or a command of its machine, for any
//     message but answers to heartbeats, when it is to give its leadership away,
//     and when the server of any other replica is gone or silent.
//   - A quiet follower wakes for any message but a heartbeat that asks, and when the
//     server of its leader is gone or silent; then it forgets the leader and
//     campaigns. Woken by a candidate it tells its leader, which has perhaps lost
//     contact with that one, until it hears from it; a leader that campaigns
//     leads no more, and is forgotten.
//   - Who stops, on a server that lives on, says so. And nobody is quiet for longer
//     than minutes, whatever was lost.
//
// So as long as a group has no leader, everybody who is there is awake: whoever
// follows a server that lives hears either its heartbeats, or its campaign, or
// that it stopped.
//
// A leader counts another as heard while its server answers and shows its clock.
// The one says that the other server hears this one, and so that the replica
// there, as it agreed to, votes for nobody else; the other that this one would
// hear if a candidate had woken it.

const (
	// A leader asks after so many election timeouts without anything to do.
	quietAfter = 2
	// A leader wakes after quietLeader, and up to twice that, to ask again; a
	// follower that was not asked again after quietFollower.
	quietLeader   = int64(60e9)
	quietFollower = int64(300e9)
)

// What a heartbeat, or the answer to one, says besides.
const (
	sayQuiet byte = 'q' // leader: let us be quiet, at this index, in this round
	sayAgree byte = 'a' // follower: yes
	sayWake  byte = 'w' // follower: somebody campaigns
	sayGone  byte = 'g' // leader: I stop
)

// saying is the context of a heartbeat or of its answer.
type saying struct {
	what         byte
	round, index uint64
}

func (s saying) context() []byte {
	b := binary.LittleEndian.AppendUint64([]byte{s.what}, s.round)
	return binary.LittleEndian.AppendUint64(b, s.index)
}

// said takes what a message says besides out of it: Raft is not to look for a
// read request of that name.
func said(m *pb.Message) (s saying) {
	b := m.GetContext()
	if t := m.GetType(); t != pb.MsgHeartbeat && t != pb.MsgHeartbeatResp || len(b) != 17 {
		return saying{}
	}
	m.Context = nil
	return saying{b[0], binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])}
}

// rest is a replica's part in going quiet and being it.
type rest struct {
	quiet bool
	until int64 // while quiet: Mono at which to wake in any case

	// The leader's: the round is what is asked for, and void unless asking.
	idle   int // ticks without anything to do
	asking bool
	round  saying
	agreed map[uint64]bool

	// The follower's.
	asked  saying // by the last message of the leader, which is with; void if what is 0
	with   uint64
	term   uint64
	nudges bool // woken by a candidate; the leader was not heard since
	nudge  bool // a nudge is due
}

// Quiet reports whether the replica does not need ticks. Its shell must tell it
// what becomes of the other servers: see Silent and Hear.
func (r *Replica[R]) Quiet() bool { return r.rest.quiet }

// wake ends quiet, or the attempt.
func (r *Replica[R]) wake() {
	r.rest.quiet, r.rest.asking, r.rest.idle, r.rest.until = false, false, 0, 0
	r.rest.asked = saying{}
}

// Silent says that the server of a replica was not heard for the election
// timeout. A replica that is not quiet finds out by itself.
func (r *Replica[R]) Silent(now Now, replica uint64) {
	if r.rest.quiet {
		r.PeerDown(now, replica)
	}
}

// Hear says that at a moment the server of a replica was heard, and heard this
// one. Of a quiet replica that is as good as an answer.
func (r *Replica[R]) Hear(replica uint64, at int64) {
	if r.rest.quiet && r.role == raft.StateLeader && replica != r.opts.ID {
		r.heard[replica] = max(r.heard[replica], at)
	}
}

// Farewell returns what tells others that this replica stops while its server
// lives on.
func (r *Replica[R]) Farewell() (out []*pb.Message) {
	switch {
	case r.role == raft.StateLeader:
		for _, id := range r.confState.GetVoters() {
			if id != r.opts.ID {
				out = append(out, r.say(pb.MsgHeartbeat, id, saying{what: sayGone}))
			}
		}
	case r.rest.with != 0:
		// Who asked last may be quiet on this one's word, though this one is awake by
		// now, or campaigns: a quiet leader takes a server that lives for its replica.
		out = append(out, r.say(pb.MsgHeartbeatResp, r.rest.with, saying{what: sayWake}))
	}
	return out
}

func (r *Replica[R]) say(t pb.MessageType, to uint64, s saying) *pb.Message {
	return &pb.Message{Type: t.Enum(), From: new(r.opts.ID), To: new(to), Term: new(r.term), Context: s.context()}
}

// stirs looks at a message before Raft does: it may wake the replica, or agree.
// It reports whether the message is for Raft.
func (r *Replica[R]) stirs(now Now, m *pb.Message) bool {
	s, q := said(m), &r.rest
	if m.GetTerm() != r.term {
		s = saying{}
	}
	if s.what == sayGone {
		r.PeerDown(now, m.GetFrom())
		return false
	}
	if r.role == raft.StateLeader {
		if m.GetType() != pb.MsgHeartbeatResp || m.GetTerm() != r.term || s.what == sayWake {
			r.wake()
		}
		if s.what == sayAgree && q.asking && s.round == q.round.round && s.index == q.round.index {
			q.agreed[m.GetFrom()] = true
			r.maybeQuiet(now)
		}
		return true
	}
	if s.what == sayQuiet {
		q.asked, q.with, q.term, q.nudges = s, m.GetFrom(), m.GetTerm(), false
		if q.quiet && s.index == q.round.index {
			q.until = now.Mono + quietFollower
		}
		return true
	}
	candidate := m.GetType() == pb.MsgPreVote || m.GetType() == pb.MsgVote
	switch {
	case q.quiet && candidate && m.GetFrom() == q.with:
		_ = r.rn.ForgetLeader() // a follower always can
	case q.quiet && candidate:
		q.nudges, q.nudge = true, true
	case m.GetFrom() == q.with:
		q.nudges = false
	}
	r.wake()
	return true
}

// speaks looks at a message that Raft wants sent.
func (r *Replica[R]) speaks(now Now, m *pb.Message) {
	q := &r.rest
	switch {
	case m.GetType() == pb.MsgHeartbeat && len(m.GetContext()) == 0:
		if !q.quiet && !r.mayRest(now) {
			q.asking = false
			return
		}
		if !q.quiet && !q.asking {
			q.asking, q.agreed = true, map[uint64]bool{}
			q.round = saying{sayQuiet, q.round.round + 1, r.applied}
		}
		m.Context = q.round.context()
	case m.GetType() == pb.MsgHeartbeatResp && q.asked.what != 0 && m.GetTo() == q.with && r.agrees():
		if !q.quiet {
			q.quiet, q.until, q.round = true, now.Mono+quietFollower, q.asked
		}
		m.Context = saying{sayAgree, q.asked.round, q.asked.index}.context()
	}
}

// maybeQuiet makes the leader quiet when all others are.
func (r *Replica[R]) maybeQuiet(now Now) {
	q := &r.rest
	for _, id := range r.confState.GetVoters() {
		if id != r.opts.ID && !q.agreed[id] {
			return
		}
	}
	if r.mayRest(now) && q.round.index == r.applied {
		q.quiet, q.asking, q.until = true, false, now.Mono+quietLeader+r.rand.Int64N(quietLeader)
	}
}

// mayRest reports whether this leader may ask for quiet, or be it.
func (r *Replica[R]) mayRest(now Now) bool {
	if !r.led || !r.opts.mayRest() || r.rest.idle < quietAfter*r.opts.ElectionTicks || r.busy() ||
		len(r.confState.GetVotersOutgoing()) > 0 || len(r.confState.GetLearners()) > 0 || r.rn.BasicStatus().LeadTransferee != 0 {
		return false
	}
	equal := true
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		equal = equal && pr.Match == r.applied && (id == r.opts.ID || pr.State == tracker.StateReplicate && pr.RecentActive && r.hears(id, now))
	})
	return equal
}

// busy reports whether anything is under way here.
func (r *Replica[R]) busy() bool {
	return r.queue.len() > 0 || r.sealed.len() > 0 || len(r.held.entries) > 0 || r.news.due != 0 || r.election.due != 0 ||
		r.installs || r.incoming != nil || r.applied != r.edges.checkpoint
}

// agrees reports whether this follower may be quiet as it was asked to.
func (r *Replica[R]) agrees() bool {
	q := &r.rest
	last, err := r.log.LastIndex()
	return err == nil && r.opts.mayRest() && r.role == raft.StateFollower && r.leader == q.with && r.term == q.term && !r.busy() &&
		r.applied == q.asked.index && last == q.asked.index
}

// keepRest wakes a replica that is quiet, and should not be, and lets one that
// was woken by a candidate tell its leader.
func (r *Replica[R]) keepRest(now Now, eff *Effects) {
	q := &r.rest
	if q.nudges && (r.role != raft.StateFollower || r.leader != q.with || r.term != q.term) {
		q.nudges, q.nudge = false, false
	}
	if q.nudge {
		q.nudge = false
		eff.Messages = append(eff.Messages, r.say(pb.MsgHeartbeatResp, q.with, saying{what: sayWake}))
	}
	if !q.quiet {
		return
	}
	same := r.role == raft.StateLeader && r.led ||
		r.role == raft.StateFollower && r.leader == q.with && r.term == q.term
	if !same || r.busy() || r.applied != q.round.index || now.Mono >= q.until {
		r.wake()
	}
}

// tickRest counts a tick of a replica that is not quiet.
func (r *Replica[R]) tickRest(now Now) {
	q := &r.rest
	q.idle++
	if r.busy() {
		q.idle = 0
	}
	q.nudge = q.nudges
	// Nobody is to be asked where nobody else is.
	if r.role == raft.StateLeader && len(r.confState.GetVoters()) == 1 && r.mayRest(now) {
		q.round = saying{sayQuiet, q.round.round + 1, r.applied}
		r.maybeQuiet(now)
	}
}
