package cluster

import (
	"io"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Envelope says who sent a peer message, as whom, to whom. A receiver drops a
// message whose realm, group or epoch is not its own, whose From is retired, or
// whose incarnation is older than one it has seen from that replica.
type Envelope struct {
	Group       uint64 // group id, never reused
	Epoch       uint16 // of the group
	From, To    uint64 // replica ids
	Incarnation uint64 // random, of the sending process
}

// Transport carries messages between servers. It belongs to a process; all its
// groups share it.
type Transport interface {
	// Send queues m for a server and never blocks. A message may be lost,
	// repeated or late. It reports false when the message was dropped at once
	// because the queue is full or nobody listens. Entries of m are shared.
	Send(server uint64, e Envelope, m *pb.Message) bool
	// SendSnapshot sends m, of type MsgSnap, and what body writes, on a
	// connection of its own, and runs done once with the outcome. It does not
	// block; body runs on another goroutine.
	SendSnapshot(server uint64, e Envelope, m *pb.Message, body func(io.Writer) error, done func(error))
}

// Beat is how often servers show each other that they live.
const Beat = 50 * time.Millisecond

// Receiving is what a transport calls, from its own goroutines.
type Receiving interface {
	// Receive takes a message, whose bytes belong to the receiver. lone says that
	// only appends for the same group wait behind this call, as far as can be told:
	// then it may take as long as the disk does. Else it must not block for long.
	Receive(server uint64, e Envelope, m *pb.Message, lone bool)
	// ReceiveSnapshot takes a snapshot; it returns when body was read.
	ReceiveSnapshot(server uint64, e Envelope, m *pb.Message, body io.Reader) error
	// PeerUp and PeerDown say that the control connection to a server came or
	// went. PeerDown follows at once when the other process ends.
	PeerUp(server uint64)
	PeerDown(server uint64)
	// Wall says what another server's clock showed, and this one's when it was
	// received, in nanoseconds since 1970. It comes once in a Beat, and shows that
	// the server lives.
	Wall(server uint64, theirs, ours int64)
	// Echo says that another server has answered what left this one at a moment,
	// which has a monotonic reading. It comes as often as Wall.
	Echo(server uint64, left time.Time)
}
