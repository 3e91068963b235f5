// Package message is the bytes of Perdure: the format of messages and of the
// batches that carry them, and the language that selects messages by their
// fields.
//
// A [Message] has typed fields, headers and an opaque body. A [Builder] packs
// messages into a batch, and the batch's bytes are what travels, what the log
// stores and what subscribers receive. A [Batch] is a view of these bytes.
// Servers cut batches ([AppendSelection]), match them ([Matcher], [Index],
// [Search]) and check them ([ParseBatch], [Batch.Validate]) without decoding
// messages.
//
// # Guarantees
//
//   - A flipped bit anywhere in a batch is found: header, head and bodies each
//     have a checksum, which the publisher computed.
//   - No bytes whatsoever make a function of this package panic, or allocate
//     more than the limits in limits.go allow. What [ParseBatch] accepted can
//     be matched; what [Batch.Validate] accepted can be cut and decoded.
//   - Parsing, matching, cutting and building allocate nothing in steady state
//     for uncompressed batches; validating neither, up to 32 names in a batch.
//   - Equal calls give equal bytes: nothing here depends on a clock, on chance
//     or on the order of a map.
//
// It does not encrypt, know stores or durables, or give ids to messages.
//
// # Format version 1
//
// Integers of fixed size are little-endian. A uvarint is an unsigned LEB128
// number below 2^31 in its shortest form. CRC is CRC-32C (Castagnoli, reflected,
// initial and final value all ones). A batch is
//
//	header | head | bodies
//
// and nothing follows. Header, 44 bytes:
//
//	offset  size
//	 0      1     format version, 1
//	 1      1     flags: bit 0 parts, bit 1 control; the others are 0
//	 2      1     compression of head: 0 none, 1 s2 block, 2 zstd frame
//	 3      1     compression of bodies: the same
//	 4      4     count: messages, 1 to 65,535
//	 8      4     stored bytes of head
//	12      4     uncompressed bytes of head
//	16      4     stored bytes of bodies
//	20      4     uncompressed bytes of bodies
//	24      4     CRC of the stored head
//	28      4     CRC of the stored bodies
//	32      8     earliest deadline: the shortest TTL in nanoseconds, 0 if none
//	40      4     CRC of bytes 0 to 39
//
// A section is stored compressed only if that makes it smaller. It announces
// its own uncompressed length, which must agree with the header. Header and
// both sections, uncompressed, have at most 1 MiB, or 32 MiB + 128 KiB if
// count is 1.
//
// Head, uncompressed, without the parts flag: no message is more than a body.
//
//	directory   count x 4   where the body of the message ends in bodies
//
// Head, uncompressed, with the parts flag:
//
//	directory   count x 8   4: where the part of the message ends in parts
//	                        4: where the body of the message ends in bodies
//	names       2           number of names, at most 4,096
//	name ends   names x 2   where the name ends in name bytes
//	name bytes              each name 1 to 256 bytes
//	parts                   one part after the other
//
// A body or part begins where the one before ends, and the last ends where its
// section ends. Parts together are not empty: else the flag is not set. The
// names are those of all fields and headers at every depth, each once; a name
// is UTF-8 and does not begin with '_'. A batch that was cut may have names
// that none of its messages uses.
//
// A part is empty if its message is only a body. Else:
//
//	contents    1           bit 0 TTL, 1 deliver-at, 2 key, 3 fields,
//	                        4 headers; the others are 0, and not all are
//	TTL         8           int64 nanoseconds, above 0
//	deliver-at  8           int64 nanoseconds since 1970-01-01T00:00:00Z
//	key                     uvarint length (1 to 256), UTF-8
//	fields                  uvarint number, then as many fields
//	headers                 uvarint number, then as many headers
//
// What a bit does not announce is not there. Bits 0 to 2 are a message's
// control; the control flag of the header is set if some message has any.
//
//	field       name: uvarint index into names; kind: 1 byte;
//	            length: uvarint; value: as many bytes
//	header      name: uvarint index into names; length: uvarint; UTF-8
//
// Among the fields of one message, and among its headers, no name is there
// twice. Kinds and values:
//
//	0x01  string    UTF-8
//	0x02  int64     8 bytes, two's complement
//	0x03  float64   8 bytes, IEEE 754 bits
//	0x04  bool      1 byte, 0 or 1
//	0x05  bytes     any
//	0x06  time      8 bytes: int64 seconds since 1970; 4 bytes: nanoseconds
//	                below 10^9
//	0x07  message   fields, as above (uvarint number, then as many)
//	0x1k  array     of kind 0x0k: uvarint number, then the values; those of
//	                string, bytes and message each behind a uvarint length
//
// Messages nest at most 16 deep, the outermost included. Fields, headers,
// array elements and nested messages of one message are at most 65,536
// together. (A nested message in an array counts twice, as an element and as a
// message.)
//
// The size of a message, which max_message_size limits, is its part and its
// body. The overhead of a message that is only a body is 4 bytes.
//
// The files testdata/*.golden hold batches of each version. They are never
// rewritten: logs and saved states are read for ever.
//
// # Ids
//
// An [ID] is not in the batch. The store gives a batch consecutive ids when it
// is applied.
package message
