// Package model judges what a cluster did. It knows the rules of the system in
// their plainest form (a map for a pending set, a list for the log) and nothing
// of the code that it judges: it imports none of it.
//
// A [Judge] is told everything that happened, as it happens, and keeps the
// first thing that must not be. It has four parts, each with rules of its own:
//
//   - the log: one leader per term, one content per index, no step backwards;
//   - the [Machine]: what applying the log must give, replayed from scratch;
//   - publishing: what a publisher was told agrees with what the log says;
//   - delivery: who may hold a message, in which order, with which counts.
//
// Numbers name everything: replicas, stores, durables, subscriptions. A message
// is known by a number that its publisher drew, unique in a run, and by the sum
// of its content.
//
// A Judge is not safe for concurrent use.
package model
