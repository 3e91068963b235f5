package message

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Batch is a read-only view of an encoded batch. It is a small value: pass it
// by value. It shares the bytes it was parsed from, which must not change
// while it, or a message decoded from it, is in use. It is safe for
// concurrent use. The zero Batch has no messages.
//
// Invariants, which ParseBatch establishes and everything else relies on:
//
//  1. both directories ascend and end where their section ends;
//  2. dictionary ends ascend, and names have 1 to 256 bytes.
type Batch struct {
	raw      []byte // as it is stored
	head     []byte // uncompressed
	body     []byte // uncompressed; nil if lazy is set
	lazy     *lazyBody
	count    int
	dict     dictionary
	partsAt  int // in head: the first part
	stride   int // of the directory
	hasParts bool
}

// ParseBatch checks an encoded batch and returns a view of it: version, both
// checksums, lengths, directory and dictionary. b must be exactly one batch.
// It does not look into the parts of messages: a server does that once, at its
// edge, with Validate. It allocates nothing for an uncompressed batch.
//
// A compressed head is decompressed at once, a compressed body when it is
// first asked for; neither into more than the header has announced within the
// limits. Errors wrap ErrCorrupt, ErrVersion or ErrTooLarge.
func ParseBatch(b []byte) (Batch, error) {
	batch, h, err := openBatch(b)
	if err != nil {
		return Batch{}, err
	}
	if err := batch.verify(&h); err != nil {
		return Batch{}, err
	}
	return batch.parse(&h)
}

// OpenBatch is ParseBatch without the checksums of head and body: for bytes
// that were checked a moment ago. The structure is checked nevertheless, so that
// no method panics.
func OpenBatch(b []byte) (Batch, error) {
	batch, h, err := openBatch(b)
	if err != nil {
		return Batch{}, err
	}
	return batch.parse(&h)
}

func openBatch(b []byte) (Batch, BatchHeader, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Batch{}, h, err
	}
	if h.Len() != len(b) {
		return Batch{}, h, corruptf("batch has %d bytes, its header says %d", len(b), h.Len())
	}
	return Batch{raw: b, count: h.Count, stride: stride(h.Flags), hasParts: h.Flags&FlagParts != 0}, h, nil
}

// verify computes the checksums of both stored sections.
func (b *Batch) verify(h *BatchHeader) error {
	bodyAt := HeaderSize + h.HeadLen
	if crc32.Checksum(b.raw[HeaderSize:bodyAt], castagnoli) != h.HeadCRC {
		return corruptf("batch head fails its checksum")
	}
	if crc32.Checksum(b.raw[bodyAt:], castagnoli) != h.BodyCRC {
		return corruptf("batch body fails its checksum")
	}
	return nil
}

// parse finds the sections and checks the structure of the head.
func (b Batch) parse(h *BatchHeader) (Batch, error) {
	bodyAt := HeaderSize + h.HeadLen
	head, err := decompress(b.raw[HeaderSize:bodyAt:bodyAt], h.HeadCompression, h.HeadRawLen)
	if err != nil {
		return Batch{}, err
	}
	b.head = head
	if h.BodyCompression == CompressNone {
		b.body = b.raw[bodyAt:]
	} else {
		b.lazy = &lazyBody{stored: b.raw[bodyAt:], how: h.BodyCompression, rawLen: h.BodyRawLen}
	}
	b.partsAt = b.count * b.stride
	if b.hasParts {
		if err := b.parseDictionary(); err != nil {
			return Batch{}, err
		}
	}
	if !ascends(b.directory(), b.stride, b.stride-4, h.BodyRawLen) {
		return Batch{}, corruptf("the directory does not match the %d bytes of bodies", h.BodyRawLen)
	}
	parts := len(b.head) - b.partsAt
	if b.hasParts != (parts > 0) || b.hasParts && !ascends(b.directory(), b.stride, 0, parts) {
		return Batch{}, corruptf("the directory does not match the %d bytes of message parts", parts)
	}
	return b, nil
}

