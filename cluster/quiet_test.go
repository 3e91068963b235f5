package cluster

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// ensemble is three replicas in one goroutine, with a network that delivers at
// once what lose lets through.
type ensemble struct {
	t    *testing.T
	now  Now
	logs [3]plainLog
	r    [3]*Replica[string]
	lose func(m *pb.Message) bool
	dead [3]bool
	sent int // messages
	beat time.Duration

	ticks int
}

func newEnsemble(t *testing.T) *ensemble {
	return newEnsembleWith(t, Beat)
}

func newEnsembleWith(t *testing.T, beat time.Duration) *ensemble {
	e := &ensemble{t: t, now: Now{Mono: 1, Wall: 1}, beat: beat, lose: func(*pb.Message) bool { return false }}
	for i := range e.r {
		e.logs[i] = plainLog{raft.NewMemoryStorage(), []uint64{1, 2, 3}}
		e.start(i)
	}
	return e
}

func (e *ensemble) start(i int) {
	m := &blank{}
	var err error
	e.r[i], err = NewReplica(Options{
		Group: 7, ID: uint64(i + 1), Rank: i, Tick: 50 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10, Beat: e.beat, Seed: 1,
	}, e.logs[i], m, m, e.now)
	if err != nil {
		e.t.Fatal(err)
	}
	e.dead[i] = false
}

// run lets time pass. Servers that are not dead hear each other.
func (e *ensemble) run(d time.Duration) {
	const step = int64(5 * time.Millisecond)
	e.settle()
	for end := e.now.Mono + int64(d); e.now.Mono < end; {
		e.now.Mono += step
		e.now.Wall += step
		e.ticks++
		for i, r := range e.r {
			if e.dead[i] {
				continue
			}
			for o := range e.r {
				if !e.dead[o] {
					r.Hear(uint64(o+1), e.now.Mono)
				}
			}
			if e.ticks%10 == 0 {
				r.Tick(e.now)
			}
		}
		e.settle()
	}
}

// settle lets messages go to and fro until there are none.
func (e *ensemble) settle() {
	for busy := true; busy; {
		busy = false
		for i, r := range e.r {
			if e.dead[i] {
				continue
			}
			var eff Effects
			for first := true; first || len(eff.Writes) > 0; first = false {
				writes := eff.Writes
				eff.Writes = nil
				for _, w := range writes {
					e.logs[i].Append(w.Write, func(bool) {
						if err := r.Stored(w, &eff); err != nil {
							e.t.Fatal(err)
						}
					})
				}
				if err := r.Advance(e.now, &eff); err != nil {
					e.t.Fatal(err)
				}
			}
			e.deliver(eff.Messages)
			busy = busy || len(eff.Messages) > 0
		}
	}
}

func (e *ensemble) deliver(messages []*pb.Message) {
	for _, m := range messages {
		e.sent++
		if to := int(m.GetTo() - 1); !e.dead[to] && !e.lose(m) {
			e.r[to].Step(e.now, m)
		}
	}
}

func (e *ensemble) leader() int {
	found := -1
	for i, r := range e.r {
		if !e.dead[i] && r.led {
			if found >= 0 {
				e.t.Fatalf("replicas %d and %d lead", found+1, i+1)
			}
			found = i
		}
	}
	return found
}

func (e *ensemble) quiet() (n int) {
	for i, r := range e.r {
		if !e.dead[i] && r.Quiet() {
			n++
		}
	}
	return n
}

// calm runs until all are quiet, and returns the leader.
func (e *ensemble) calm() int {
	e.t.Helper()
	for range 100 {
		if e.quiet() == 3 {
			return e.leader()
		}
		e.run(100 * time.Millisecond)
	}
	e.t.Fatalf("%d of 3 are quiet", e.quiet())
	return 0
}

func (e *ensemble) propose(i int) (done bool) {
	e.r[i].Propose(Proposal[string]{Command: []byte("x"), Done: func(_ string, err error) { done = err == nil }})
	e.settle()
	return done
}

// An idle group says nothing, and is there at once when it is asked.
func TestIdleGroupIsQuiet(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	sent := e.sent
	e.run(30 * time.Second)
	if e.sent != sent || e.leader() != l || e.quiet() != 3 {
		t.Errorf("%d messages in 30 s, leader %d, before %d, %d quiet", e.sent-sent, e.leader(), l, e.quiet())
	}
	if !e.r[l].Quorum(e.now) {
		t.Error("the servers answer, and the leader has no quorum")
	}
	if e.run(50 * time.Millisecond); !e.propose(l) || e.quiet() != 0 {
		t.Errorf("proposed to a quiet leader: not done, or %d are quiet", e.quiet())
	}
	if e.calm() != l {
		t.Error("another leads")
	}
}

