// Package peer carries messages between servers over framed TCP. It implements
// cluster.Transport for all groups of a process and calls cluster.Receiving.
//
// # What it guarantees
//
//   - A message that arrives is the one that was sent: every frame has a
//     checksum over its header and one over its payload, but for entries that
//     carry their own, which are compared with it.
//   - It comes from the server it claims to come from, as far as the connection
//     is authenticated; from the same realm; and never of a type that only a
//     local Raft node may produce.
//   - Messages of one group to one server keep their order within their
//     connection: all MsgApp among each other, all other messages among each
//     other. Any message may be lost. None is repeated.
//   - Every queue is bounded, Send never blocks, and a peer that is slow, silent
//     or broken costs its own connection and nothing else.
//   - A snapshot's reader sees io.EOF only when the whole stream arrived.
//   - Close joins every goroutine.
//
// # What it does not do
//
// It does not encrypt: Options.Dial, Options.Listener and Options.Identify are
// where TLS goes. It does not know which replica lives where: Options.Accept
// decides that. It does not resend: Raft does. Peers are trusted not to lie
// about terms and indexes.
//
// # Connections
//
// A server dials one connection for control (everything but MsgApp; heartbeats
// of many groups travel in one frame), one for appends, one per snapshot and one
// per call. What it dials it only sends on, apart from answers; what it accepts
// it only receives on. So two servers that know each other have two control
// connections between them, one for each direction.
//
// All MsgApp share the append connection, empty ones too: an empty MsgApp that
// overtook the entries before it would be rejected and cost the follower its
// place in the pipeline.
//
// A small message that finds its connection idle is written by Send itself, as
// far as the socket takes it without waiting; everything else, and what is left
// of such a frame, is the writer's, one goroutine for each connection. Over TLS
// all is.
//
// PeerUp is called when the control connections of both directions stand, and
// PeerDown at once when either ends, in turn, never two at a time for one
// server. Every 50 ms the dialing side of a control connection sends its clock,
// and the accepting side echoes it: so servers know of each other that they live,
// and groups without traffic need no heartbeats of their own. A side that hears
// nothing for 5 s closes.
//
// A second process with a server's id is refused while the first is alive, that
// is while its control connection was heard of within 1.5 s.
//
// # Frames
//
// Integers in headers are little-endian, varints are unsigned LEB128.
//
//	offset  size
//	0       2     magic "Pd"
//	2       1     framing version, 2
//	3       1     type
//	4       4     length of the payload
//	8       4     how much of the payload the next checksum covers
//	12      4     CRC32C of that much of the payload
//	16      4     CRC32C of bytes 0 to 15
//
// The payload's checksum covers all of it, but for the data of entries in an append
// frame that carry their own checksum, as all commands do: their lengths and
// checksums are in what is covered, and the receiver compares each with its own. So
// a leader sums an entry once, whatever the number of its followers. What is
// replicated besides (configuration changes) is covered by the frame's.
//
// Each type has a greatest length; the whole is at most 40 MiB. Payloads above
// 1 MiB are read in steps, so that memory follows the bytes that came, not the
// length that was announced.
//
// The first frame each way is a Hello and a Welcome of api/peer/v1. A control or
// append frame holds the sender's realm id (16 bytes) and messages one after the
// other; see message.go for their form. A snapshot is a head frame (realm id and
// the MsgSnap), chunks, and an end mark with the total length and checksum. A
// call is a request frame (kind, body) and an answer or failure frame.
//
// # Who owns bytes
//
// Send encodes control messages at once and keeps nothing. An append's entries
// are kept until they are written, by reference: nobody may change them. A
// received append frame gets a buffer of its own, which its entries alias and
// nothing reuses; received control messages alias nothing.
package peer
