// Command perdure is the whole of Perdure in one binary: the server, a cluster
// for development on one machine, a demonstration, and what a person needs to
// look at a realm, change it, publish and subscribe.
//
// Every verb group has a file. All of them write data to standard output and
// talk to standard error, so that output can be piped. A run ends with 0 if it
// did what it was asked, 1 if it did not, and 2 if it was asked wrongly; the
// text of an error says what happened and what to do, and ends with a stable
// reason code. With -o json the error is an object instead.
//
// Every flag can be given in the environment: --idle-timeout is
// PERDURE_IDLE_TIMEOUT. A flag wins over its variable. A flag that may be repeated
// takes a list from its variable, with commas between. Where the same flag means
// something else to another command, the variable has the command's name:
// PERDURE_BENCH_CONNECT, PERDURE_DEMO_COUNT, PERDURE_DEV_DATA.
//
// It keeps no state between runs and has no configuration of its own: that of
// a server belongs to package server, and what servers agree on is the realm.
package main
