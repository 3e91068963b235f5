// Package peerpb is the contract between the servers of one realm: the
// handshake of a connection and the messages that are rare.
//
// It is generated from peer.proto. A server speaks with servers of its own and
// of the previous version, so fields are added, and removed only a version
// after the last use. What is frequent (Raft messages, heartbeats) is not here:
// package cluster/peer frames it by hand.
package peerpb
