package message

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// Options say how a Builder writes its batch.
type Options struct {
	Head, Body Compression // kept only where it makes the section smaller
}

// Builder packs messages into a batch. The zero Builder is ready for use. It
// copies what it is given, and once its buffers have grown it allocates
// nothing. It is not safe for concurrent use.
//
// Invariants:
//
//  1. bodyEnds and partEnds have one ascending entry for each message;
//  2. names, numbers and nameBytes agree;
//  3. a failed Add changes nothing;
//  4. bodies begin at memory[at], if there are any.
type Builder struct {
	maxMessage int // 0 is MaxMessageSize
	bodies     []byte
	memory     []byte // in which the bodies are
	at         int
	front      int // room for a head, in memory yet to be made; 0 is minFront
	last       int // bytes of bodies that the batch before had
	usual      int // and that both of the last two had
	parts      []byte
	bodyEnds   []uint32
	partEnds   []uint32

	names     []string
	nameBytes int
	numbers   map[string]uint16
	guess     int // the name that likely comes next

	deadline int64
	control  bool
	room     int    // bytes left for the part of the message being added
	items    int    // of the message being added
	head     []byte // scratch for a head about to be compressed
}

// SetMaxMessageSize sets the limit on one message, at most HardMaxMessageSize.
// 0 is the default, MaxMessageSize.
func (b *Builder) SetMaxMessageSize(n int) { b.maxMessage = min(n, HardMaxMessageSize) }

// Reset empties the builder and keeps its buffers.
func (b *Builder) Reset() {
	b.lay(b.memory)
	b.parts = b.parts[:0]
	b.bodyEnds, b.partEnds = b.bodyEnds[:0], b.partEnds[:0]
	b.forgetNames(0, 0)
	b.deadline, b.control = 0, false
}

// Len returns how many messages the builder holds.
func (b *Builder) Len() int { return len(b.bodyEnds) }

// Size returns the bytes that AppendTo would append now without compression.
func (b *Builder) Size() int {
	size := HeaderSize + 4*len(b.bodyEnds) + len(b.bodies)
	if len(b.parts) > 0 {
		size += 4*len(b.bodyEnds) + 2 + 2*len(b.names) + b.nameBytes + len(b.parts)
	}
	return size
}

// Add copies a message into the batch, after checking names, text, nesting
// and every limit. If it fails the builder is unchanged. ErrFull means that
// this batch has no room: send it and add the message to the next one. Other
// errors mean that the message can never be sent; they name the member.
func (b *Builder) Add(m *Message) error {
	if m.opaque() {
		return b.AddBody(m.Body)
	}
	limit := b.limit()
	if len(m.Body) > limit {
		return tooLarge(len(m.Body), limit)
	}
	if len(b.bodyEnds) >= MaxBatchMessages {
		return fmt.Errorf("%w: it has %d messages", ErrFull, len(b.bodyEnds))
	}
	parts, names, nameBytes := len(b.parts), len(b.names), b.nameBytes
	b.room, b.items = limit-len(m.Body), 0
	err := b.appendPart(m)
	if err == nil && len(b.bodyEnds) > 0 && b.Size()+len(m.Body)+8 > MaxBatchSize {
		err = fmt.Errorf("%w: the next message would take it over %d bytes", ErrFull, MaxBatchSize)
	}
	if err != nil {
		b.parts = b.parts[:parts]
		b.forgetNames(names, nameBytes)
		return err
	}
	if m.TTL > 0 && (b.deadline == 0 || int64(m.TTL) < b.deadline) {
		b.deadline = int64(m.TTL)
	}
	b.control = b.control || m.hasControl()
	b.place(m.Body)
	return nil
}

// AddBody adds a message that is nothing but a body: the cheapest one.
func (b *Builder) AddBody(body []byte) error {
	if limit := b.limit(); len(body) > limit {
		return tooLarge(len(body), limit)
	}
	if n := len(b.bodyEnds); n > 0 && (n >= MaxBatchMessages || b.Size()+len(body)+8 > MaxBatchSize) {
		return fmt.Errorf("%w: it has %d messages and %d bytes", ErrFull, n, b.Size())
	}
	b.place(body)
	return nil
}

func (b *Builder) place(body []byte) {
	if len(body) > cap(b.bodies)-len(b.bodies) {
		b.growBodies(len(body))
	}
	b.bodies = append(b.bodies, body...)
	b.bodyEnds = append(b.bodyEnds, uint32(len(b.bodies)))
	b.partEnds = append(b.partEnds, uint32(len(b.parts)))
}

