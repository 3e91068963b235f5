package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The data of an entry, version 1, all integers little endian:
//
//	offset  size  what
//	0       1     version, 1
//	1       1     kind: 1 commands
//	2       1     flags: 1 compressed, 2 encrypted (both reserved), 4 trace id
//	3       1     reserved, 0
//	4       8     term in which the leader decided it
//	12      8     stamp: cluster time T, nanoseconds since 1970
//	20      16    trace id, if flag 4
//	…             commands: length (4), bytes
//
// A command begins with its kind, which is the machine's business. Checksums are
// the log's and the batches'.
const (
	entryVersion    = 1
	entryCommands   = 1
	entryTraced     = 4
	entryHeaderSize = 20
	entryTraceSize  = 16
	commandHeader   = 4
)

// ErrEntry means an entry that this version cannot read. The group stops before
// anything of it is applied: guessing would make replicas differ.
var ErrEntry = errors.New("cluster: unreadable entry")

// sealEntry begins the data of an entry; appendCommand adds to it.
func sealEntry(dst []byte, term uint64, stamp int64) []byte {
	dst = append(dst, entryVersion, entryCommands, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, term)
	return binary.LittleEndian.AppendUint64(dst, uint64(stamp))
}

// appendCommand appends a command that is given in two parts.
func appendCommand(dst, command, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(command)+len(body)))
	return append(append(dst, command...), body...)
}

// opened is the decoded data of an entry. Its slices are reused.
type opened struct {
	decided  uint64
	stamp    int64
	commands [][]byte
	offsets  []uint32
}

// open decodes data into o; commands alias data.
func (o *opened) open(data []byte) error {
	o.commands, o.offsets = o.commands[:0], o.offsets[:0]
	if len(data) < entryHeaderSize {
		return fmt.Errorf("%w: %d bytes, the header alone has %d", ErrEntry, len(data), entryHeaderSize)
	}
	if data[0] != entryVersion || data[1] != entryCommands {
		return fmt.Errorf("%w: version %d kind %d, this server knows version %d kind %d: upgrade it", ErrEntry,
			data[0], data[1], entryVersion, entryCommands)
	}
	if unknown := data[2] &^ entryTraced; unknown != 0 || data[3] != 0 {
		return fmt.Errorf("%w: unknown flags %#x, %#x: upgrade this server", ErrEntry, unknown, data[3])
	}
	o.decided = binary.LittleEndian.Uint64(data[4:])
	o.stamp = int64(binary.LittleEndian.Uint64(data[12:]))
	at := entryHeaderSize
	if data[2]&entryTraced != 0 {
		at += entryTraceSize
		if len(data) < at {
			return fmt.Errorf("%w: cut off in the trace id", ErrEntry)
		}
	}
	for at < len(data) {
		if len(data)-at < commandHeader {
			return fmt.Errorf("%w: cut off at byte %d", ErrEntry, at)
		}
		n := int(binary.LittleEndian.Uint32(data[at:]))
		at += commandHeader
		if n > len(data)-at {
			return fmt.Errorf("%w: a command of %d bytes at byte %d, %d are left", ErrEntry, n, at, len(data)-at)
		}
		o.commands = append(o.commands, data[at:at+n:at+n])
		o.offsets = append(o.offsets, uint32(at))
		at += n
	}
	return nil
}
