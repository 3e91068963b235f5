package message

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Compression says how a section of a batch is stored. The numbers are part
// of the format.
type Compression uint8

const (
	CompressNone Compression = 0
	CompressS2   Compression = 1 // fast: an S2 block
	CompressZstd Compression = 2 // small: one zstd frame

	maxCompression = CompressZstd
)

// minCompress is the size below which a section is not worth compressing.
const minCompress = 256

// String returns none, s2 or zstd.
func (c Compression) String() string {
	switch c {
	case CompressNone:
		return "none"
	case CompressS2:
		return "s2"
	case CompressZstd:
		return "zstd"
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

// ParseCompression reads what String writes.
func ParseCompression(s string) (Compression, error) {
	for c := CompressNone; c <= maxCompression; c++ {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%w: compression %.40q is none of none, s2, zstd", ErrValue, s)
}

// zstd coders are large, safe for concurrent use in this way, and start no
// goroutines; one of each serves the process.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderCRC(false), // the batch has its own
			zstd.WithSingleSegment(true),
			zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(fmt.Sprintf("message: zstd encoder: %v", err)) // only for bad options
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderMaxMemory(MaxEncodedSize),
			zstd.WithDecodeAllCapLimit(true), // never more than was announced
			zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(fmt.Sprintf("message: zstd decoder: %v", err)) // only for bad options
		}
		return d
	})
)

// appendCompressed appends src to dst, compressed if that makes it smaller,
// and returns how it is stored.
func appendCompressed(dst, src []byte, c Compression) ([]byte, Compression) {
	if len(src) < minCompress {
		c = CompressNone
	}
	at := len(dst)
	switch c {
	case CompressS2:
		dst = grow(dst, s2.MaxEncodedLen(len(src)))
		out := s2.Encode(dst[at:cap(dst)], src)
		dst = dst[:at+len(out)]
	case CompressZstd:
		dst = zstdEncoder().EncodeAll(src, dst)
	}
	if c == CompressNone || len(dst)-at >= len(src) {
		return append(dst[:at], src...), CompressNone
	}
	return dst, c
}

// decompress returns the raw bytes of a section. It allocates rawLen bytes,
// which the header check has bounded, and only after the compressed data has
// announced the same length.
func decompress(src []byte, c Compression, rawLen int) ([]byte, error) {
	switch c {
	case CompressNone:
		return src, nil
	case CompressS2:
		if n, err := s2.DecodedLen(src); err != nil || n != rawLen {
			return nil, corruptf("s2 section does not announce its %d bytes", rawLen)
		}
		out, err := s2.Decode(make([]byte, rawLen), src)
		if err != nil || len(out) != rawLen {
			return nil, corruptf("s2 section does not decompress: %v", err)
		}
		return out, nil
	case CompressZstd:
		var frame zstd.Header
		if err := frame.Decode(src); err != nil || frame.Skippable || !frame.HasFCS || frame.FrameContentSize != uint64(rawLen) {
			return nil, corruptf("zstd section does not announce its %d bytes", rawLen)
		}
		out, err := zstdDecoder().DecodeAll(src, make([]byte, 0, rawLen))
		if err != nil || len(out) != rawLen {
			return nil, corruptf("zstd section does not decompress: %v", err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrVersion, c)
}

// lazyBody is the uncompressed body section of a batch that was stored
// compressed. Servers mostly pass such batches on, so it is decompressed only
// when somebody asks for a body.
type lazyBody struct {
	once   sync.Once
	stored []byte
	how    Compression
	rawLen int
	raw    []byte
	err    error
}

func (l *lazyBody) bytes() ([]byte, error) {
	l.once.Do(func() { l.raw, l.err = decompress(l.stored, l.how, l.rawLen) })
	return l.raw, l.err
}
