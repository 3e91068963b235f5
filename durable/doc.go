// Package durable is the replicated record of what each durable still wants.
//
// A durable is a named, lasting interest in the messages of one store. The
// store numbers its messages; a durable keeps no bodies, only the numbers that
// nobody has acknowledged: its [Pending] set. Beside that it keeps, for the few
// messages where there is anything to say, how often their delivery has ended
// ([Counts]) and how often it may have happened under a leader that is gone
// ([Marks]).
//
// # Replicated, so deterministic
//
// The store calls these values while it applies committed entries, on every
// replica and in log order. Equal calls leave equal values. Nothing here reads
// a clock, starts a goroutine, draws a random number, does I/O or ranges over a
// map.
//
// What belongs to a moment instead of the log (which subscriber is connected,
// how much credit it has, when to try again) lives in durable/dispatch, on the
// leader only, and is rebuilt from these values after a failover.
//
// # Pages
//
// Values are kept and written in pages: pieces with a number of their own, so
// that a checkpoint writes only what changed, and the hash of the state costs
// only what was touched. The content of a page depends on what the value is
// and never on how it came to be so: equal values have equal pages. [Tracker]
// keeps the books.
//
// A [Pending] set is cut into regions of 65,536 ids. A region that holds at most
// 2,048 ids is one page, a list; others have a page for each 4,096 ids that are
// not all absent. So a durable that wants few of many messages costs about what
// these few cost. A page is one of
//
//	1 | n      a run: n full pages of 4,096 ids, n as uvarint
//	2 | ids    a region: 1 to 2,048 ids, each as 2 bytes, big endian, ascending
//	3 | bits   512 bytes, bit i%64 of the little endian word i/64 is id i
//
// and its number is id>>12 of the first id it may hold. Runs are as long as can
// be, so that hundreds of millions of pending messages are a few bytes.
//
// A page of [Counts] is a list of (id & 4095 as 2 bytes, ended as uvarint),
// ascending.
//
// # Guarantees
//
//   - A pending message stays so until it is removed: by an acknowledgement, or
//     because its durable is deleted.
//   - A count never falls while its message is pending.
//   - Damaged pages are reported by LoadPage or Loaded; nothing panics.
//
// Values are not safe for concurrent use: the apply loop owns them.
package durable
