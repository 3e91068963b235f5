// Package client publishes to and subscribes from a Perdure cluster.
//
//	Connect ─▶ Client ─┬─ Publisher ──▶ Publish, PublishAsync, PublishBatch, Flush
//	                   ├─ Subscribe ──▶ Receive, Fetch, All, Consume; Ack, AckSync, Nack
//	                   └─ Admin ──────▶ GetRealm, PlanRealm, ApplyRealm, Status; SuspendCluster,
//	                                    SaveCluster, LoadCluster, ResumeCluster
//
// Publishers and subscriptions are supervised: they find the leader of their
// store, notice a broken or silent connection, look for the next leader, send
// again what was not confirmed and go on. None ends without an error that says
// why.
//
// # What is guaranteed
//
// A nil error of Publish, or of a Future, means that the message is stored as
// the store's durability says, or that no durable was interested in it
// (Receipt.Interested). Within one publisher messages are stored in the order
// in which they were published, each at most once, across reconnects and
// changes of leader.
//
// An error of publishing is one of three answers, and they are never mixed up:
// errors.Is(err, ErrOutcomeUnknown) means that the message may or may not be
// stored; any other error means that it is not and will not be. A context that
// ends stops the waiting only.
//
// A subscription delivers each message at least once, in the order of the
// store, except for those that come again. It never holds more than its
// prefetch: an application that is slow, or that does not acknowledge, gets no
// more. A message is settled when AckSync returned nil; Ack is sent within
// about two milliseconds, again after a reconnect, and confirmed by nothing but
// Drain.
//
// # What it does not do
//
// It starts no transaction across publishers, remembers nothing on disk, and
// filters no message that was delivered to another process before. Messages
// published by a program that dies before their confirmation are unknown.
//
// # Ownership and concurrency
//
// All methods may be called from several goroutines. Messages given to a
// publisher are encoded before the call returns and may be reused. What a
// Delivery returns shares the bytes of the frame it came in: it may be kept,
// and must not be changed. Every Close is idempotent, bounded by its context,
// and returns when the goroutines that it stops have ended.
package client
