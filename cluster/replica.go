package cluster

import (
	"fmt"
	"math/rand/v2"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Proposal asks for a command to be replicated.
type Proposal[R any] struct {
	// Command is what to replicate, followed by Body, which saves a caller that
	// was given a part of it to copy that. Both belong to the replica until Done
	// has run, or Release.
	Command, Body []byte
	// Memory, if not nil, ends with Body. What is before it may be overwritten: if
	// that is EntryFront bytes and the length of Command, or more, an entry can be
	// made around Body without copying it.
	Memory []byte
	// Release, if not nil, runs at most once, in a turn of the group and before Done,
	// when the replica does not need Body and Memory any more. It must not block.
	Release func()
	// Term, if not 0, is the term in which the command was decided. The command
	// is refused in any other: no zombie leader acts.
	Term uint64
	// Done, if not nil, runs once in a turn of the group and must not block. Its
	// error is ErrNotLeader or ErrStopped when nothing happened, and
	// ErrUnknownOutcome when the command may yet be carried out.
	Done func(R, error)
}

// giveBack ends the use of Body.
func (p *Proposal[R]) giveBack() {
	if p.Release != nil {
		p.Release()
	}
	p.Body, p.Memory, p.Release = nil, nil, nil
}

func (p *Proposal[R]) size() int { return len(p.Command) + len(p.Body) }

// Effects are what a replica wants done. Order matters in two places only:
// Writes are carried out in order, and the responses of a write leave after it
// survives what the log promises. Everything else may go at once.
type Effects struct {
	Writes    []StorageWrite
	Messages  []*pb.Message
	Snapshots []SnapshotSend
}

// StorageWrite is a write of the log and what may be said after it.
type StorageWrite struct {
	Write     Write
	responses []*pb.Message
}

// SnapshotSend is a snapshot to be streamed to another replica.
type SnapshotSend struct {
	Message *pb.Message
	Capture Capture
	// Live are the entries at or below the snapshot that messages need.
	Live []Range
}

// Replica is one member of a group: Raft and the state machine, without a
// goroutine, clock, random source or socket. Inputs are the methods Tick, Step,
// Propose, Stored and so on; Advance turns what they caused into Effects. The
// shell ([Group]) or the simulator carries those out and feeds back what came
// of it. Only one goroutine at a time may use it.
//
// Invariants:
//
//  1. no message that promises an entry, a vote or a term leaves before the
//     write that holds it is done (Raft's AsyncStorageWrites);
//  2. a result is given to a proposer only from applying the entry at its own
//     place in the term in which this replica led;
//  3. nothing is sealed before the first entry of the leader's own term was
//     applied, so whatever an earlier leader promised is known;
//  4. the first index rises to at most the checkpoint's applied index plus one.
type Replica[R any] struct {
	opts    Options
	log     Log
	machine Machine[R]
	leading Leading
	rn      *raft.RawNode
	rand    *rand.Rand

	term   uint64
	role   raft.StateType
	leader uint64 // replica id, 0 if unknown

	queue       fifo[Proposal[R]] // not answered yet
	inEntries   int               // of queue's first: those in sealed and held
	sealed      fifo[sealed]      // sealed in sealedTerm
	sealedTerm  uint64
	held        held
	uncommitted int // bytes sealed and not applied
	led         bool
	commands    [][]byte // scratch

	applied   uint64
	appliedT  uint64 // term of applied
	stamp     int64  // of the last entry applied or sealed
	sealMono  int64  // when stamp was given, 0 before the first of a term
	confState *pb.ConfState
	open      opened
	results   []R

	now      Now // of the last input
	edges    edges
	heard    map[uint64]int64 // replica id -> Mono of its last message of our term
	gone     map[uint64]bool  // replica id -> its process has gone, and nothing of it was heard since
	since    int64            // Mono at which this replica began to lead
	election election
	formed   bool // the log is not empty
	born     int64
	news     news
	rest     rest
	incoming Receiver
	installs bool // a snapshot is being installed: the log's state is not ours
	failed   error
	toApply  []*pb.Entry
	toStep   []*pb.Message
}

// sealed says what is in an entry.
type sealed struct {
	proposals int
	internal  int // commands of the machine's own, first in the entry
	bytes     int
	release   func() // of the proposal in whose memory it is; nil else, and once Raft has it
}

// NewReplica returns a replica on log, with the state of the log's last
// checkpoint loaded into machine. It campaigns in the order of ranks.
func NewReplica[R any](opts Options, log Log, machine Machine[R], leading Leading, now Now) (_ *Replica[R], err error) {
	defer func() {
		// A log of which Raft or the machine can make no sense ends nobody else.
		if p := recover(); p != nil {
			err = fmt.Errorf("cluster: group %d: panic while starting: %v", opts.Group, p)
		}
	}()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	hs, cs, err := log.InitialState()
	if err != nil {
		return nil, fmt.Errorf("cluster: group %d: initial state: %w", opts.Group, err)
	}
	r := &Replica[R]{
		opts: opts, log: log, machine: machine, leading: leading, confState: cs,
		rand: rand.New(rand.NewPCG(opts.Seed, opts.ID)), heard: map[uint64]int64{}, gone: map[uint64]bool{}, born: now.Mono,
		edges: edges{keep: defaultRetention()},
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	last, err := log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("cluster: group %d: last index: %w", opts.Group, err)
	}
	if r.applied > last {
		return nil, fmt.Errorf("%w: group %d applied %d, its log ends at %d", ErrMayHaveForgotten, opts.Group, r.applied, last)
	}
	if hs.GetCommit() > last {
		return nil, fmt.Errorf("%w: group %d knows entry %d to be committed, its log ends at %d", ErrMayHaveForgotten, opts.Group, hs.GetCommit(), last)
	}
	r.formed = last > 0
	r.term = hs.GetTerm()
	r.rn, err = raft.NewRawNode(&raft.Config{
		ID: opts.ID, ElectionTick: opts.ElectionTicks, HeartbeatTick: opts.HeartbeatTicks,
		Storage: storage[R]{log, r}, Applied: r.applied, AsyncStorageWrites: true,
		MaxSizePerMsg: maxMessage, MaxCommittedSizePerReady: maxApply,
		MaxUncommittedEntriesSize: maxUncommitted, MaxInflightMsgs: maxInflightMessages, MaxInflightBytes: maxInflight,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true,
		Logger: quiet{},
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: group %d: %w", opts.Group, err)
	}
	r.scheduleCampaign(now, 0, 10)
	return r, nil
}

// load fills the machine from the log's last checkpoint.
func (r *Replica[R]) load() error {
	r.machine.Reset()
	r.appliedT, r.stamp = 0, 0
	applied, err := r.log.Pages(func(key, value []byte) error {
		if CorePage(key) {
			return r.loadCore(value)
		}
		return r.machine.LoadPage(key, value)
	})
	if err == nil {
		err = r.machine.Loaded(applied)
	}
	if err != nil {
		return fmt.Errorf("cluster: group %d: load state: %w", r.opts.Group, err)
	}
	r.applied = applied
	first, err := r.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("cluster: group %d: first index: %w", r.opts.Group, err)
	}
	r.edges = edges{first: first, checkpoint: applied, stamp: r.stamp, keep: r.edges.keep}
	return nil
}

// storage is the log as Raft reads it: a snapshot is the state as applied, and
// what was applied is committed.
type storage[R any] struct {
	Log
	r *Replica[R]
}

// InitialState gives the commit index at least what was applied: a checkpoint
// may be written before the hard state that knows its last entries committed,
// and survive a crash alone.
func (s storage[R]) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hs, cs, err := s.Log.InitialState()
	if err != nil || hs.GetCommit() >= s.r.applied {
		return hs, cs, err
	}
	return &pb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(s.r.applied)}, cs, nil
}

