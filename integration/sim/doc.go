// Package sim runs whole clusters in one goroutine, from one seed, and breaks
// what can break: the network, the processes, the disks, the clocks.
//
// Everything that decides is real: [cluster.Replica] with Raft inside,
// [service.Service] with the state machine, sessions and dispatch, messages and
// matchers. Simulated are the shell around a replica (shell.go does what
// cluster.Group does, in the same order), the network between servers, disks
// (clustertest.MemLog, which knows what would survive which crash), clocks, and
// the clients with their protocol: publishers with sessions and windows,
// subscribers with credit, acknowledgements and reconnects.
//
// Time is virtual. A run is a number of steps: each lets a little time pass,
// carries out what falls due, and then does something a client or a fault would
// do. Which faults there are, and how often, is drawn from the seed, so that
// some runs have few and some have all (swarm testing). At the end everything
// heals, and the cluster must come to rest with all messages delivered.
//
// integration/model judges the run while it goes on. The same seed gives the
// same run, to the last event: [Result.Hash] says so. A run that fails says how
// to repeat it.
//
// What a simulation cannot show: that the real disk engines keep what they say
// (cluster/clustertest and cluster/raftlog test that), that the real shells
// feed the replica as shell.go does, and anything about goroutines.
package sim
