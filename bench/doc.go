// Package bench drives a cluster through package client and says how fast it
// was: messages and bytes a second, the time from call to confirmation, and
// what the servers spent on it.
//
// It starts no servers and changes no realm: the caller gives it a client for
// each publisher and, if it can, a way to ask what the servers' processor time
// is. What it measures is what a program in Go would see, the cost of the
// client and of the load itself included.
//
// It does not correct for a load that is not offered while the window is full
// (coordinated omission): publishing is closed loop, and the time of a call
// begins when the call is made.
package bench
