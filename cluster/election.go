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
//   - Who votes for another campaigns no more in that term; Raft's timeout, which
//     begins anew with the vote, is for the case that the other is lost too.
//   - Who promises a vote stands back for a while, since the vote is asked for next.
//   - Who refuses a promise while it has no leader itself has the longer log, or
//     was asked for its own too soon, when the other still followed: it campaigns,
//     perhaps again, in the order of ranks.
//   - Who refuses a vote since it is a candidate too is tied: it campaigns again
//     after a while.
//
// Nothing of it touches safety: a campaign begins with a question that changes no
// term (PreVote), and who follows a leader does not answer that.

// PeerDown says that the process of a replica has gone. If it led, this replica
// campaigns at once instead of waiting for the election timeout: PreVote lets it
// win only where the others have lost the leader too. If this one leads, the
// other does not count for its quorum.
func (r *Replica[R]) PeerDown(now Now, replica uint64) {
	r.gone[replica] = true
	if r.role == raft.StateLeader {
		r.wake()
	}
	// Raft is asked, since messages may have come after what was last observed.
	if r.rn.BasicStatus().Lead != replica || replica == r.opts.ID {
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
	r.campaign = now.Mono + 1 + int64(after) + spread*delay
}

// campaignDue campaigns if it is time, and says whether it did.
func (r *Replica[R]) campaignDue(now Now) bool {
	if r.campaign == 0 || now.Mono < r.campaign {
		return false
	}
	r.campaign = 0
	if r.leader != 0 {
		return false
	}
	_ = r.rn.Campaign() // refused while a configuration change is unapplied: the timeout will
	return true
}

// voting looks at the answers to candidates that are about to leave.
func (r *Replica[R]) voting(now Now, answers []*pb.Message) {
	if r.leader != 0 || r.role == raft.StateLeader {
		return
	}
	for _, m := range answers {
		if m.GetTo() == r.opts.ID {
			continue
		}
		switch t := m.GetType(); {
		case t == pb.MsgVoteResp && !m.GetReject():
			r.campaign = 0
		case t == pb.MsgVoteResp && r.role == raft.StateCandidate && r.campaign == 0:
			r.scheduleCampaign(now, standBack, 1)
		case t == pb.MsgPreVoteResp && !m.GetReject():
			if r.campaign != 0 {
				r.scheduleCampaign(now, standBack, 1)
			}
		case t == pb.MsgPreVoteResp && r.role != raft.StateCandidate && r.campaign == 0:
			r.scheduleCampaign(now, 0, 1)
		}
	}
}
