// Package statefile is the format of a saved cluster state: what a [Writer]
// writes, a [Reader] reads and [Verify] checks.
//
// It knows bytes, not files: an io.Writer goes in, an io.Reader comes out. It
// starts no goroutine, and its memory does not grow with the messages of a
// state. What it reads is untrusted: no length is believed before it was
// compared with a limit, pending sets may take only so much memory for the bytes of
// the file, and an [Error] says where in the file, in which section and why
// something is wrong.
//
// # A state
//
// A state is a sequence of records: stores, durables, their pending sets and
// delivery counts, publisher sessions, batches. Records name stores and durables
// by their position, stores come in the order of their names, durables of a
// store likewise, ids and sessions as their types say. So equal states are equal
// sequences, whatever the log looked like from which they came, and whatever ids
// the realm gave to stores and durables.
//
// The state hash is a SHA-256 of "perdure state 1\n", the id of the last session
// and every record behind the number of its section, batches without their
// bytes. It is equal on all replicas at one index of the log, in the files that
// they save there, and on the replicas that such a file is loaded into.
// [Tally] computes it.
//
// # Format version 1
//
// Integers of fixed size are little endian, CRC is CRC-32C. A file begins with
//
//	offset  size
//	 0      8     magic: 89 50 44 53 0d 0a 1a 0a ("\x89PDS\r\n\x1a\n")
//	 8      2     version, 1
//	10      2     flags, 0 (reserved: encryption)
//	12      4     CRC of bytes 0 to 11
//
// and goes on with blocks. Each can be read by itself:
//
//	offset  size
//	 0      1     section
//	 1      1     0: stored as it is, 1: one zstd frame, smaller than the content
//	 2      2     0
//	 4      4     records in the content
//	 8      4     bytes of the content
//	12      4     bytes stored
//	16      4     CRC of the bytes stored
//	20      4     CRC of bytes 0 to 19
//	24            the bytes stored
//
// A block ends with the record that brings its content to 256 KiB. Content has
// at most 4 MiB; of batches 256 KiB and the largest batch, of the manifest
// 32 MiB. Sections ascend:
//
//	1  manifest            one block, JSON: see Manifest
//	2  stores
//	3  durables
//	4  pending sets
//	5  delivery counts
//	6  key values          reserved, for last-value and map durables
//	7  publisher sessions
//	8  batches
//	9  dead letters        reserved
//	10 timers              reserved
//	255 trailer            stored as it is, 0 records
//
// Pending sets come before batches so that who reads a file once knows who wants
// a batch when it comes. The trailer has, 8 bytes each, the number of blocks, of
// records and of bytes of content, the manifest's included; then the SHA-256 of
// every byte of the file before the trailer's header. Nothing follows.
//
// Records are unsigned varints of the shortest form, texts and bytes behind
// their length:
//
//	store     name, epoch, counter
//	durable   store, name, kind, prefetch, dynamic, matcher, template,
//	          watermark, matched, acked, number of the last attachment,
//	          attachment (number, process, nonce), marks (package durable)
//	pending   durable, runs; of each: gap since the one before, length
//	counts    durable, messages; of each: gap since the one before, deliveries
//	session   id, store, last sequence, attempt (1), closed (0), idle nanoseconds;
//	          of the last min(sequence, 64) outcomes: first id, count,
//	          interested, sum
//	batch     store, first id, count, stamp, length, and the batch as published
//
// A reader refuses a section, a member of the manifest or a flag that it does
// not know, and says its name: what it would drop, somebody wanted saved.
// testdata/*.state are files of each version. They are never rewritten.
package statefile
