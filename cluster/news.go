package cluster

import (
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// newsDelay is how long the news that entries are committed waits for entries to
// ride with. Raft tells followers at once, in a message without entries that each
// answers, which doubles the messages of a lone publisher. Followers may learn it
// late: confirmations come from the leader, who leads next applies what it finds
// committed, and every heartbeat says it again.
const newsDelay = 5 * time.Millisecond

// news keeps for each follower the last append without entries.
//
// Invariant: what is kept is of the term in which this replica leads, and nothing
// that left later for the same follower carries entries.
type news struct {
	kept []*pb.Message
	due  int64 // Mono, 0 while nothing is kept
}

// pass takes a message that Raft wants sent and reports whether it should go
// now. Otherwise it is kept until it is overtaken or flushed.
func (n *news) pass(m *pb.Message, now Now) bool {
	if m.GetType() != pb.MsgApp {
		return true
	}
	at := -1
	for i, k := range n.kept {
		if k.GetTo() == m.GetTo() {
			at = i
		}
	}
	switch {
	case len(m.GetEntries()) == 0 && at >= 0:
		n.kept[at] = m
	case len(m.GetEntries()) == 0:
		n.kept = append(n.kept, m)
		if n.due == 0 {
			n.due = now.Mono + int64(newsDelay)
		}
	default:
		if at >= 0 { // the entries bring the same news
			last := len(n.kept) - 1
			n.kept[at], n.kept[last] = n.kept[last], nil
			if n.kept = n.kept[:last]; last == 0 {
				n.due = 0
			}
		}
		return true
	}
	return false
}

// flush appends what has waited long enough.
func (n *news) flush(now Now, to []*pb.Message) []*pb.Message {
	if n.due == 0 || now.Mono < n.due {
		return to
	}
	return n.release(to)
}

// release appends everything.
func (n *news) release(to []*pb.Message) []*pb.Message {
	to = append(to, n.kept...)
	clear(n.kept)
	n.kept, n.due = n.kept[:0], 0
	return to
}
