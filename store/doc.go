// Package store is the replicated state machine of one cluster: its stores,
// their durables, and the sessions of those who publish.
//
// [Machine] applies committed entries. It gives every accepted message an id,
// decides which durables want it, remembers what each publisher session was
// told, keeps the limits of stores and knows which entries hold no message that
// anybody needs. It keeps no bodies: the log entry is the stored message, and
// the index says where in the log it is.
//
// # Deterministic
//
// Equal entries leave equal states and give equal results on every replica.
// There is no clock here, no goroutine, no random number, no I/O, and no map is
// ranged over. Time comes with the entry: T, the stamp, for instants, and R, T
// without the time that passed between leaders or suspended, for durations.
//
// A command that does not decode changes nothing, is counted and answered with
// [Invalid]: a poisoned entry must not stop every replica for ever. A command
// of an unknown kind comes from a newer version: Apply refuses the whole entry
// before anything of it is applied, so that a newer program can go on there.
//
// # State in pages
//
// The state is kept in pages with a key and canonical content: equal states
// have equal pages, whatever happened before. [Machine.Changed] yields what
// changed since it was last asked, and [Machine.Hash] is the sum of the hashes
// of all pages and looks only at those touched since. Keys are a kind byte, an
// owner and a number, both 8 bytes big endian:
//
//	1  0        0        time, term, counters, whether suspended
//	2  0        store    a store
//	3  0        durable  a durable
//	4  durable  page     its pending messages (package durable)
//	5  durable  page     counts of ended deliveries (package durable)
//	6  store    page     up to 128 batches of the index
//	7  0        session  a publisher session
//	8  0        0        the load that is under way, and the last one that ended
//
// Of what is being loaded, kinds are 64 more.
//
// # Suspended
//
// From [AppendSuspend], or [AppendSuspendUnused], to [AppendResume] the machine answers [Suspended] to a
// batch that is new, to whoever attaches or wants a durable made or deleted, and to
// a definition that deletes anything. Nothing expires, since R stands still. What
// ends something is applied as ever: settlements, releases, detaching. So is what
// keeps: a batch that was stored before is recognised, ticks keep sessions.
//
// # Saved and loaded
//
// [Machine.Save] writes the state as package statefile has it, which is without
// log positions and ids of the realm; [Machine.Summary] says what it would write,
// the state hash included. A file comes back by commands, so that every replica
// gets it: [AppendLoadBegin], [AppendLoadPart] for each block, [AppendLoadCommit].
// In between it is a machine within the machine, in pages like all else, and what
// is loaded there is as safe as a message; but nobody sees it. The commit compares
// the hash, and then all of the load takes the place of its stores, or none. The
// machine is suspended from begin to end.
//
// # What a batch costs
//
// Without matchers a publish costs the same for 1 message as for 65,535: a
// range is added to each pending set and one record to the index. The record
// counts, in live, the pairs of a durable and a message that are pending. At
// zero the batch is dead; an entry is dead when all its batches are.
//
// Where matchers decide, each message is looked up once, in an index by field
// and value. Sizes are accounted from the index alone: a message counts as its
// batch's bytes divided by its messages, rounded up, and a batch counts as
// min(messages, live) of these. With one durable that is exact; with several it
// is at most what is stored, and at least what is needed.
//
// # What a backlog costs
//
// Of memory, what its runs of pending ids and its batches cost, however many
// messages these have: a record of the index is 48 bytes in the few pages that
// are in use and about 12 in the others, which are kept as they are saved, and
// its entry counts 4. A checkpoint writes the pages that changed, and so does
// not grow with the backlog.
//
// # What this package does not do
//
// It knows no subscribers, except who is attached to a standard durable; that
// is durable/dispatch. It judges no rights and no message sizes: the edge does,
// before it proposes. It writes nothing: cluster does.
//
// A Machine belongs to its group's loop. Nothing here is safe for concurrent
// use.
package store
