package peer

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// carried lists the types of messages that one server sends another. All others
// are a node's messages to itself, or to its storage, or proposals, which are
// never forwarded: from the network they would be an attack or a mistake.
var carried = [...]bool{
	pb.MsgApp:            true,
	pb.MsgAppResp:        true,
	pb.MsgVote:           true,
	pb.MsgVoteResp:       true,
	pb.MsgSnap:           true,
	pb.MsgHeartbeat:      true,
	pb.MsgHeartbeatResp:  true,
	pb.MsgTransferLeader: true,
	pb.MsgTimeoutNow:     true,
	pb.MsgReadIndex:      true,
	pb.MsgReadIndexResp:  true,
	pb.MsgPreVote:        true,
	pb.MsgPreVoteResp:    true,
}

// acceptable says whether m may travel under e: its type is one that travels,
// and it names the same sender and receiver. Only MsgTransferLeader, when a
// follower passes it on, has another From: the one to be leader.
func acceptable(e cluster.Envelope, m *pb.Message) bool {
	t := m.GetType()
	if t < 0 || int(t) >= len(carried) || !carried[t] {
		return false
	}
	if m.GetTo() != e.To || e.From == 0 || e.To == 0 {
		return false
	}
	return m.GetFrom() == e.From || t == pb.MsgTransferLeader
}

// isAppend says whether m travels on the append connection.
func isAppend(m *pb.Message) bool { return m.GetType() == pb.MsgApp }