// AppendTo appends the finished batch to dst. The builder keeps its messages
// until Reset. An empty builder appends nothing: there are no empty batches.
func (b *Builder) AppendTo(dst []byte, opts Options) []byte {
	if len(b.bodyEnds) == 0 {
		return dst
	}
	h := b.header()
	at := len(dst)
	dst = grow(dst, b.Size())
	dst = dst[:at+HeaderSize]
	if opts.Head == CompressNone {
		dst = b.appendHead(dst)
		h.HeadRawLen = len(dst) - at - HeaderSize
	} else {
		b.head = b.appendHead(b.head[:0])
		h.HeadRawLen = len(b.head)
		dst, h.HeadCompression = appendCompressed(dst, b.head, opts.Head)
	}
	h.HeadLen = len(dst) - at - HeaderSize
	h.HeadCRC = crc32.Checksum(dst[at+HeaderSize:], castagnoli)
	bodyAt := len(dst)
	dst, h.BodyCompression = appendCompressed(dst, b.bodies, opts.Body)
	h.BodyLen = len(dst) - bodyAt
	h.BodyCRC = crc32.Checksum(dst[bodyAt:], castagnoli)
	h.put(dst[at:])
	return dst
}

// header returns what is known of the header before the sections are stored.
func (b *Builder) header() BatchHeader {
	h := BatchHeader{Count: len(b.bodyEnds), BodyRawLen: len(b.bodies), EarliestDeadline: b.deadline}
	if len(b.parts) > 0 {
		h.Flags |= FlagParts
	}
	if b.control {
		h.Flags |= FlagControl
	}
	return h
}

// appendHead appends directory, dictionary and parts.
func (b *Builder) appendHead(dst []byte) []byte {
	le := binary.LittleEndian
	if len(b.parts) == 0 {
		for _, end := range b.bodyEnds {
			dst = le.AppendUint32(dst, end)
		}
		return dst
	}
	for i, end := range b.bodyEnds {
		dst = le.AppendUint32(dst, b.partEnds[i])
		dst = le.AppendUint32(dst, end)
	}
	dst = le.AppendUint16(dst, uint16(len(b.names)))
	end := 0
	for _, name := range b.names {
		end += len(name)
		dst = le.AppendUint16(dst, uint16(end))
	}
	for _, name := range b.names {
		dst = append(dst, name...)
	}
	return append(dst, b.parts...)
}

func (b *Builder) limit() int {
	if b.maxMessage <= 0 {
		return MaxMessageSize
	}
	return b.maxMessage
}

// number returns the dictionary number of a name, adding it if it is new.
// Messages of one publisher mostly have the same names in the same order, so
// the next one is guessed before it is looked up.
func (b *Builder) number(name string) (uint16, error) {
	if b.guess < len(b.names) && b.names[b.guess] == name {
		b.guess++
		return uint16(b.guess - 1), nil
	}
	if n, found := b.numbers[name]; found {
		b.guess = int(n) + 1
		return n, nil
	}
	if err := ValidName(name); err != nil {
		return 0, err
	}
	if len(b.names) >= MaxNames || b.nameBytes+len(name) > MaxNameBytes {
		if len(b.bodyEnds) == 0 {
			return 0, fmt.Errorf("%w: a message may have %d different names of %d bytes in all", ErrTooLarge, MaxNames, MaxNameBytes)
		}
		return 0, fmt.Errorf("%w: it has %d different names of %d bytes", ErrFull, len(b.names), b.nameBytes)
	}
	if b.numbers == nil {
		b.numbers = make(map[string]uint16)
	}
	n := uint16(len(b.names))
	b.names = append(b.names, name)
	b.nameBytes += len(name)
	b.numbers[name] = n
	b.guess = int(n) + 1
	return n, nil
}

// forgetNames goes back to the first n names, of size bytes.
func (b *Builder) forgetNames(n, size int) {
	if n == 0 {
		clear(b.numbers)
	} else {
		for _, name := range b.names[n:] {
			delete(b.numbers, name)
		}
	}
	clear(b.names[n:])
	b.names, b.nameBytes, b.guess = b.names[:n], size, 0
}

func tooLarge(size, limit int) error {
	return fmt.Errorf("%w: message of %d bytes or more, at most %d are allowed", ErrTooLarge, size, limit)
}

// grow makes room for n bytes behind dst.
func grow(dst []byte, n int) []byte { return slices.Grow(dst, n) }