// A leader is quiet only when everybody is: a lost message costs nothing.
func TestQuietIsAgreed(t *testing.T) {
	for what, lost := range map[string]pb.MessageType{"asking": pb.MsgHeartbeat, "agreeing": pb.MsgHeartbeatResp} {
		e := newEnsemble(t)
		e.lose = func(m *pb.Message) bool {
			return m.GetType() == lost && len(m.GetContext()) > 0 && (m.GetTo() == 3 || m.GetFrom() == 3)
		}
		e.run(10 * time.Second)
		l := e.leader()
		if l < 0 || l != 2 && e.r[l].Quiet() {
			t.Errorf("%s: leader %d is quiet without the consent of replica 3", what, l+1)
		}
	}
	// A follower that lags does not agree.
	e := newEnsemble(t)
	e.run(3 * time.Second)
	l := e.leader()
	lag := uint64((l+1)%3 + 1)
	e.lose = func(m *pb.Message) bool { return m.GetTo() == lag && m.GetType() == pb.MsgApp }
	e.propose(l)
	e.run(10 * time.Second)
	if e.r[l].Quiet() || e.r[lag-1].Quiet() {
		t.Error("quiet although a follower lacks an entry")
	}
	e.lose = func(*pb.Message) bool { return false }
	e.calm()
}

// Whatever happens to the leader's server, the others wake and elect.
func TestQuietFollowersWake(t *testing.T) {
	for what, tell := range map[string]func(*Replica[string], Now, uint64){
		"gone": (*Replica[string]).PeerDown, "silent": (*Replica[string]).Silent,
	} {
		e := newEnsemble(t)
		l := e.calm()
		e.dead[l] = true
		for i, r := range e.r {
			if i != l {
				tell(r, e.now, uint64(l+1))
			}
		}
		e.run(500 * time.Millisecond)
		next := e.leader()
		if next < 0 || !e.propose(next) {
			t.Fatalf("%s: leader %d", what, next+1)
		}
		// Without the third nobody is quiet; with it all are.
		e.run(5 * time.Second)
		if e.quiet() != 0 {
			t.Errorf("%s: %d are quiet without one", what, e.quiet())
		}
		e.dead[l] = false
		e.calm()
	}
}

// A follower that was told wrongly, or alone, finds its leader again.
func TestCandidateWakesAQuietGroup(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	f, other := (l+1)%3, (l+2)%3
	term := e.r[l].term
	// The candidate does not reach the leader: the other tells it.
	e.lose = func(m *pb.Message) bool { return m.GetTo() == uint64(l+1) && m.GetFrom() == uint64(f+1) }
	e.r[f].Silent(e.now, uint64(l+1))
	for range 10 {
		if e.run(50 * time.Millisecond); !e.r[l].Quiet() {
			break
		}
	}
	if e.r[l].Quiet() || e.r[other].Quiet() {
		t.Error("a candidate wakes neither the leader nor the other")
	}
	e.lose = func(*pb.Message) bool { return false }
	if e.calm() != l || e.r[l].term != term {
		t.Errorf("leader %d in term %d, before %d in %d", e.leader()+1, e.r[l].term, l+1, term)
	}
}

// Replicas that stop, or begin anew, while their server lives.
func TestQuietReplicaStops(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	said := e.r[l].Farewell()
	e.dead[l] = true
	e.r[l].Stop()
	e.deliver(said)
	e.run(time.Second)
	if e.leader() < 0 {
		t.Error("nobody leads after the leader has said that it stops")
	}
	e.start(l)
	l = e.calm()
	// One that begins anew without a word campaigns, and is not taken for a leader.
	e.dead[l] = true
	e.start(l)
	e.run(3 * time.Second)
	if e.leader() < 0 {
		t.Error("nobody leads after the leader has begun anew")
	}
	e.calm()
	f := (e.leader() + 1) % 3
	said = e.r[f].Farewell()
	e.dead[f] = true
	e.deliver(said)
	if e.r[e.leader()].Quiet() {
		t.Error("the leader is quiet although a follower has said that it stops")
	}
}

