package cluster

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// widow returns a puppet of a rank that has one entry, of term 1, and has just
// lost its leader, which was replica 2.
func widow(t *testing.T, rank int, voters ...uint64) *puppet {
	p := newPuppet(t, voters...)
	p.opts.Rank = rank
	p.Step(p.now, &pb.Message{
		Type: pb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1)),
		Entries: []*pb.Entry{{Term: new(uint64(1)), Index: new(uint64(1))}},
	})
	p.advance(0)
	p.store()
	if p.leader != 2 {
		t.Fatal("it does not follow")
	}
	p.PeerDown(p.now, 2)
	return p
}

// asked makes a replica ask for a vote, or whether it would get it, with a log
// that ends at an index, in term 1.
func (p *puppet) asked(what pb.MessageType, from, term, index uint64) {
	m := &pb.Message{Type: what.Enum(), From: &from, To: new(uint64(1)), Term: &term, Index: &index, LogTerm: new(uint64(0))}
	if index > 0 {
		m.LogTerm = new(uint64(1))
	}
	p.Step(p.now, m)
	p.advance(0)
	p.store()
}

// hears makes a replica say yes.
func (p *puppet) hears(what pb.MessageType, from, term uint64) {
	p.Step(p.now, &pb.Message{Type: what.Enum(), From: &from, To: new(uint64(1)), Term: &term})
	p.advance(0)
}

// Who promises a vote stands back: its campaign is not to come sooner, and comes
// if the other does not go on.
func TestAPromiseBringsNoCampaignForward(t *testing.T) {
	p := newPuppet(t, 1, 2, 3, 4, 5)
	p.opts.Rank = 3
	p.scheduleCampaign(p.now, 0, 10) // as for a new realm
	planned := p.election.due
	p.asked(pb.MsgPreVote, 2, 1, 0)
	if p.election.due != planned {
		t.Errorf("campaigns at %v, had planned to at %v", time.Duration(p.election.due), time.Duration(planned))
	}
	p = widow(t, 0, 1, 2, 3)
	p.asked(pb.MsgPreVote, 3, 2, 1)
	p.asked(pb.MsgPreVote, 2, 2, 0) // a shorter log, and no reason to hurry
	if p.advance(40 * time.Millisecond); p.role != raft.StateFollower {
		t.Errorf("%v after a promise", p.role)
	}
	if p.advance(60 * time.Millisecond); p.role != raft.StatePreCandidate {
		t.Errorf("%v although nobody came for the vote", p.role)
	}
}

// Who votes for another campaigns no more in that term, whoever asks late, and
// however long the other takes.
func TestAVoterDoesNotCampaign(t *testing.T) {
	p := widow(t, 1, 1, 2, 3, 4, 5)
	p.asked(pb.MsgPreVote, 3, 2, 1)
	p.asked(pb.MsgVote, 3, 2, 1)
	p.asked(pb.MsgPreVote, 4, 2, 1) // 4 did not know of term 2 yet, and is refused
	if p.advance(400 * time.Millisecond); p.role != raft.StateFollower || p.election.due != 0 {
		t.Errorf("%v, campaigns at %v", p.role, time.Duration(p.election.due))
	}
}

// The one it voted for dies before it leads.
func TestACandidateThatDiesIsReplaced(t *testing.T) {
	p := widow(t, 1, 1, 2, 3, 4, 5)
	p.asked(pb.MsgPreVote, 3, 2, 1)
	p.asked(pb.MsgVote, 3, 2, 1)
	p.PeerDown(p.now, 4)
	if p.advance(100 * time.Millisecond); p.role != raft.StateFollower {
		t.Errorf("%v although another died", p.role)
	}
	p.PeerDown(p.now, 3)
	if p.advance(100 * time.Millisecond); p.role != raft.StatePreCandidate {
		t.Errorf("%v: it waits for the election timeout", p.role)
	}
}

// A candidate does not give up its candidacy for a campaign planned before.
func TestACandidateKeepsItsCandidacy(t *testing.T) {
	p := widow(t, 1, 1, 2, 3)
	p.advance(20 * time.Millisecond) // it asks
	p.store()
	p.asked(pb.MsgPreVote, 3, 2, 0) // and refuses one with a shorter log
	if p.election.due == 0 {
		t.Fatal("who refuses does not campaign")
	}
	p.hears(pb.MsgPreVoteResp, 3, 2)
	p.store()
	p.asked(pb.MsgPreVote, 3, 2, 0)  // it had sent two
	p.advance(40 * time.Millisecond) // 3 writes its vote
	if p.hears(pb.MsgVoteResp, 3, 2); p.role != raft.StateLeader {
		t.Errorf("%v although all have voted for it", p.role)
	}
}

// Who is tied tries again, later each time; who refuses a vote and is no
// candidate does not.
func TestTiesSpread(t *testing.T) {
	p := widow(t, 2, 1, 2, 3)
	var waits []int64
	for term := uint64(2); term < 12; term++ {
		p.advance(3 * time.Second) // whatever was planned
		p.store()
		p.hears(pb.MsgPreVoteResp, 3, term)
		p.store()
		if p.role != raft.StateCandidate || p.term != term {
			t.Fatalf("%v in term %d, want a candidate in %d", p.role, p.term, term)
		}
		p.asked(pb.MsgVote, 3, term, 1)
		waits = append(waits, p.election.due-p.now.Mono)
	}
	for i, w := range waits {
		spread := int64(2) << min(i, mostTies)
		least, most := int64(standBack)+spread*2*int64(rankDelay), int64(standBack)+spread*(2*int64(rankDelay)+int64(rankDelay)/2)
		if w < least || w > most+1 {
			t.Errorf("tie %d: again after %v, want %v to %v", i, time.Duration(w), time.Duration(least), time.Duration(most))
		}
	}
	p = widow(t, 2, 1, 2, 3)
	p.election.due = 0
	if p.asked(pb.MsgVote, 3, 2, 0); p.election.due != 0 {
		t.Error("who is no candidate is tied")
	}
}

// Who has a leader has nothing to do with candidates, not even with the one it
// has voted for.
func TestFollowersDoNotCampaign(t *testing.T) {
	p := widow(t, 0, 1, 2, 3, 4, 5)
	p.asked(pb.MsgPreVote, 3, 2, 1)
	p.asked(pb.MsgVote, 3, 2, 1)
	p.Step(p.now, &pb.Message{Type: pb.MsgApp.Enum(), From: new(uint64(4)), To: new(uint64(1)), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1))})
	p.advance(0)
	if p.leader != 4 || p.election != (election{}) {
		t.Fatalf("leader %d, %+v", p.leader, p.election)
	}
	p.asked(pb.MsgPreVote, 2, 1, 0) // an earlier term is refused
	p.PeerDown(p.now, 3)
	if p.advance(100 * time.Millisecond); p.election.due != 0 || p.role != raft.StateFollower || p.leader != 4 {
		t.Errorf("%v of %d, campaigns at %v", p.role, p.leader, time.Duration(p.election.due))
	}
}
