package statefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The decoder is safe for concurrent use in this way, and starts no goroutines.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(uint64(maxBatchBlock)),
		zstd.WithDecodeAllCapLimit(true), // never more than was announced
		zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(fmt.Sprintf("statefile: zstd decoder: %v", err)) // only for bad options
	}
	return d
})

// Reader reads a state file. It checks each block before it hands it out, and
// the whole file at its end: what came before is only then known to be what was
// written, so whoever changes anything reads a file with [Verify] first. No block
// is handed out with which pending sets and counts would take more than 1 GiB, and
// 64 times what was read, where the file is loaded.
type Reader struct {
	in       io.Reader
	sum      hash.Hash
	totals   Totals
	manifest *Manifest
	section  Section // of the block being read
	head     [blockHeader]byte
	stored   []byte
	content  []byte
	held     holding
	err      error // that ended reading
}

// Block is a piece of a file that can be read by itself.
type Block struct {
	Section  Section
	Position int64 // of the block in the file
	Count    uint32
	Content  []byte
}

// NewReader reads the header and the manifest.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: in, sum: sha256.New()}
	if err := r.readHeader(); err != nil {
		return nil, err
	}
	b, err := r.next()
	if err == nil && (b.Section != SectionManifest || b.Count != 1) {
		err = r.wrong(Altered, b.Position, "it is the first block, which must be a manifest")
	}
	if err != nil {
		return nil, err
	}
	if r.manifest, err = decodeManifest(b.Content); err != nil {
		code := Altered
		if bytes.Contains([]byte(err.Error()), []byte("unknown field")) {
			code = Newer
		}
		return nil, r.wrong(code, b.Position, "%v", err)
	}
	return r, nil
}

// Manifest returns what the file says it holds.
func (r *Reader) Manifest() *Manifest { return r.manifest }

// Totals returns what was read so far; after io.EOF, of the whole file.
func (r *Reader) Totals() Totals { return r.totals }

// Next returns the next block, which is valid until Next is called again, and
// io.EOF after a trailer that agrees with everything before it.
func (r *Reader) Next() (*Block, error) {
	if r.err != nil {
		return nil, r.err
	}
	b, err := r.next()
	if err == nil && b.Section == SectionManifest {
		err = r.wrong(Altered, b.Position, "a second manifest")
	}
	r.err = err
	return b, err
}