func (s storage[R]) Snapshot() (*pb.Snapshot, error) {
	r := s.r
	if r.applied == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: r.confState, Index: new(r.applied), Term: new(r.appliedT),
	}}, nil
}

// Tick is called every Options.Tick, but need not while the replica is quiet.
func (r *Replica[R]) Tick(now Now) {
	if r.rest.quiet {
		return
	}
	r.tickRest(now)
	if !r.formed && r.term == 0 && r.opts.Rank > 0 && now.Mono-r.born < int64(formationGrace) {
		return
	}
	r.rn.Tick()
}

// Step takes a message from another replica. What Raft refuses is dropped.
func (r *Replica[R]) Step(now Now, m *pb.Message) {
	// Who asks for votes, or still is in an earlier term, does not follow us.
	if m.GetTerm() == r.term {
		r.heard[m.GetFrom()] = now.Mono
		delete(r.gone, m.GetFrom())
	}
	if !r.stirs(now, m) {
		return
	}
	_ = r.rn.Step(m) // Raft ignores what is stale; nothing is owed to the sender
}

// StepSnapshot takes a snapshot that was received in full.
func (r *Replica[R]) StepSnapshot(now Now, m *pb.Message, received Receiver) {
	r.dropIncoming()
	r.incoming = received
	r.Step(now, m)
}

