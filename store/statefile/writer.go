package statefile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/perdure/perdure/message"
)

const (
	magic         = "\x89PDS\r\n\x1a\n"
	formatVersion = 1
	headerLen     = len(magic) + 8
	blockHeader   = 24
	trailerLen    = 24 + sha256.Size

	blockTarget   = 256 << 10 // a block ends when its content has so much
	maxBlock      = 4 << 20
	maxBatchBlock = blockTarget + message.MaxEncodedSize + 64
	maxManifest   = 32 << 20

	storedPlain = 0
	storedZstd  = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The encoder is safe for concurrent use in this way, and starts no goroutines.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), // the block has its own
		zstd.WithSingleSegment(true),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(fmt.Sprintf("statefile: zstd encoder: %v", err)) // only for bad options
	}
	return e
})

// Totals is what a trailer says of the blocks before it.
type Totals struct {
	Blocks  uint64 `json:"blocks"`
	Records uint64 `json:"records"`
	Content uint64 `json:"content_bytes"` // before compression
	Size    int64  `json:"file_bytes"`    // of the whole file
}

// Writer writes a state file. Records come in their order; after an error
// nothing more is written.
type Writer struct {
	out     io.Writer
	sum     hash.Hash
	totals  Totals
	section Section
	content []byte
	records uint32
	stored  []byte
	err     error
}

// NewWriter begins a file with its manifest, whose Summary is what a [Tally] of
// the records says.
func NewWriter(out io.Writer, m *Manifest) (*Writer, error) {
	w := &Writer{out: out, sum: sha256.New()}
	head := binary.LittleEndian.AppendUint16([]byte(magic), formatVersion)
	head = append(head, 0, 0) // flags
	w.write(binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli)))
	w.section = SectionManifest
	content, err := m.encode()
	if err != nil {
		return nil, err
	}
	w.content = content
	w.records = 1
	w.flush()
	return w, w.err
}

// Put appends a record.
func (w *Writer) Put(r Record) error {
	section := r.Section()
	if section != w.section {
		w.flush()
		w.section = section
	}
	w.content = r.appendTo(w.content)
	if b, ok := r.(*Batch); ok {
		if len(b.Bytes) != int(b.Len) {
			w.fail(fmt.Errorf("statefile: batch %v has %d bytes, not the %d it is said to have", b.First, len(b.Bytes), b.Len))
		}
		w.content = append(w.content, b.Bytes...)
	}
	w.records++
	if len(w.content) > section.limit() {
		w.fail(fmt.Errorf("statefile: a record of %v makes a block of %d bytes, at most %d are allowed", section, len(w.content), section.limit()))
	}
	if len(w.content) >= blockTarget {
		w.flush()
	}
	return w.err
}

// Close writes the trailer. It does not close what the file is written to.
func (w *Writer) Close() (Totals, error) {
	w.flush()
	w.section = sectionTrailer
	w.content = binary.LittleEndian.AppendUint64(w.content[:0], w.totals.Blocks)
	w.content = binary.LittleEndian.AppendUint64(w.content, w.totals.Records)
	w.content = binary.LittleEndian.AppendUint64(w.content, w.totals.Content)
	w.content = w.sum.Sum(w.content)
	w.block(storedPlain, w.content)
	return w.totals, w.err
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// flush writes what was put as one block.
func (w *Writer) flush() {
	if w.records == 0 || w.err != nil {
		return
	}
	w.stored = zstdEncoder().EncodeAll(w.content, w.stored[:0])
	if len(w.stored) < len(w.content) {
		w.block(storedZstd, w.stored)
	} else {
		w.block(storedPlain, w.content)
	}
	w.totals.Blocks++
	w.totals.Records += uint64(w.records)
	w.totals.Content += uint64(len(w.content))
	w.content, w.records = w.content[:0], 0
}

func (w *Writer) block(how byte, stored []byte) {
	le := binary.LittleEndian
	h := append(make([]byte, 0, blockHeader), byte(w.section), how, 0, 0)
	h = le.AppendUint32(h, w.records)
	h = le.AppendUint32(h, uint32(len(w.content)))
	h = le.AppendUint32(h, uint32(len(stored)))
	h = le.AppendUint32(h, crc32.Checksum(stored, castagnoli))
	w.write(le.AppendUint32(h, crc32.Checksum(h, castagnoli)))
	w.write(stored)
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.out.Write(b); err != nil {
		w.fail(fmt.Errorf("statefile: writing byte %d: %w", w.totals.Size, err))
		return
	}
	w.sum.Write(b)
	w.totals.Size += int64(len(b))
}