// Who was woken, and stops before it can campaign, says so: its leader is quiet on
// its word.
func TestWokenFollowerStops(t *testing.T) {
	for what, wake := range map[string]func(*Replica[string], Now, uint64){
		"awake":      func(r *Replica[string], _ Now, _ uint64) { r.wake() },
		"leaderless": (*Replica[string]).Silent,
		"campaigns": func(r *Replica[string], now Now, leader uint64) {
			r.Silent(now, leader)
			r.election.due = 1
		},
	} {
		e := newEnsemble(t)
		l := e.calm()
		f := (l + 1) % 3
		wake(e.r[f], e.now, uint64(l+1))
		e.lose = func(m *pb.Message) bool { return m.GetFrom() == uint64(f+1) }
		e.settle()
		if e.r[f].Quiet() || !e.r[l].Quiet() {
			t.Fatalf("%s: the follower is quiet (%v), or the leader is not (%v)", what, e.r[f].Quiet(), e.r[l].Quiet())
		}
		said := e.r[f].Farewell()
		e.dead[f], e.lose = true, func(*pb.Message) bool { return false }
		e.deliver(said)
		if e.r[l].Quiet() {
			t.Errorf("%s: the leader is quiet although a follower has stopped", what)
		}
		if e.run(5 * time.Second); e.leader() < 0 || e.r[e.leader()].Quiet() {
			t.Errorf("%s: nobody leads (%d), or quietly without one", what, e.leader()+1)
		}
	}
}

// A quiet leader has a quorum only while servers answer.
func TestQuietLeaderNeedsServers(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	e.now.Mono += int64(499 * time.Millisecond)
	if !e.r[l].Quorum(e.now) {
		t.Error("no quorum before the election timeout")
	}
	e.now.Mono += int64(2 * time.Millisecond)
	if e.r[l].Quorum(e.now) {
		t.Error("a quorum although nobody answered within the election timeout")
	}
	e.r[l].Hear(uint64((l+1)%3+1), e.now.Mono)
	if !e.r[l].Quorum(e.now) {
		t.Error("no quorum although a server answers")
	}
	e.r[l].Silent(e.now, uint64((l+2)%3+1))
	if e.r[l].Quiet() {
		t.Error("the leader is quiet although a server is silent")
	}
	e.now.Mono += int64(time.Second)
	e.r[l].Hear(uint64((l+1)%3+1), e.now.Mono)
	if e.r[l].Quorum(e.now) {
		t.Error("servers are heard for replicas that may not be quiet")
	}
}

// Where servers show too seldom that they live, nobody is quiet.
func TestHastyGroupIsNotQuiet(t *testing.T) {
	for _, beat := range []time.Duration{0, 500*time.Millisecond/3 + 1} {
		e := newEnsembleWith(t, beat)
		if e.run(10 * time.Second); e.quiet() > 0 || e.leader() < 0 {
			t.Errorf("beat %v, election timeout 500 ms: %d are quiet, replica %d leads", beat, e.quiet(), e.leader()+1)
		}
	}
	newEnsembleWith(t, 500*time.Millisecond/3).calm()
	// One of the others does not agree, and the leader does not ask.
	for from, want := range []int{0, 1} {
		e := newEnsemble(t)
		e.run(time.Second)
		one := (e.leader() + from) % 3
		e.r[one].opts.Beat = 0
		if e.run(10 * time.Second); e.r[one].Quiet() || e.quiet() != want {
			t.Errorf("replica %d may not be quiet, %d is leader: %d are quiet", one+1, e.leader()+1, e.quiet())
		}
	}
}

// Who has gone does not count for a quorum, whenever it was heard last.
func TestGoneIsNotHeard(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	f, other := uint64((l+1)%3+1), uint64((l+2)%3+1)
	e.r[l].PeerDown(e.now, f)
	if !e.r[l].Quorum(e.now) {
		t.Error("no quorum although one of two others is there")
	}
	e.r[l].PeerDown(e.now, other)
	if e.r[l].Quorum(e.now) {
		t.Error("a quorum although both others have gone")
	}
	if e.run(300 * time.Millisecond); !e.r[l].Quorum(e.now) {
		t.Error("no quorum although both were heard again")
	}
	e.calm()
}

// Nothing is quiet for ever, whatever was lost.
func TestQuietEnds(t *testing.T) {
	e := newEnsemble(t)
	l := e.calm()
	e.dead[l] = true // without a word, on a server that lives
	for i, r := range e.r {
		if d := r.Deadline(); i != l && (d == 0 || d > e.now.Mono+quietFollower) {
			t.Errorf("replica %d: deadline %d", i+1, d)
		}
	}
	e.now.Mono += quietFollower
	e.run(5 * time.Second)
	if e.leader() < 0 {
		t.Error("nobody leads")
	}
}

// The only member of a group has nobody to ask.
func TestAloneIsQuiet(t *testing.T) {
	p := newPuppet(t, 1)
	p.lead()
	for range 100 {
		p.Tick(p.now)
		p.advance(50 * time.Millisecond)
		p.store()
	}
	if !p.Quiet() || !p.Quorum(p.now) {
		t.Errorf("quiet %v, quorum %v", p.Quiet(), p.Quorum(p.now))
	}
}