func (r *Replica[R]) dropIncoming() {
	if r.incoming != nil {
		_ = r.incoming.Abort() // unreferenced generations go at the next open
		r.incoming = nil
	}
}

// SnapshotSent says how the streaming of a snapshot to a replica ended.
func (r *Replica[R]) SnapshotSent(to uint64, err error) {
	r.wake()
	status := raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
	}
	r.rn.ReportSnapshot(to, status)
}

// Unreachable says that a message to a replica was dropped.
func (r *Replica[R]) Unreachable(to uint64) {
	if r.role == raft.StateLeader {
		r.wake()
	}
	r.rn.ReportUnreachable(to)
}

// Transfer asks for leadership to move to a replica.
func (r *Replica[R]) Transfer(to uint64) {
	r.wake()
	r.rn.TransferLeader(to)
}

// Propose queues p. Its Done runs in a later Advance, or at once if this
// replica does not lead.
func (r *Replica[R]) Propose(p Proposal[R]) {
	switch {
	case r.role != raft.StateLeader || p.Term != 0 && p.Term != r.term:
		p.finish(ErrNotLeader)
	case p.size() > MaxCommand:
		p.finish(fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, p.size(), MaxCommand))
	default:
		r.wake()
		r.queue.push(p)
	}
}

func (p Proposal[R]) finish(err error) {
	if p.Done != nil {
		var zero R
		p.Done(zero, err)
	}
}

// Stored says that a write survives what the log promises. An installed
// snapshot becomes the state.
func (r *Replica[R]) Stored(w StorageWrite, eff *Effects) error {
	if w.Write.Install != nil {
		meta := w.Write.Install.Meta()
		if err := r.load(); err != nil {
			return err
		}
		r.confState, r.installs = meta.GetConfState(), false
		r.applied, r.appliedT = meta.GetIndex(), meta.GetTerm()
	}
	for _, m := range w.responses {
		if m.GetTo() == r.opts.ID {
			if err := r.rn.Step(m); err != nil {
				return fmt.Errorf("cluster: group %d: %w", r.opts.Group, err)
			}
		} else {
			eff.Messages = append(eff.Messages, m)
		}
	}
	return nil
}

// Advance carries out everything that can be: seals proposals, applies what is
// committed, and adds what the shell must do to eff. The shell calls it after
// feeding inputs, and again after Stored. An error is final.
func (r *Replica[R]) Advance(now Now, eff *Effects) error {
	r.now = now
	if r.failed != nil {
		return r.failed
	}
	for {
		r.seal(now)
		if !r.rn.HasReady() {
			// After whatever came: it may be a reason to stand back.
			if !r.campaignDue(now) {
				break
			}
			continue
		}
		if err := r.ready(now, eff); err != nil {
			return err
		}
	}
	eff.Messages = r.news.flush(now, eff.Messages)
	r.dropIncoming()
	r.keepRest(now, eff)
	return r.maybeCheckpoint(now)
}

