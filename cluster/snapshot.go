package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A snapshot on the wire is a series of records: kind (1), then for a page the
// lengths of key and value (4 each) and both, for an entry its index (8), length
// (4) and data, and at the end the number of records (8). The transport checks
// sums; the end record tells a whole stream from one that was cut off.
const (
	snapshotPage  = 1
	snapshotEntry = 2
	snapshotEnd   = 3

	// maxSnapshotPage bounds a page; machines keep theirs far smaller.
	maxSnapshotPage = 16 << 20
)

var errSnapshot = errors.New("cluster: malformed snapshot")

// Capture pins the state at an entry that this replica has applied, no earlier than
// now: the loop makes a checkpoint and goes on. On a replica that takes over a
// snapshot it fails with [ErrInstalling]. The caller closes the capture, before the
// log is closed.
func (g *Group[R]) Capture(ctx context.Context) (Capture, error) {
	var err error
	if e := g.Do(ctx, func(now Now) { err = g.replica.CheckpointNow(now) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	return g.log.Capture()
}

func writeSnapshot(w io.Writer, c Capture, live []Range) error {
	b := bufio.NewWriterSize(w, 256<<10)
	var head [13]byte
	records := uint64(0)
	write := func(n int, parts ...[]byte) error {
		records++
		if _, err := b.Write(head[:n]); err != nil {
			return err
		}
		for _, p := range parts {
			if _, err := b.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	err := c.Pages(func(key, value []byte) error {
		head[0] = snapshotPage
		binary.LittleEndian.PutUint32(head[1:], uint32(len(key)))
		binary.LittleEndian.PutUint32(head[5:], uint32(len(value)))
		return write(9, key, value)
	})
	if err != nil {
		return err
	}
	err = c.Entries(live, func(index uint64, data []byte) error {
		head[0] = snapshotEntry
		binary.LittleEndian.PutUint64(head[1:], index)
		binary.LittleEndian.PutUint32(head[9:], uint32(len(data)))
		return write(13, data)
	})
	if err != nil {
		return err
	}
	head[0] = snapshotEnd
	binary.LittleEndian.PutUint64(head[1:], records)
	if err := write(9); err != nil {
		return err
	}
	return b.Flush()
}

func readSnapshot(r io.Reader, in Receiver) error {
	b := bufio.NewReaderSize(r, 256<<10)
	var head [12]byte
	for records := uint64(0); ; records++ {
		kind, err := b.ReadByte()
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", errSnapshot, records, err)
		}
		switch kind {
		case snapshotPage:
			err = readPage(b, head[:8], in)
		case snapshotEntry:
			err = readEntry(b, head[:12], in)
		case snapshotEnd:
			if _, err := io.ReadFull(b, head[:8]); err != nil {
				return fmt.Errorf("%w: end: %w", errSnapshot, err)
			}
			if n := binary.LittleEndian.Uint64(head[:]); n != records {
				return fmt.Errorf("%w: %d records, %d were sent", errSnapshot, records, n)
			}
			return nil
		default:
			err = fmt.Errorf("unknown kind %d", kind)
		}
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", errSnapshot, records, err)
		}
	}
}

func readPage(b io.Reader, head []byte, in Receiver) error {
	if _, err := io.ReadFull(b, head); err != nil {
		return err
	}
	key, value := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if uint64(key)+uint64(value) > maxSnapshotPage {
		return fmt.Errorf("a page of %d bytes, at most %d", uint64(key)+uint64(value), maxSnapshotPage)
	}
	buf := make([]byte, key+value)
	if _, err := io.ReadFull(b, buf); err != nil {
		return err
	}
	return in.Page(buf[:key:key], buf[key:])
}

func readEntry(b io.Reader, head []byte, in Receiver) error {
	if _, err := io.ReadFull(b, head); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[8:])
	if n > MaxCommand+entryHeaderSize+entryTraceSize+mergeTarget {
		return fmt.Errorf("an entry of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(b, data); err != nil {
		return err
	}
	return in.Entry(binary.LittleEndian.Uint64(head), data)
}
