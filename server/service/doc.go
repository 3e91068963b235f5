// Package service is one persistence service: the state machine of a cluster's
// replica and, while that replica leads, the dispatch of its durables, as one
// deterministic object.
//
// It implements [cluster.Machine] and [cluster.Leading]: applying an entry
// changes the stores, tells the dispatchers what was added, settled or taken
// over, and answers who waits for a settlement. Everything runs on the group's
// loop, which owns the pending sets that the dispatchers read.
//
// What the machine keeps is replicated. What is only here (who subscribes, with
// how much credit, what is on its way) is volatile: losing it loses no message
// and acknowledges none.
//
// It does not read bodies, write to sockets, or know a clock: deliveries go to
// each subscription's Deliver function, which must not block; the shell reads
// bodies from the log and sends them.
//
// An [Image] is a service's state at one entry, read by others while the service
// goes on: so states are saved.
package service
