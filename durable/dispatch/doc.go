// Package dispatch decides who gets a message now.
//
// The leader of a cluster has one [Dispatcher] for each durable. It matches
// what the durable still owes, which the replicated record knows ([Source]),
// with the credit of the subscribers that are attached.
//
// # Pure, and owned by the group's loop
//
// A Dispatcher has no goroutine, clock, lock or I/O, draws no random number and
// never ranges over a map: equal calls give equal answers, so the simulator
// replays it. The loop of the group calls it, because that loop owns the record
// it reads. A shell around it (package server/service) feeds it what happened
// and carries away what [Dispatcher.Next] hands out.
//
// # Where an id is
//
// New ids are handed out in order; the cursor is one past the last of them.
// Every pending id below the cursor is in exactly one place:
//
//	          Next                Ack                 Gone
//	pending --------> held by one ------> settling ----------> forgotten
//	       Nack,       |  ^  |               ^
//	     Detach, Recall|  |  |Nack, not yet  | Ack after a failover
//	                   v  |  v               |
//	               returned <-- delayed      |
//	                   |    time has come    |
//	                   +---------------------+
//
// Above the cursor only settling ids are remembered. An id in "settling" was
// acknowledged, but the settlement was not applied yet; it is not handed out.
//
// All of it is kept in runs of ids, never one by one. See runs.go.
//
// # Guarantees
//
//   - No id is held by two subscribers at once.
//   - No id above the replicated dispatch watermark is handed out, so a new
//     leader knows which messages may have been delivered.
//   - Returned ids go first, lowest first, then new ids in order. A standard
//     durable therefore delivers in order, and a new attachment starts again at
//     the lowest id that is pending. Only what was delayed by a nack comes
//     late, and a nack outlives the attachment it came from.
//   - Next leaves nothing behind that a subscriber has credit for.
//   - Losing a Dispatcher loses no message and acknowledges none: a new one
//     starts from the record.
//   - Cost follows the number of runs and batches, not of messages.
//
// # Counts
//
// A delivery that ended without an acknowledgement is counted in the record
// when its release is applied. The message is free at once, so it may be
// handed out again before. [Span.Ended] says by how much the record lags;
// whoever shows a count adds it.
//
// # What it does not do
//
// It replicates nothing: the caller proposes the settlements, releases and
// watermarks it is told, and reports them when they were applied. It does not
// know sessions or timeouts: a subscriber that is gone is detached. Ids that
// come back below the cursor (a rewind) are seen only by a new Dispatcher.
package dispatch
