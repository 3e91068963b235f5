package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/bytedance/gopkg/lang/dirtmake"
)

// The types of frames. They are on the wire: never renumber.
const (
	frameHello    = 1
	frameWelcome  = 2
	frameControl  = 3  // messages to be copied out
	frameClock    = 4  // the sender's wall clock
	frameEcho     = 5  // the clock frame again, back to its sender
	frameAppend   = 6  // messages whose entries alias the frame
	frameSnapshot = 7  // the MsgSnap
	frameChunk    = 8  // bytes of the snapshot
	frameEnd      = 9  // total length and checksum of the chunks
	frameRequest  = 10 // kind and body of a call
	frameAnswer   = 11 // it succeeded; a call's answer
	frameFailure  = 12 // it failed; text
	frameTypes    = 13
)

const (
	headerLen    = 16
	frameVersion = 1

	// MaxFrame is the greatest payload of a frame in bytes: the greatest message
	// (32 MiB) with what is put around it, and room.
	MaxFrame = 40 << 20
	// MaxCall is the greatest body of a call or of its answer in bytes.
	MaxCall = 32 << 20

	maxHandshake = 4 << 10
	maxControl   = 8 << 20
	maxSnapshot  = 1 << 20
	maxChunk     = 1 << 20
	maxFailure   = 4 << 10
	// readStep is how much is allocated on the word of a header alone.
	readStep = 1 << 20
)

// maxPayload bounds each type's payload.
var maxPayload = [frameTypes]uint32{
	frameHello: maxHandshake, frameWelcome: maxHandshake,
	frameControl: maxControl, frameClock: 8, frameEcho: 8, frameAppend: MaxFrame,
	frameSnapshot: maxSnapshot, frameChunk: maxChunk, frameEnd: 12,
	frameRequest: MaxCall + 1, frameAnswer: MaxCall, frameFailure: maxFailure,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func updateChecksum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// putHeader writes a header into dst, which has headerLen bytes.
func putHeader(dst []byte, kind byte, length int, sum uint32) {
	dst[0], dst[1], dst[2], dst[3] = 'P', 'd', frameVersion, kind
	binary.LittleEndian.PutUint32(dst[4:], uint32(length))
	binary.LittleEndian.PutUint32(dst[8:], sum)
	binary.LittleEndian.PutUint32(dst[12:], checksum(dst[:12]))
}

// appendFrame appends a whole frame.
func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	var h [headerLen]byte
	putHeader(h[:], kind, len(payload), checksum(payload))
	return append(append(dst, h[:]...), payload...)
}

// finishFrame completes a frame whose payload is frame[headerLen:].
func finishFrame(frame []byte, kind byte) {
	putHeader(frame, kind, len(frame)-headerLen, checksum(frame[headerLen:]))
}

// kinds is a set of frame types.
type kinds uint32

func oneOf(types ...byte) kinds {
	var k kinds
	for _, t := range types {
		k |= 1 << t
	}
	return k
}

// frameReader reads frames from one connection.
type frameReader struct {
	r    *bufio.Reader
	head [headerLen]byte
	// buf is lent to payloads that are gone before the next frame is read.
	buf []byte
	// limit bounds payloads further if it is not 0.
	limit uint32
}

// next reads one frame of a type in allowed. A payload that is not kept is valid
// until the next call; a kept one belongs to the caller. io.EOF, unwrapped, says
// that the stream ended between two frames; a stream that ends within one is
// ErrTruncated.
func (f *frameReader) next(allowed kinds, keep bool) (byte, []byte, error) {
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, nil, truncated(err, false)
	}
	kind, length, err := parseHeader(f.head[:], allowed)
	if err != nil {
		return 0, nil, err
	}
	if f.limit != 0 && length > f.limit {
		return 0, nil, fmt.Errorf("%w: frame type %d of %d bytes, at most %d from a stranger", ErrTooLarge, kind, length, f.limit)
	}
	payload, err := f.payload(int(length), keep)
	if err != nil {
		return 0, nil, err
	}
	if want, got := binary.LittleEndian.Uint32(f.head[8:]), checksum(payload); want != got {
		return 0, nil, fmt.Errorf("%w: payload of type %d: checksum %08x, announced %08x", ErrCorrupt, kind, got, want)
	}
	return kind, payload, nil
}

// truncated names the end of a stream within a frame.
func truncated(err error, within bool) error {
	if err == io.ErrUnexpectedEOF || within && err == io.EOF {
		return ErrTruncated
	}
	return err
}

func parseHeader(h []byte, allowed kinds) (kind byte, length uint32, err error) {
	if h[0] != 'P' || h[1] != 'd' {
		return 0, 0, fmt.Errorf("%w: not a frame: % x", ErrCorrupt, h[:4])
	}
	if want, got := binary.LittleEndian.Uint32(h[12:]), checksum(h[:12]); want != got {
		return 0, 0, fmt.Errorf("%w: header: checksum %08x, announced %08x", ErrCorrupt, got, want)
	}
	if h[2] != frameVersion {
		return 0, 0, fmt.Errorf("%w: framing version %d", ErrVersion, h[2])
	}
	kind, length = h[3], binary.LittleEndian.Uint32(h[4:])
	if kind >= frameTypes || allowed&(1<<kind) == 0 {
		return 0, 0, fmt.Errorf("%w: frame type %d is not expected here", ErrCorrupt, kind)
	}
	if length > maxPayload[kind] {
		return 0, 0, fmt.Errorf("%w: frame type %d of %d bytes, at most %d", ErrTooLarge, kind, length, maxPayload[kind])
	}
	return kind, length, nil
}

// payload reads n bytes. It never allocates more than readStep, or twice what
// has come already.
func (f *frameReader) payload(n int, keep bool) ([]byte, error) {
	var b []byte
	if !keep {
		b = f.buf[:0]
	}
	if cap(b) < n {
		b = dirtmake.Bytes(0, min(n, readStep)) // not cleared: all of it is read into
	}
	for {
		have := len(b)
		b = b[:min(n, cap(b))]
		if _, err := io.ReadFull(f.r, b[have:]); err != nil {
			return nil, truncated(err, true)
		}
		if len(b) == n {
			break
		}
		grown := dirtmake.Bytes(len(b), min(n, 2*len(b)))
		copy(grown, b)
		b = grown
	}
	// A rare large frame must not hold its buffer for ever.
	if !keep && cap(b) <= readStep {
		f.buf = b
	}
	return b, nil
}
