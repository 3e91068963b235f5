// Package raftlog keeps the logs and the state pages of many Raft groups in one
// place for each durability mode, so that one sync serves every group that
// waits. [Log] implements cluster.Log.
//
// # Shape
//
//	Engine (one per mode and server)
//	├── registry        which copies exist; boot id; clean stop   (file, replaced whole)
//	├── watermark       what each copy promised, every 100 ms     (two slots)
//	├── append worker   mode sync: one batch and one sync for all groups
//	├── shelf           where the bytes are: a journal and Pebble, or memory
//	│   ├── journal     entries and hard states, for all groups one stream
//	│   └── Pebble      copies, edges, pages, where entries below the first index are
//	└── Log × groups    terms, edges, hard state and recent entries in memory
//
// Every local copy of a group lives under a generation, a number that is never
// used again. A snapshot fills a new generation out of sight; one batch then
// switches the group's record to it. So an install, like a fresh replica id, is
// whole or has not happened. Generations that no record names are removed when
// the engine opens.
//
// # Format
//
// All integers are big endian. A key is generation (4 bytes), kind (1), rest.
//
//	generation 0: the engine's own
//	  0 'c'           next generation
//	  0 'f'           the first segment of the journal that an opening reads (8)
//	  0 'g' group(8)  copy: generation(4) replica(8) epoch(2) count(4) voters(8 each)
//	generation n: one copy
//	  n 1             hard state: term(8) vote(8) commit(8)
//	  n 2             edge: applied(8) first(8) term before first(8) ConfState (protobuf)
//	  n 3 page key    page
//	  n 4 index(8)    entry; only where tests keep entries in Pebble
//	  n 5 index(8)    where the journal has an entry below the first index:
//	                  segment(8) offset(4) length(4) term(8) type(1)
//
// A value is version (1), type (1, the raft.EntryType of an entry, else 0), two
// bytes kept for cipher and flags, CRC32C (4) of key, the four bytes before it
// and all behind it, then the content. The content of an entry is index (8),
// term (8; 0 if it came with a snapshot) and its data.
//
// Records of the journal: 1 is an entry, 2 a hard state, 3 an entry that was moved
// out of a segment in which little else was needed. Of an entry that carries its
// checksum (cluster.EntrySum), and was appended as one that does, the journal
// computes none. An entry ends what the journal
// says of higher indexes in its generation. Entries from the first index on are
// found by replay, from the floor on; a checkpoint writes where those are that it
// leaves below the first index. So Pebble sees an entry only if it outlives the
// checkpoint, and then as a key of 13 bytes with 33.
//
// # What it guarantees
//
//   - For one group, writes take effect in the order of the calls. What is found
//     after a crash is a prefix of the appends, with a prefix of the checkpoints
//     among them: one that is lost is made again from the log.
//   - Mode sync: done runs when the write is on disk. Mode async: when the
//     operating system has it; it reaches the disk within SyncInterval. Mode
//     memory: when it is in memory.
//   - Term never falls and the vote never changes within a term; a write that
//     would do so panics, because a caller that asks for it has already erred.
//   - An overwrite removes the whole former suffix in the same batch.
//   - A failed write or sync ends the process. Nothing rests on a retry.
//   - What is read is checked: a hole, a record of another index or term, or a
//     bad checksum is a [CorruptError], never a shorter log.
//   - A copy that may lack what it promised says so: [Log.MayHaveForgotten].
//
// # What it does not do
//
// It does not run Raft, decide what is dead, or repair. A copy that is corrupt or
// may have forgotten is replaced by [Engine.Create] under a new replica id.
//
// Blind spot: damage to the end of the journal, or to the last 32 KiB of Pebble's
// log, looks like a torn write. The watermark narrows this to what was promised since
// it was last written, about 100 ms; damage (not a crash) inside that window goes
// unseen. Pages lost in that window are harmless: they are made again from the
// log.
package raftlog