func (r *Reader) readHeader() error {
	h := r.head[:headerLen]
	n, err := io.ReadFull(r.in, h)
	if n < len(magic) && (n == 0 || bytes.HasPrefix([]byte(magic), h[:n])) && ended(err) {
		return r.wrong(Truncated, int64(n), "the file has only %d bytes", n)
	}
	if !bytes.Equal(h[:min(n, len(magic))], []byte(magic)[:min(n, len(magic))]) || n < len(magic) && ended(err) {
		return r.wrong(Foreign, 0, "it does not begin as state files do")
	}
	if err != nil {
		return r.readError(err)
	}
	le := binary.LittleEndian
	if v := le.Uint16(h[8:]); v > formatVersion {
		return r.wrong(Newer, 8, "version %d, this program reads up to %d", v, formatVersion)
	}
	if le.Uint32(h[12:]) != crc32.Checksum(h[:12], castagnoli) || le.Uint16(h[8:]) == 0 {
		return r.wrong(Altered, 8, "the header fails its checksum")
	}
	if f := le.Uint16(h[10:]); f != 0 {
		return r.wrong(Newer, 10, "flags %#x are not known", f)
	}
	r.took(h)
	return nil
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// wrong returns the error for what is not as it should be.
func (r *Reader) wrong(code Code, at int64, format string, args ...any) error {
	return &Error{Code: code, Position: at, Section: r.section, Reason: fmt.Sprintf(format, args...)}
}

func (r *Reader) readError(err error) error {
	if ended(err) {
		return r.wrong(Truncated, r.totals.Size, "the file ends inside what begins here")
	}
	return fmt.Errorf("state file: reading from byte %d on: %w", r.totals.Size, err)
}

// took notes that b was read.
func (r *Reader) took(b []byte) {
	r.sum.Write(b)
	r.totals.Size += int64(len(b))
}

// next reads a block, or the trailer and the end.
func (r *Reader) next() (*Block, error) {
	at := r.totals.Size
	if _, err := io.ReadFull(r.in, r.head[:]); err != nil {
		return nil, r.readError(err)
	}
	h, le := r.head[:], binary.LittleEndian
	if le.Uint32(h[20:]) != crc32.Checksum(h[:20], castagnoli) {
		return nil, r.wrong(Altered, at, "the header of a block fails its checksum")
	}
	b := &Block{Section: Section(h[0]), Position: at, Count: le.Uint32(h[4:])}
	content, stored := le.Uint32(h[8:]), le.Uint32(h[12:])
	before := r.section
	r.section = b.Section
	switch {
	case !b.Section.known():
		return nil, r.wrong(Newer, at, "this version does not read %v", b.Section)
	case h[1] > storedZstd || h[2] != 0 || h[3] != 0:
		return nil, r.wrong(Newer, at, "a block stored in way %d with flags %#x", h[1], le.Uint16(h[2:]))
	case b.Section < before:
		return nil, r.wrong(Altered, at, "it comes after %v", before)
	case b.Section == sectionTrailer:
		if h[1] != storedPlain || b.Count != 0 || stored != uint32(trailerLen) || content != stored {
			return nil, r.wrong(Altered, at, "a trailer of %d bytes, stored as %d, not %d", content, stored, trailerLen)
		}
		return nil, r.end(at)
	case int64(content) > int64(b.Section.limit()):
		return nil, r.wrong(Altered, at, "a block of %d bytes, at most %d are allowed", content, b.Section.limit())
	case b.Count == 0 || content < b.Count || stored == 0 || stored > content || (stored == content) != (h[1] == storedPlain):
		return nil, r.wrong(Altered, at, "%d records of %d bytes, stored as %d", b.Count, content, stored)
	}
	if err := r.fill(stored); err != nil {
		return nil, err
	}
	var err error
	if b.Content, err = r.unpack(at, h[1], int(content)); err != nil {
		return nil, err
	}
	r.totals.Blocks++
	r.totals.Records += uint64(b.Count)
	r.totals.Content += uint64(content)
	if err := r.held.block(b, r.totals.Size); err != nil {
		return nil, r.wrong(Altered, at, "%v", err)
	}
	return b, nil
}

// fill reads what a block stores, and compares it with its checksum. It takes
// no more memory than the file has bytes.
func (r *Reader) fill(n uint32) error {
	const step = 1 << 20
	sum := binary.LittleEndian.Uint32(r.head[16:])
	crc := crc32.New(castagnoli)
	pos := r.totals.Size + blockHeader
	r.stored = r.stored[:0]
	for left := int(n); left > 0; {
		k, at := min(left, step), len(r.stored)
		r.stored = append(r.stored, make([]byte, k)...)
		if _, err := io.ReadFull(r.in, r.stored[at:]); err != nil {
			return r.readError(err)
		}
		left -= k
	}
	crc.Write(r.stored)
	if crc.Sum32() != sum {
		return r.wrong(Altered, pos, "%d bytes fail their checksum", n)
	}
	r.took(r.head[:])
	r.took(r.stored)
	return nil
}

// unpack returns the content of the block that was read.
func (r *Reader) unpack(at int64, how byte, n int) ([]byte, error) {
	if how == storedPlain {
		return r.stored, nil
	}
	var frame zstd.Header
	if err := frame.Decode(r.stored); err != nil || frame.Skippable || !frame.HasFCS || frame.FrameContentSize != uint64(n) {
		return nil, r.wrong(Altered, at+blockHeader, "the compressed block does not announce its %d bytes", n)
	}
	if cap(r.content) < n {
		r.content = make([]byte, 0, n)
	}
	content, err := zstdDecoder().DecodeAll(r.stored, r.content[:0:n])
	if err != nil || len(content) != n {
		return nil, r.wrong(Altered, at+blockHeader, "the block does not decompress to %d bytes: %v", n, err)
	}
	r.content = content
	return content, nil
}

// end reads the trailer and compares it with the file. It returns io.EOF if all
// is well.
func (r *Reader) end(at int64) error {
	sum := r.sum.Sum(nil)
	totals := r.totals
	if err := r.fill(uint32(trailerLen)); err != nil {
		return err
	}
	t, le := r.stored, binary.LittleEndian
	if le.Uint64(t) != totals.Blocks || le.Uint64(t[8:]) != totals.Records || le.Uint64(t[16:]) != totals.Content {
		return r.wrong(Altered, at, "the trailer counts %d blocks, %d records and %d bytes; the file has %d, %d and %d",
			le.Uint64(t), le.Uint64(t[8:]), le.Uint64(t[16:]), totals.Blocks, totals.Records, totals.Content)
	}
	if !bytes.Equal(t[24:], sum) {
		return r.wrong(Altered, at, "the file fails the checksum in its trailer")
	}
	switch n, err := io.ReadFull(r.in, r.head[:1]); {
	case n > 0:
		return r.wrong(Altered, r.totals.Size, "something follows the trailer")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("state file: reading from byte %d on: %w", r.totals.Size, err)
	}
	return io.EOF
}
