package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The format of version 1. All integers are big endian. A segment is its header
// and records, each at a multiple of 8; what lies behind the last record belongs
// to nobody.
//
//	segment header, 48 bytes
//	0   4  magic "PdJ1"
//	4   4  format version, 1
//	8   8  number of the segment
//	16  8  sequence of its first record
//	24  4  chain before its first record
//	28  4  nonce of the opening that made it; it leaves the machine nowhere
//	32  8  how much of the journal was on disk: every record below this sequence
//	40  4  zero
//	44  4  CRC32C of the bytes before
//
//	record, 56 bytes and the data
//	0   1  magic 0xd7
//	1   1  kind
//	2   1  type
//	3   1  flags: 1 the group goes on with the next record, 2 the data carries its
//	       checksum: it begins with the CRC32C, little endian, of the rest of it
//	4   4  length of the data
//	8   8  sequence
//	16  4  chain: the CRC at 52 of the record before
//	20  4  generation
//	24  8  index
//	32  8  term
//	40  8  how much of the journal was on disk, as above
//	48  4  CRC32C of the data; if it carries its checksum, that
//	52  4  CRC32C of the bytes before, and the nonce of the segment on top (xor):
//	       so nobody who only writes data can write what passes for a record
const (
	formatVersion = 1
	segmentMagic  = 0x50644a31
	recordMagic   = 0xd7

	segmentHeader = 48
	recordHeader  = 56
	align         = 8
	flagMore      = 1
	flagSummed    = 2
	summedAtLeast = 4 // bytes, of data that carries its checksum

	// MaxData bounds the data of a record, in bytes: the greatest entry (32 MiB)
	// with what is put around it.
	MaxData = 40 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind says what a record is. The journal itself does not look at it; 0 is none.
type Kind uint8

// Record is one record. Its sequence and chain are the journal's own.
type Record struct {
	Kind       Kind
	Type       uint8
	Generation uint32
	Index      uint64
	Term       uint64
	// Damaged says that the header is whole and the data is not, although it was
	// on disk. Append does not look at it.
	Damaged bool
	// More says that the record after it belongs to the same group: a group comes
	// back whole or not at all. The last record of an Append ends its group.
	More bool
	// Summed says that Data begins with the CRC32C, little endian, of the rest of it.
	// Append trusts its caller in that and computes none; whoever reads compares.
	Summed bool
	// Data is at most MaxData bytes. Append does not keep it; what Read returns is the
	// caller's.
	Data []byte
}

// Position is where a record is. The zero Position is none.
type Position struct {
	Segment uint64
	Offset  uint32
	Length  uint32 // of the data
}

func (p Position) String() string { return fmt.Sprintf("%d/%d+%d", p.Segment, p.Offset, p.Length) }

// head is a segment's header.
type head struct {
	number, first, stable uint64
	chain, nonce          uint32
}

func (h *head) append(dst []byte) []byte {
	at := len(dst)
	be := binary.BigEndian
	dst = be.AppendUint32(dst, segmentMagic)
	dst = be.AppendUint32(dst, formatVersion)
	dst = be.AppendUint64(dst, h.number)
	dst = be.AppendUint64(dst, h.first)
	dst = be.AppendUint32(dst, h.chain)
	dst = be.AppendUint32(dst, h.nonce)
	dst = be.AppendUint64(dst, h.stable)
	dst = be.AppendUint32(dst, 0)
	return be.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// parseHead returns what is wrong with a segment's header as text, "" if nothing.
func parseHead(b []byte) (h head, wrong string) {
	be := binary.BigEndian
	switch {
	case len(b) < segmentHeader:
		return h, "the segment is shorter than its header"
	case be.Uint32(b) != segmentMagic:
		return h, "it does not begin like a segment"
	case be.Uint32(b[44:]) != crc32.Checksum(b[:44], castagnoli):
		return h, "the segment's header has a wrong checksum"
	case be.Uint32(b[4:]) != formatVersion:
		return h, fmt.Sprintf("format version %d, this server knows %d: upgrade it", be.Uint32(b[4:]), formatVersion)
	}
	return head{
		number: be.Uint64(b[8:]), first: be.Uint64(b[16:]), chain: be.Uint32(b[24:]), nonce: be.Uint32(b[28:]), stable: be.Uint64(b[32:]),
	}, ""
}

// frame is a record's header besides what is in Record.
type frame struct {
	length           uint32
	summed           bool
	sequence, stable uint64
	chain            uint32
	dataSum, sum     uint32
}

// appendRecord appends r with padding, and returns its CRC, the next chain.
func appendRecord(dst []byte, r *Record, sequence, stable uint64, chain, nonce uint32) ([]byte, uint32) {
	dst, sum := appendRecordHeader(dst, r, sequence, stable, chain, nonce)
	return appendPadding(append(dst, r.Data...), len(r.Data)), sum
}

// appendRecordHeader appends what comes before the data of r.
func appendRecordHeader(dst []byte, r *Record, sequence, stable uint64, chain, nonce uint32) ([]byte, uint32) {
	at := len(dst)
	be := binary.BigEndian
	flags := byte(0)
	if r.More {
		flags |= flagMore
	}
	if r.Summed {
		flags |= flagSummed
	}
	dst = append(dst, recordMagic, byte(r.Kind), r.Type, flags)
	dst = be.AppendUint32(dst, uint32(len(r.Data)))
	dst = be.AppendUint64(dst, sequence)
	dst = be.AppendUint32(dst, chain)
	dst = be.AppendUint32(dst, r.Generation)
	dst = be.AppendUint64(dst, r.Index)
	dst = be.AppendUint64(dst, r.Term)
	dst = be.AppendUint64(dst, stable)
	dst = be.AppendUint32(dst, r.dataSum())
	sum := crc32.Checksum(dst[at:], castagnoli) ^ nonce
	return be.AppendUint32(dst, sum), sum
}

// appendPadding appends what comes behind so much data.
func appendPadding(dst []byte, data int) []byte {
	for ; (recordHeader+data)%align != 0; data++ {
		dst = append(dst, 0)
	}
	return dst
}

// dataSum returns the checksum of the data, computed or as the data carries it.
func (r *Record) dataSum() uint32 {
	if r.Summed {
		return binary.LittleEndian.Uint32(r.Data)
	}
	return crc32.Checksum(r.Data, castagnoli)
}

// holds says whether data is what the record was written with.
func (f *frame) holds(data []byte) bool {
	if !f.summed {
		return crc32.Checksum(data, castagnoli) == f.dataSum
	}
	return len(data) >= summedAtLeast && binary.LittleEndian.Uint32(data) == f.dataSum &&
		crc32.Checksum(data[summedAtLeast:], castagnoli) == f.dataSum
}

// recordSize is how many bytes a record with so much data takes.
func recordSize(data int) int64 { return int64(recordHeader+data+align-1) &^ (align - 1) }

// parseRecord reads the header of a record in a segment with a nonce. ok is false
// if it is none.
func parseRecord(b []byte, nonce uint32) (r Record, f frame, ok bool) {
	be := binary.BigEndian
	if len(b) < recordHeader || b[0] != recordMagic || b[3]&^(flagMore|flagSummed) != 0 || be.Uint32(b[52:]) != crc32.Checksum(b[:52], castagnoli)^nonce {
		return r, f, false
	}
	r = Record{
		Kind: Kind(b[1]), Type: b[2], More: b[3]&flagMore != 0, Summed: b[3]&flagSummed != 0,
		Generation: be.Uint32(b[20:]), Index: be.Uint64(b[24:]), Term: be.Uint64(b[32:]),
	}
	f = frame{
		length: be.Uint32(b[4:]), summed: r.Summed, sequence: be.Uint64(b[8:]), chain: be.Uint32(b[16:]),
		stable: be.Uint64(b[40:]), dataSum: be.Uint32(b[48:]), sum: be.Uint32(b[52:]),
	}
	return r, f, f.length <= MaxData
}
