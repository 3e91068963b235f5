package message

import "hash/crc32"

// The builder leaves room before the bodies, so that the head can be written
// there when it is known. How much is learnt from the batches before.
const (
	minFront = 256
	maxFront = 64 << 10
)

// Finish returns the batch that AppendTo would append, and empties the builder.
// Without compression the batch is made around the bodies, where Add has put
// them, and nothing is copied a second time.
//
// The batch is a part of memory, which leaves the builder. next is what it
// fills in its place: nil, or the memory of an earlier batch that nobody reads
// any more. An empty builder returns no batch, and next.
func (b *Builder) Finish(opts Options, next []byte) (batch, memory []byte) {
	if len(b.bodyEnds) == 0 {
		return nil, next
	}
	size := min(len(b.bodies), MaxBatchSize)
	b.usual, b.last = min(b.last, size), size // one large message is not usual
	head := b.Size() - len(b.bodies)
	if opts != (Options{}) || head > b.at {
		if head > b.at {
			b.front = min(max(b.front, head+head/4), maxFront)
		}
		batch = b.AppendTo(next[:0], opts)
		b.Reset()
		return batch, batch[:0]
	}
	memory = b.memory[:0]
	end := b.at + len(b.bodies)
	batch = b.memory[b.at-head : end : end]
	h := b.header()
	b.appendHead(batch[HeaderSize:HeaderSize:head])
	h.HeadRawLen, h.HeadLen, h.BodyLen = head-HeaderSize, head-HeaderSize, len(b.bodies)
	h.HeadCRC = crc32.Checksum(batch[HeaderSize:head], castagnoli)
	h.BodyCRC = crc32.Checksum(b.bodies, castagnoli)
	h.put(batch)
	b.memory = next
	b.Reset()
	return batch, memory
}

// lay begins to fill memory.
func (b *Builder) lay(memory []byte) {
	b.at = max(b.front, minFront)
	if cap(memory) < b.at {
		b.memory, b.bodies, b.at = nil, nil, 0
		return
	}
	b.memory = memory[:cap(memory)]
	b.bodies = b.memory[b.at:b.at]
}

// growBodies moves the bodies to memory that has room for n bytes more, and for
// a batch a little larger than usual.
func (b *Builder) growBodies(n int) {
	bodies := b.bodies
	b.lay(make([]byte, max(b.front, minFront)+max(len(bodies)+n, 2*cap(bodies), b.usual+b.usual/16)))
	b.bodies = append(b.bodies, bodies...)
}
