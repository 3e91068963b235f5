// Package catalog is the replicated state of the realm group: every revision of
// the definition, and what the definition does not say, which is numbers.
//
// Clusters, stores, static durables, endpoints and servers have names in the
// definition and ids everywhere else. An id is given when a name first appears
// and never again: what is deleted and defined anew gets a new id, so nothing
// old can be taken for it. A service of a new cluster gets its replica id, and
// the data directory that holds the replica claims it with a random tag: a
// directory with another tag was wiped, and must not speak for the old one.
//
// # Deterministic
//
// [Machine] is driven by the committed entries of the realm group's log, on
// every core server. Equal entries leave equal states and give equal results:
// nothing here reads a clock, starts a goroutine, draws a random number, does
// I/O or ranges over a map into state. Documents are read before the log, by
// [Apply.Encode]: the command carries what they mean, so parsing, which may
// become better with every version, is no part of the machine. The machine
// checks the meaning again with realm.Validate, realm.CheckChange and
// realm.Diff: a rule there may be tightened only together with the command.
//
// # Pages
//
// The state is a set of pages: one of what there is one of, and one for each
// revision, cluster, endpoint and server. Changed yields what to write to a
// disk, LoadPage takes it back; the hash of the state is the sum of the hashes
// of its pages.
//
// # Views
//
// [Machine.View] is a snapshot that never changes and may be shared with other
// goroutines. Encoded, it goes to servers without a replica of the realm group,
// which keep the last one they saw.
//
// # What it does not do
//
// It does not know which servers are up or which replicas run, and it gives no
// ids to dynamic durables: those belong to the store's own group, whose ids
// must keep apart from those here (all below [MaxID]).
package catalog