func (r *Replica[R]) ready(now Now, eff *Effects) error {
	rd := r.rn.Ready()
	r.observe(rd)
	leads := r.role == raft.StateLeader
	if !leads {
		// Who leads no more, perhaps because it was removed, tells what it can.
		eff.Messages = r.news.release(eff.Messages)
	}
	r.toApply, r.toStep = r.toApply[:0], r.toStep[:0]
	for _, m := range rd.Messages {
		switch {
		case m.GetTo() == raft.LocalAppendThread:
			w, err := r.storageWrite(m)
			if err != nil {
				return err
			}
			r.voting(now, w.responses)
			eff.Writes = append(eff.Writes, w)
		case m.GetTo() == raft.LocalApplyThread:
			r.toApply = append(r.toApply, m.GetEntries()...)
			r.toStep = append(r.toStep, m.GetResponses()...)
		case m.GetType() == pb.MsgSnap:
			s, err := r.capture(m)
			if err != nil {
				return err
			}
			eff.Snapshots = append(eff.Snapshots, s)
		case !leads || r.news.pass(m, now):
			r.speaks(now, m)
			eff.Messages = append(eff.Messages, m)
		}
	}
	if err := r.apply(now, r.toApply); err != nil {
		return err
	}
	for _, m := range r.toStep {
		if err := r.rn.Step(m); err != nil {
			return fmt.Errorf("cluster: group %d: %w", r.opts.Group, err)
		}
	}
	return nil
}

// observe follows role, term and leader, and ends what belongs to a leadership
// that is over.
func (r *Replica[R]) observe(rd raft.Ready) {
	term := r.term
	if !raft.IsEmptyHardState(rd.HardState) {
		term = rd.HardState.GetTerm()
	}
	role, leader := r.role, r.leader
	if rd.SoftState != nil {
		role, leader = rd.SoftState.RaftState, rd.SoftState.Lead
	}
	if r.role == raft.StateLeader && (role != raft.StateLeader || term != r.term) {
		r.unlead()
	}
	if role == raft.StateLeader && (r.role != role || term != r.term) {
		r.since = r.now.Mono
	}
	r.term, r.role, r.leader = term, role, leader
	if leader != 0 {
		r.election = election{}
	}
}

// unlead ends the leadership: what was sealed may yet be committed, what was
// not never was.
func (r *Replica[R]) unlead() {
	if r.led {
		r.led = false
		r.leading.Unlead()
	}
	// Of the entry that is being answered Raft has the rest too, so what counts is
	// what it does not have.
	given := r.inEntries
	for _, s := range r.held.entries {
		given -= s.proposals
	}
	queue := r.queue.all()
	r.queue, r.inEntries, r.sealed, r.held = fifo[Proposal[R]]{}, 0, fifo[sealed]{}, held{}
	r.uncommitted, r.sealMono = 0, 0
	for i, p := range queue {
		if i < given {
			p.finish(ErrUnknownOutcome)
		} else {
			p.finish(ErrNotLeader)
		}
	}
}

// Stop ends the replica: nothing was done with what is queued, anything may
// come of what was sealed.
func (r *Replica[R]) Stop() {
	r.unlead()
	r.news.release(nil)
	r.dropIncoming()
	r.role = raft.StateFollower
}

func (r *Replica[R]) storageWrite(m *pb.Message) (StorageWrite, error) {
	w := StorageWrite{Write: Write{Entries: m.GetEntries(), Summed: true}, responses: m.GetResponses()}
	// An unchanged hard state leaves all three at 0 and must not overwrite (H3).
	hs := &pb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	if !raft.IsEmptyHardState(hs) {
		w.Write.HardState = hs
	}
	if len(w.Write.Entries) > 0 {
		r.formed = true
	}
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		want, in := m.GetSnapshot().GetMetadata(), r.incoming
		if in == nil || in.Meta().GetIndex() != want.GetIndex() || in.Meta().GetTerm() != want.GetTerm() {
			return w, fmt.Errorf("cluster: group %d: Raft restores snapshot %d, which was not received", r.opts.Group, want.GetIndex())
		}
		w.Write.Install, r.incoming, r.formed, r.installs = in, nil, true, true
	}
	return w, nil
}

// quiet drops Raft's own log lines; the shell logs changes of role with slog.
// Panicf and Fatalf must not return.
type quiet struct{}

func (quiet) Debug(...any)            {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Info(...any)             {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (quiet) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (quiet) Panic(v ...any) { panic(fmt.Sprint(v...)) }
func (quiet) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
