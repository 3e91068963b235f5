// Package cluster gets commands into the logs of a majority, hands them to a
// state machine in order, and tells those who asked what became of them.
//
// A group is a Raft group, the replicated form of one persistence cluster (or of
// the realm itself). A [Replica] is one member of it: Raft and the machine as a
// deterministic object without a goroutine, clock, random source or socket.
// Inputs go in as method calls; [Effects] come out. A [Group] is the shell that
// runs a replica, one turn at a time; a [Host] runs the groups of a server. The
// simulator in integration/sim drives the same Replica with no Group around it.
//
//	            Propose          Append            done
//	proposer ------------> seal ----------> Log ----------> Step(responses)
//	                        |                                    |
//	                        |  Messages                          v
//	                        +----------> Transport         committed entries
//	                                                             |
//	proposer <------------------ Done(result) <--------- Machine.Apply
//
// # Guarantees
//
//   - A message that promises something leaves after the write that holds it is
//     done, as the log's mode understands done.
//   - A result comes from applying the command at its own place in the log. "Not
//     done" ([ErrNotLeader], [ErrStopped]) and "unknown" ([ErrUnknownOutcome])
//     are different answers.
//   - Applying is deterministic: time comes out of the entry, stamped by the
//     leader that sealed it.
//   - A checkpoint is one atomic write of state, applied index, first index and
//     collected entries, so no crash leaves a deletion without the state that
//     allowed it.
//   - The state page key 0x00 is the replica's own.
//
// # The right to vote
//
// Raft is safe only while a member keeps what it promised. A copy that may have
// lost something ([ErrMayHaveForgotten]: a memory copy after a restart, an async
// copy after a power loss, an empty directory of a known replica, a log shorter
// than its watermark or than its state) is fenced: no replica is made of it and
// nothing is sent under its old id. Readmission under a new id is not part of
// this version.
//
// # Elections
//
// A leader whose server is gone has a successor before an election timeout has
// passed, unless disks or the network are slow. See election.go.
//
// # Quiet groups
//
// A group without traffic stops ticking and sends nothing; the life of servers,
// which they show each other, stands in for heartbeats. See quiet.go.
//
// # What it does not do
//
// It does not know messages, stores or durables, decode commands, choose which
// groups exist, or change membership. It keeps no bytes: a [Log] does.
package cluster
