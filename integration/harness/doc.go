// Package harness runs real server processes for tests, and judges what clients
// saw.
//
// A Fleet is some servers on loopback, each a process of its own: the test binary
// itself, started again by Main, so that a test needs nothing built beforehand.
// Nodes are killed, paused, stopped, wiped and started again while a test runs.
// A History publishes and subscribes meanwhile, notes what was confirmed and what
// came, and says at the end what was lost, invented, changed or out of order.
//
// # Guarantees
//
//   - No server outlives the test, whether it passes, fails or is killed.
//   - A server that ends without the test having meant it fails the test, and so
//     does an error in a server's log that the test did not expect.
//   - A failed test shows the end of each server's log; -keep DIR keeps all of it.
//   - Waiting is bounded: whoever waits too long fails and says for what.
//
// # What it does not do
//
// It has no faults of networks, disks and clocks; the simulator has them.
package harness
