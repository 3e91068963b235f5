// Command limit measures the naked pipeline: what these bytes cost on this
// machine with nothing around them. A client sends batches to server A over TCP,
// A sends them to B and C, each appends them to a preallocated file, with or
// without fdatasync, and A confirms what two of the three have appended. There
// is no Raft, no gRPC and no Pebble: nothing that replicates can be much faster.
//
// It prints our own figures beside it, measured in turns with the same bodies,
// batches and windows.
//
// The three servers are processes of their own, of this same program. They trust
// their input, keep no promise after a restart and are of no other use.
package main
