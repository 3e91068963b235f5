// Package journal is a segmented, append-only log of records: what a server
// appends for all groups of an engine goes into one stream, with one write and
// one sync for everything that waits.
//
// # What it guarantees
//
//   - Records come back in the order in which they were appended, and whole: a
//     record has a checksum over its header and one over its data, and its header
//     names the checksum of the record before. Data that carries its own checksum
//     ([Record].Summed) is not summed again, but checked like all other.
//   - After Sync, what was appended before it survives a power cut.
//   - [Open] tells a torn tail from damage. Every record says how much of the
//     journal was on disk when it was written. A bad record of which a later one
//     says that it was on disk is a [CorruptError]; one of which nobody says so was
//     being written when the machine stopped, and the journal ends before it.
//   - What a recycled file held before is never taken for a record: sequences
//     never fall within a file's life, and each opening has a nonce in its chain.
//   - After a write or a sync has failed, every further one fails: nobody knows
//     what the disk holds.
//
// # What it does not do
//
// It does not know what a record means, which of them is needed, or where the
// record of an index is: its caller keeps positions and releases segments. It
// starts no goroutine: Sync runs on the caller's. It does not lock its directory.
//
// Blind spot: damage to what was appended since the last record that was written
// after a sync looks like a torn tail.
package journal