// parseDictionary finds the names behind the directory, and the parts behind
// the names.
func (b *Batch) parseDictionary() error {
	dict, rest, err := parseDictionary(b.head[b.partsAt:])
	b.dict, b.partsAt = dict, len(b.head)-len(rest)
	return err
}

// ascends reports whether the ends at the given offset of each directory
// entry rise, or stay, up to exactly last. It has no branch per message.
func ascends(dir []byte, stride, at, last int) bool {
	var prev, bad uint64
	for ; at+4 <= len(dir); at += stride {
		end := uint64(binary.LittleEndian.Uint32(dir[at:]))
		bad |= end - prev // the top bit is set if end is below prev
		prev = end
	}
	return bad>>63 == 0 && prev == uint64(last)
}

func (b *Batch) directory() []byte { return b.head[:b.count*b.stride] }

// Count returns the number of messages.
func (b Batch) Count() int { return b.count }

// Bytes returns the encoded batch that b views.
func (b Batch) Bytes() []byte { return b.raw }

// Header returns the fixed header; the zero header for the zero Batch.
func (b Batch) Header() BatchHeader {
	if len(b.raw) < HeaderSize {
		return BatchHeader{}
	}
	return readHeader(b.raw)
}

// Sum returns the identity of the content: CRC of the stored head << 32 | CRC
// of the stored bodies.
func (b Batch) Sum() uint64 {
	if len(b.raw) < HeaderSize {
		return 0
	}
	le := binary.LittleEndian
	return uint64(le.Uint32(b.raw[24:]))<<32 | uint64(le.Uint32(b.raw[28:]))
}

// EarliestDeadline returns the shortest TTL of any message, in nanoseconds
// from the moment the batch is stored; 0 if no message has one.
func (b Batch) EarliestDeadline() int64 {
	if len(b.raw) < HeaderSize {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b.raw[32:]))
}

// HasControl reports whether some message has a TTL, deliver-at or key.
func (b Batch) HasControl() bool {
	return len(b.raw) >= HeaderSize && Flags(b.raw[1])&FlagControl != 0
}

// Opaque reports whether every message is nothing but a body. Then all match
// the same matchers, and it is enough to match the first.
func (b Batch) Opaque() bool { return !b.hasParts }

// Names returns the number of names in the dictionary.
func (b Batch) Names() int { return b.dict.names }

// Name returns a name of the dictionary. It shares the bytes of the batch. It
// panics if n is not below Names.
func (b Batch) Name(n int) string { return text(b.dict.name(n)) }

// bounds returns where entry i begins and ends, read at the given offset of
// the directory entries.
func (b *Batch) bounds(i, at int) (start, end int) {
	at += i * b.stride
	if i > 0 {
		start = int(binary.LittleEndian.Uint32(b.head[at-b.stride:]))
	}
	return start, int(binary.LittleEndian.Uint32(b.head[at:]))
}

// part returns the part of message i; nil if it has none.
func (b *Batch) part(i int) []byte {
	if !b.hasParts {
		return nil
	}
	start, end := b.bounds(i, 0)
	return b.head[b.partsAt+start : b.partsAt+end]
}

// bodies returns the uncompressed body section.
func (b *Batch) bodies() ([]byte, error) {
	if b.lazy != nil {
		return b.lazy.bytes()
	}
	return b.body, nil
}

// Body returns the body of message i. It shares the bytes of the batch, or of
// its decompressed bodies. Errors wrap ErrRange or ErrCorrupt.
func (b Batch) Body(i int) ([]byte, error) {
	if uint(i) >= uint(b.count) {
		return nil, b.noMessage(i)
	}
	bodies, err := b.bodies()
	if err != nil {
		return nil, err
	}
	start, end := b.bounds(i, b.stride-4)
	return bodies[start:end:end], nil
}

func (b *Batch) noMessage(i int) error {
	return fmt.Errorf("%w: %d of %d", ErrRange, i, b.count)
}

// Equal reports whether both batches are the same bytes.
func (b Batch) Equal(o Batch) bool { return bytes.Equal(b.raw, o.raw) }
