package cluster

import (
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// When a leader is lost, its server is seen to be gone long before an election
// timeout has passed, and who sees it campaigns in the order of ranks. These
// campaigns must not get in each other's way, or the group waits for the timeout
// after all:
//
//   - Who votes for another campaigns no more in that term, unless the other's server
//     goes too. Else Raft's timeout is what is left, which begins anew with the vote.
//   - Who promises a vote stands back for a while, since the vote is asked for next.
//   - Who refuses a promise while it has no leader itself has the longer log, or
//     asked too soon, when the other still followed: it campaigns, perhaps again, in
//     the order of ranks.
//   - Who refuses a vote since it is a candidate too is tied: it campaigns again after
//     a while, and ranks are the farther apart the more often that was in vain. For
//     where messages take longer than ranks are apart, ties repeat themselves.
//   - Who has become a candidate waits for its votes: what was planned before is void.
//
// Nothing of it touches safety: a campaign begins with a question that changes no
// term (PreVote), and to which nobody says yes who hears a leader.

// mostTies bounds how far ranks are spread: 64 times.
const mostTies = 5

// election is a replica's part in finding a leader.
type election struct {
	due   int64  // Mono at which to campaign, 0 never
	ties  int    // since there was a leader, at most mostTies
	voted uint64 // term in which it voted, since there was a leader; 0 none
}

// PeerDown says that the process of a replica has gone. If it led, or this one
// had voted for it, this replica campaigns at once instead of waiting for the
// election timeout: PreVote lets it win only where the others have lost the
// leader too. If this one leads, the other does not count for its quorum.
func (r *Replica[R]) PeerDown(now Now, replica uint64) {
	r.gone[replica] = true
	if r.role == raft.StateLeader {
		r.wake()
	}
	// Raft is asked, since messages may have come after what was last observed.
	raftSays := r.rn.BasicStatus()
	chosen := raftSays.Lead == 0 && raftSays.GetVote() == replica
	if replica == r.opts.ID || raftSays.Lead != replica && !chosen {
		return
	}
	if err := r.rn.ForgetLeader(); err == nil {
		r.wake()
		r.scheduleCampaign(now, 0, 1)
	}
}

// scheduleCampaign plans a campaign after a time, ranks and chance apart from
// those of others.
func (r *Replica[R]) scheduleCampaign(now Now, after time.Duration, spread int64) {
	delay := int64(r.opts.Rank)*int64(rankDelay) + r.rand.Int64N(int64(rankDelay)/2)
	r.election.due = now.Mono + 1 + int64(after) + spread*delay
}

// campaignDue campaigns if it is time, and says whether it was. Raft refuses while
// a configuration change is unapplied, or where this one is no voter: then there
// is the timeout.
func (r *Replica[R]) campaignDue(now Now) bool {
	if r.election.due == 0 || now.Mono < r.election.due {
		return false
	}
	r.election.due = 0
	_ = r.rn.Campaign() // as above
	return true
}

// voting looks at the answers to candidates that are about to leave.
func (r *Replica[R]) voting(now Now, answers []*pb.Message) {
	if r.leader != 0 {
		return
	}
	e := &r.election
	for _, m := range answers {
		switch t := m.GetType(); {
		case t == pb.MsgVoteResp && !m.GetReject(): // or to itself
			e.due, e.voted = 0, m.GetTerm()
		case t == pb.MsgVoteResp && r.role == raft.StateCandidate:
			r.scheduleCampaign(now, standBack, 2<<e.ties)
			e.ties = min(e.ties+1, mostTies)
		case t == pb.MsgPreVoteResp && !m.GetReject():
			if planned := e.due; planned != 0 {
				r.scheduleCampaign(now, standBack, 1)
				e.due = max(e.due, planned)
			}
		case t == pb.MsgPreVoteResp && e.due == 0 && e.voted != r.term:
			r.scheduleCampaign(now, 0, 1)
		}
	}
}
