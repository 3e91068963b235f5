package message

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// HeaderSize is the size of the fixed header of a batch.
const HeaderSize = 44

const formatVersion = 1

// Flags of a batch.
type Flags uint8

const (
	// FlagParts says that some message has a part in the head: fields,
	// headers or control. Without it every message is an opaque body.
	FlagParts Flags = 1 << iota
	// FlagControl says that some message has control: TTL, deliver-at or key.
	FlagControl

	knownFlags = FlagParts | FlagControl
)

// castagnoli is the polynomial of CRC32C, which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BatchHeader is the fixed header of a batch. It tells a server what it needs
// without a look at what follows.
type BatchHeader struct {
	Flags           Flags
	HeadCompression Compression
	BodyCompression Compression
	Count           int    // messages, at least 1
	HeadLen         int    // stored bytes of the head
	HeadRawLen      int    // the same, uncompressed
	BodyLen         int    // stored bytes of the bodies
	BodyRawLen      int    // the same, uncompressed
	HeadCRC         uint32 // CRC32C of the stored head
	BodyCRC         uint32 // CRC32C of the stored bodies
	// EarliestDeadline is the shortest TTL of any message, in nanoseconds
	// from the moment the batch is stored; 0 if no message has one.
	EarliestDeadline int64
}

// Len returns the bytes of the whole batch, header included.
func (h BatchHeader) Len() int { return HeaderSize + h.HeadLen + h.BodyLen }

// Sum returns the identity of the content: head CRC << 32 | body CRC.
func (h BatchHeader) Sum() uint64 { return uint64(h.HeadCRC)<<32 | uint64(h.BodyCRC) }

// ParseHeader reads and checks the fixed header that b begins with: version,
// its own CRC, and that lengths are consistent and within the limits. b may be
// longer or shorter than the batch. Errors wrap ErrCorrupt, ErrVersion or
// ErrTooLarge.
func ParseHeader(b []byte) (BatchHeader, error) {
	if len(b) < HeaderSize {
		return BatchHeader{}, corruptf("batch of %d bytes is shorter than its header of %d", len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if b[0] != formatVersion {
		return BatchHeader{}, fmt.Errorf("%w: batch of version %d, this program knows %d", ErrVersion, b[0], formatVersion)
	}
	if sum := crc32.Checksum(b[:HeaderSize-4], castagnoli); sum != binary.LittleEndian.Uint32(b[HeaderSize-4:]) {
		return BatchHeader{}, corruptf("batch header fails its checksum")
	}
	h := readHeader(b)
	return h, h.check()
}

// readHeader takes the header apart without checking it.
func readHeader(b []byte) BatchHeader {
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	return BatchHeader{
		Flags:            Flags(b[1]),
		HeadCompression:  Compression(b[2]),
		BodyCompression:  Compression(b[3]),
		Count:            u32(4),
		HeadLen:          u32(8),
		HeadRawLen:       u32(12),
		BodyLen:          u32(16),
		BodyRawLen:       u32(20),
		HeadCRC:          binary.LittleEndian.Uint32(b[24:]),
		BodyCRC:          binary.LittleEndian.Uint32(b[28:]),
		EarliestDeadline: int64(binary.LittleEndian.Uint64(b[32:])),
	}
}

// check refuses headers that no Builder writes.
func (h BatchHeader) check() error {
	if h.Flags&^knownFlags != 0 || h.HeadCompression > maxCompression || h.BodyCompression > maxCompression {
		return fmt.Errorf("%w: flags %#x, compression %d and %d", ErrVersion, h.Flags, h.HeadCompression, h.BodyCompression)
	}
	if h.Count < 1 || h.Count > MaxBatchMessages {
		return corruptf("batch of %d messages, 1 to %d are allowed", h.Count, MaxBatchMessages)
	}
	// Also on 32-bit machines none of these overflows an int.
	limit := MaxEncodedSize
	if h.Count > 1 {
		limit = MaxBatchSize
	}
	if uint(h.HeadRawLen) > uint(limit) || uint(h.BodyRawLen) > uint(limit) ||
		HeaderSize+h.HeadRawLen+h.BodyRawLen > limit {
		return fmt.Errorf("%w: batch of %d messages with a head of %d and bodies of %d bytes, at most %d are allowed",
			ErrTooLarge, h.Count, h.HeadRawLen, h.BodyRawLen, limit)
	}
	if !consistent(h.HeadCompression, h.HeadLen, h.HeadRawLen) || !consistent(h.BodyCompression, h.BodyLen, h.BodyRawLen) {
		return corruptf("batch header has lengths that do not fit its compression")
	}
	if h.HeadRawLen < h.Count*stride(h.Flags) {
		return corruptf("head of %d bytes has no room for the directory of %d messages", h.HeadRawLen, h.Count)
	}
	if h.Flags&FlagControl == 0 && h.EarliestDeadline != 0 || h.EarliestDeadline < 0 {
		return corruptf("batch header has the deadline %d with flags %#x", h.EarliestDeadline, h.Flags)
	}
	if h.Flags == FlagControl {
		return corruptf("batch header announces control but no message parts")
	}
	return nil
}

// consistent reports whether a section may have these lengths: a compressed
// one is kept only if it is smaller.
func consistent(c Compression, stored, raw int) bool {
	if c == CompressNone {
		return stored == raw
	}
	return stored > 0 && uint(stored) < uint(raw)
}

// stride is the size of a directory entry.
func stride(f Flags) int {
	if f&FlagParts != 0 {
		return 8
	}
	return 4
}

// put writes the header to b, its checksum last.
func (h BatchHeader) put(b []byte) {
	_ = b[HeaderSize-1]
	b[0] = formatVersion
	b[1] = byte(h.Flags)
	b[2] = byte(h.HeadCompression)
	b[3] = byte(h.BodyCompression)
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(h.Count))
	le.PutUint32(b[8:], uint32(h.HeadLen))
	le.PutUint32(b[12:], uint32(h.HeadRawLen))
	le.PutUint32(b[16:], uint32(h.BodyLen))
	le.PutUint32(b[20:], uint32(h.BodyRawLen))
	le.PutUint32(b[24:], h.HeadCRC)
	le.PutUint32(b[28:], h.BodyCRC)
	le.PutUint64(b[32:], uint64(h.EarliestDeadline))
	le.PutUint32(b[HeaderSize-4:], crc32.Checksum(b[:HeaderSize-4], castagnoli))
}
