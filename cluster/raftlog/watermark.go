package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mark is what one copy has promised: done has run for it.
type mark struct {
	generation     uint32
	term, vote     uint64 // of the hard state
	lastTerm, last uint64 // of the last entry
}

// missing says what found lacks of m, or "". A later generation means that a
// snapshot was installed since m was noted, so m says nothing about it. A log
// may become shorter only by entries of a newer term.
func (m mark) missing(found mark) string {
	switch {
	case found.generation > m.generation:
		return ""
	case found.generation < m.generation:
		return "a snapshot that it had installed is gone"
	case found.lastTerm < m.lastTerm, found.lastTerm == m.lastTerm && found.last < m.last:
		return fmt.Sprintf("its log ends with entry %d of term %d, and it had promised entry %d of term %d", found.last, found.lastTerm, m.last, m.lastTerm)
	case found.term < m.term:
		return fmt.Sprintf("it recovered term %d, and it had promised term %d", found.term, m.term)
	case found.term == m.term && m.vote != 0 && found.vote != m.vote:
		return fmt.Sprintf("it recovered a vote for %d in term %d, and it had promised one for %d", found.vote, m.term, m.vote)
	}
	return ""
}

const (
	watermarkMagic  = 0x50455244 // "PERD"
	watermarkHeader = 4 + 4 + 8 + 4
	watermarkEntry  = 8 + 4 + 4*8
)

func watermarkName(slot int) string { return fmt.Sprintf("watermark.%d", slot) }

// watermark is the durable note of all marks of an engine, in two slots that
// are written in turn, so that a torn write leaves the other. A slot is magic
// (4), CRC32C of the rest (4), sequence (8), count (4), and per copy group (8),
// generation (4) and the mark (32).
type watermark struct {
	fs    vfs.FS
	slots [2]vfs.File

	mu struct {
		sync.Mutex
		marks map[uint64]mark
		dirty bool
	}
	sequence uint64 // of the last written slot; one writer at a time
}

// openWatermark reads the slots. lost says that both were there and neither can
// be read, so that nothing is known about what was promised.
func openWatermark(fs vfs.FS, dir string) (w *watermark, lost bool, err error) {
	w = &watermark{fs: fs}
	w.mu.marks = map[uint64]mark{}
	damaged := 0
	for slot := range w.slots {
		data, err := readFile(fs, fs.PathJoin(dir, watermarkName(slot)))
		if err != nil {
			return nil, false, err
		}
		sequence, marks, err := parseWatermark(data)
		switch {
		case data == nil:
		case err != nil:
			damaged++
		case sequence >= w.sequence:
			w.sequence, w.mu.marks = sequence, marks
		}
	}
	for slot := range w.slots {
		path := fs.PathJoin(dir, watermarkName(slot))
		if w.slots[slot], err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
			return nil, false, errors.Join(fmt.Errorf("raftlog: open %s: %w", path, err), w.close())
		}
	}
	return w, damaged == len(w.slots), nil
}

func parseWatermark(b []byte) (uint64, map[uint64]mark, error) {
	if len(b) < watermarkHeader || binary.BigEndian.Uint32(b) != watermarkMagic {
		return 0, nil, fmt.Errorf("raftlog: no watermark")
	}
	count := int(binary.BigEndian.Uint32(b[16:]))
	// The file may be longer: an older, longer content is not cut off.
	if count > (len(b)-watermarkHeader)/watermarkEntry {
		return 0, nil, fmt.Errorf("raftlog: watermark is cut off")
	}
	b = b[:watermarkHeader+count*watermarkEntry]
	if crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return 0, nil, fmt.Errorf("raftlog: watermark's checksum differs")
	}
	marks := make(map[uint64]mark, count)
	sequence := binary.BigEndian.Uint64(b[8:])
	for b = b[watermarkHeader:]; len(b) > 0; b = b[watermarkEntry:] {
		marks[binary.BigEndian.Uint64(b)] = mark{
			generation: binary.BigEndian.Uint32(b[8:]),
			term:       binary.BigEndian.Uint64(b[12:]),
			vote:       binary.BigEndian.Uint64(b[20:]),
			lastTerm:   binary.BigEndian.Uint64(b[28:]),
			last:       binary.BigEndian.Uint64(b[36:]),
		}
	}
	return sequence, marks, nil
}

func encodeWatermark(sequence uint64, marks map[uint64]mark) []byte {
	b := make([]byte, watermarkHeader, watermarkHeader+len(marks)*watermarkEntry)
	binary.BigEndian.PutUint32(b, watermarkMagic)
	binary.BigEndian.PutUint64(b[8:], sequence)
	binary.BigEndian.PutUint32(b[16:], uint32(len(marks)))
	for group, m := range marks {
		b = binary.BigEndian.AppendUint64(b, group)
		b = binary.BigEndian.AppendUint32(b, m.generation)
		for _, v := range [...]uint64{m.term, m.vote, m.lastTerm, m.last} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

// get returns the mark of a group, as far as one is known.
func (w *watermark) get(group uint64) (mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.mu.marks[group]
	return m, ok
}

// set notes what a group has promised. It does not touch the disk.
func (w *watermark) set(group uint64, m mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.marks[group] != m {
		w.mu.marks[group] = m
		w.mu.dirty = true
	}
}

func (w *watermark) forget(group uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.mu.marks[group]; ok {
		delete(w.mu.marks, group)
		w.mu.dirty = true
	}
}

// take returns the next slot's content, nil if nothing changed. What it holds
// must be durable, or as durable as the mode promises, before it is written.
func (w *watermark) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.dirty {
		return nil
	}
	w.mu.dirty = false
	w.sequence++
	return encodeWatermark(w.sequence, w.mu.marks)
}

// write puts a slot that take returned on disk.
func (w *watermark) write(slot []byte) error {
	f := w.slots[w.sequence%uint64(len(w.slots))]
	if _, err := f.WriteAt(slot, 0); err != nil {
		return fmt.Errorf("raftlog: write watermark: %w", err)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("raftlog: sync watermark: %w", err)
	}
	return nil
}

// fill writes both slots, so that from now on two unreadable ones mean damage
// and not a first write that was cut short.
func (w *watermark) fill() error {
	for range w.slots {
		w.mu.Lock()
		w.mu.dirty = true
		w.mu.Unlock()
		if err := w.write(w.take()); err != nil {
			return err
		}
	}
	return nil
}

func (w *watermark) close() error {
	var errs []error
	for _, f := range w.slots {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
