// Package bench puts loads on a cluster through package client and says how fast
// it was: messages and bytes a second, the time to confirmation and to receiving,
// and what servers and clients spent on it.
//
//	StartServers ─▶ Servers ─▶ Connect, Usage ─▶ Load ─▶ Run ─▶ Figures
//	                                                     several runs ─▶ Summarize ─▶ Compare, WriteCSV, WriteReport
//
// A scenario is one kind of load, and one file. Most warm up for a while, are
// measured for a while, and leave behind what they published, but nothing in the
// durables that they consume from where the servers are not theirs alone. What
// they measure is what a program in Go would see, the cost of the client and of
// the load itself included.
//
// # What is measured from when
//
// In closed loops, which are all scenarios but latency, the time of a message
// begins when it is published: nothing is offered while the window is full, and
// a stall delays few messages. Latency is an open loop: the time begins when the
// message was meant to go, so that all who had to wait behind a stall count as
// late (coordinated omission). Between publisher and subscriber the time travels
// in the first eight bytes of the body; both are in this process.
//
// Only every sixteenth of small asynchronous messages is timed, since timing
// costs as much as publishing. Latency times every message.
//
// What servers use comes from /proc, so it is known on Linux, and for servers on
// this machine: processor time in steps of 10 ms, bytes written less those that
// were deleted in time, the greatest resident memory since the server was
// started, and anonymous memory as seen five times a second. Fsyncs and
// allocations are what servers count themselves; they are asked before and after
// what is measured, and before one of them is killed.
//
// # What it does not do
//
// It does not judge, corrects nothing for other work on the machine, and keeps
// nothing.
package bench
