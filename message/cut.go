package message

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// AppendSelection appends to dst a new batch of the messages of the batch data
// at the positions in sel, which ascend and are not empty, without decoding
// them. The result is not compressed and keeps the whole dictionary. Data is
// parsed, so that no damage gets a fresh checksum. All messages together are
// copied as they are, checksums and compression included. The caller owns the
// result. Errors wrap those of ParseBatch, or ErrRange; dst is then returned as
// it was.
func AppendSelection(dst, data []byte, sel []int) ([]byte, error) {
	b, err := ParseBatch(data)
	if err != nil {
		return dst, err
	}
	if err := b.selects(sel); err != nil {
		return dst, err
	}
	return b.appendCut(dst, sel)
}

// selects checks a selection.
func (b *Batch) selects(sel []int) error {
	if len(sel) == 0 {
		return fmt.Errorf("%w: the selection is empty", ErrRange)
	}
	prev := -1
	for _, i := range sel {
		if i <= prev || i >= b.count {
			return fmt.Errorf("%w: %d after %d of %d", ErrRange, i, prev, b.count)
		}
		prev = i
	}
	return nil
}

// selection are the positions of messages to take. Walking its runs uses it up,
// so each function that does takes a copy.
type selection []int

// run takes the next run of neighbours off the selection; false at the end.
func (s *selection) run() (i, j int, ok bool) {
	if len(*s) == 0 {
		return 0, 0, false
	}
	i, n := (*s)[0], 1
	for n < len(*s) && (*s)[n] == i+n {
		n++
	}
	*s = (*s)[n:]
	return i, i + n, true
}

// appendCut cuts a batch whose checksums were just verified.
func (b *Batch) appendCut(dst []byte, sel selection) ([]byte, error) {
	if len(sel) == b.count {
		return append(dst, b.raw...), nil
	}
	bodies, err := b.bodies()
	if err != nil {
		return dst, err
	}
	at := len(dst)
	out := b.cutHeader(sel)
	dst = grow(dst, out.Len())[:at+HeaderSize]
	if out.Flags&FlagParts != 0 {
		dst = b.appendPartDirectory(dst, sel)
		dst = append(dst, b.head[b.count*b.stride:b.partsAt]...)
		dst = b.appendRuns(dst, sel, b.head[b.partsAt:], 0)
	} else {
		dst = b.appendBodyDirectory(dst, sel)
	}
	out.HeadCRC = crc32.Checksum(dst[at+HeaderSize:], castagnoli)
	bodyAt := len(dst)
	dst = b.appendRuns(dst, sel, bodies, b.stride-4)
	out.BodyCRC = crc32.Checksum(dst[bodyAt:], castagnoli)
	out.put(dst[at:])
	return dst, nil
}

// appendRuns copies what the cut takes of a section, whose ends are at the
// given offset of the directory entries.
func (b *Batch) appendRuns(dst []byte, sel selection, section []byte, offset int) []byte {
	for i, j, ok := sel.run(); ok; i, j, ok = sel.run() {
		start, _ := b.bounds(i, offset)
		_, end := b.bounds(j-1, offset)
		dst = append(dst, section[start:end]...)
	}
	return dst
}

// cutHeader computes the header of the new batch, but for the checksums. If
// none of its messages has a part it needs no dictionary either.
func (b *Batch) cutHeader(sel selection) BatchHeader {
	h := BatchHeader{Count: len(sel)}
	parts := 0
	control := b.HasControl()
	for i, j, ok := sel.run(); ok; i, j, ok = sel.run() {
		start, _ := b.bounds(i, b.stride-4)
		_, end := b.bounds(j-1, b.stride-4)
		h.BodyLen += end - start
		if b.hasParts {
			start, _ = b.bounds(i, 0)
			_, end = b.bounds(j-1, 0)
			parts += end - start
		}
		for ; control && i < j; i++ {
			b.addControl(&h, i)
		}
	}
	h.HeadLen = h.Count * 4
	if parts > 0 {
		h.Flags |= FlagParts
		h.HeadLen = h.Count*8 + b.partsAt - b.count*b.stride + parts
	}
	h.HeadRawLen, h.BodyRawLen = h.HeadLen, h.BodyLen
	return h
}

// addControl makes h tell of the control of message i.
func (b *Batch) addControl(h *BatchHeader, i int) {
	p := b.part(i)
	if len(p) == 0 || p[0]&(hasTTL|hasDeliverAt|hasKey) == 0 {
		return
	}
	h.Flags |= FlagControl
	ttl, _, _ := b.Control(i)
	if ttl > 0 && (h.EarliestDeadline == 0 || ttl < h.EarliestDeadline) {
		h.EarliestDeadline = ttl
	}
}

func (b *Batch) appendPartDirectory(dst []byte, sel selection) []byte {
	le := binary.LittleEndian
	partShift, bodyShift := 0, 0
	partEnd, bodyEnd := 0, 0
	for i, j, ok := sel.run(); ok; i, j, ok = sel.run() {
		start, _ := b.bounds(i, 0)
		partShift = start - partEnd
		start, _ = b.bounds(i, 4)
		bodyShift = start - bodyEnd
		for e := i * 8; e < j*8; e += 8 {
			partEnd = int(le.Uint32(b.head[e:])) - partShift
			bodyEnd = int(le.Uint32(b.head[e+4:])) - bodyShift
			dst = le.AppendUint32(dst, uint32(partEnd))
			dst = le.AppendUint32(dst, uint32(bodyEnd))
		}
	}
	return dst
}

func (b *Batch) appendBodyDirectory(dst []byte, sel selection) []byte {
	le := binary.LittleEndian
	end := 0
	for i, j, ok := sel.run(); ok; i, j, ok = sel.run() {
		start, _ := b.bounds(i, b.stride-4)
		shift := start - end
		for ; i < j; i++ {
			end = int(le.Uint32(b.head[i*b.stride+b.stride-4:])) - shift
			dst = le.AppendUint32(dst, uint32(end))
		}
	}
	return dst
}
