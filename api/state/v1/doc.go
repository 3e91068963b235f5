// Package statepb is the contract of a cluster with its own past: the rare
// commands of the log, and what the state keeps as protobuf.
//
// It is generated from the .proto files beside it. Logs, checkpoints, snapshots
// and saved files of every released version are read for ever, so fields are
// added, and never changed, removed or renumbered. The frequent commands
// (publish, settle, release) are fixed binary and belong to package store.
package statepb
