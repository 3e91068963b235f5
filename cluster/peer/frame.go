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
	headerLen    = 20
	frameVersion = 2

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
	// readStep is how much is allocated on the word of a header alone: an entry with
	// a message of 1 MiB comes without a copy.
	readStep = 2 << 20
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

// extent is what a header says of the payload: its length, how much of it the
// frame's checksum covers, and that. What lies behind carries its own checksums.
type extent struct {
	length, covered int
	sum             uint32
}

// add takes in what follows. The first that carries its own checksum ends what the
// frame's covers.
func (x *extent) add(b []byte, carried bool) {
	x.length += len(b)
	if !carried {
		x.covered += len(b)
		x.sum = updateChecksum(x.sum, b)
	}
}

// put writes a header into dst, which has headerLen bytes.
func (x *extent) put(dst []byte, kind byte) {
	dst[0], dst[1], dst[2], dst[3] = 'P', 'd', frameVersion, kind
	binary.LittleEndian.PutUint32(dst[4:], uint32(x.length))
	binary.LittleEndian.PutUint32(dst[8:], uint32(x.covered))
	binary.LittleEndian.PutUint32(dst[12:], x.sum)
	binary.LittleEndian.PutUint32(dst[16:], checksum(dst[:16]))
}

// putHeader writes the header of a frame that is covered as a whole.
func putHeader(dst []byte, kind byte, length int, sum uint32) {
	x := extent{length, length, sum}
	x.put(dst, kind)
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
	// covered is how much of the last payload its frame's checksum covers: all of
	// it, but in frameAppend.
	covered int
}

// next reads one frame of a type in allowed, and checks what its checksum covers. A payload that is not kept is valid
// until the next call; a kept one belongs to the caller. io.EOF, unwrapped, says
// that the stream ended between two frames; a stream that ends within one is
// ErrTruncated.
func (f *frameReader) next(allowed kinds, keep bool) (byte, []byte, error) {
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, nil, truncated(err, false)
	}
	kind, x, err := parseHeader(f.head[:], allowed)
	if err != nil {
		return 0, nil, err
	}
	if length := x.length; f.limit != 0 && length > int(f.limit) {
		return 0, nil, fmt.Errorf("%w: frame type %d of %d bytes, at most %d from a stranger", ErrTooLarge, kind, length, f.limit)
	}
	payload, err := f.payload(x.length, keep)
	if err != nil {
		return 0, nil, err
	}
	if got := checksum(payload[:x.covered]); x.sum != got {
		return 0, nil, fmt.Errorf("%w: payload of type %d: checksum %08x, announced %08x", ErrCorrupt, kind, got, x.sum)
	}
	f.covered = x.covered
	return kind, payload, nil
}

// truncated names the end of a stream within a frame.
func truncated(err error, within bool) error {
	if err == io.ErrUnexpectedEOF || within && err == io.EOF {
		return ErrTruncated
	}
	return err
}

func parseHeader(h []byte, allowed kinds) (kind byte, x extent, err error) {
	if h[0] != 'P' || h[1] != 'd' {
		return 0, x, fmt.Errorf("%w: not a frame: % x", ErrCorrupt, h[:4])
	}
	if want, got := binary.LittleEndian.Uint32(h[16:]), checksum(h[:16]); want != got {
		return 0, x, fmt.Errorf("%w: header: checksum %08x, announced %08x", ErrCorrupt, got, want)
	}
	if h[2] != frameVersion {
		return 0, x, fmt.Errorf("%w: framing version %d", ErrVersion, h[2])
	}
	length, covered := binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:])
	if kind = h[3]; kind >= frameTypes || allowed&(1<<kind) == 0 {
		return 0, x, fmt.Errorf("%w: frame type %d is not expected here", ErrCorrupt, kind)
	}
	if length > maxPayload[kind] {
		return 0, x, fmt.Errorf("%w: frame type %d of %d bytes, at most %d", ErrTooLarge, kind, length, maxPayload[kind])
	}
	if covered > length || covered < length && kind != frameAppend {
		return 0, x, fmt.Errorf("%w: frame type %d of %d bytes, %d are covered", ErrCorrupt, kind, length, covered)
	}
	return kind, extent{int(length), int(covered), binary.LittleEndian.Uint32(h[12:])}, nil
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
