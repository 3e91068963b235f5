package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	pb "go.etcd.io/raft/v3/raftpb"
)

// The data of an entry, version 2, all integers little endian:
//
//	offset  size  what
//	0       4     CRC32C of all bytes behind it
//	4       1     version, 2
//	5       1     kind: 1 commands
//	6       1     flags: 1 compressed, 2 encrypted (both reserved), 4 trace id
//	7       1     reserved, 0
//	8       8     term in which the leader decided it
//	16      8     stamp: cluster time T, nanoseconds since 1970
//	24      16    trace id, if flag 4
//	…             commands: length (4), bytes
//
// A command begins with its kind, which is the machine's business. The checksum is
// computed once, by the leader that seals the entry, and goes with it: the
// connection to each follower and every log check it and compute none of their own.
const (
	entryVersion    = 2
	entryCommands   = 1
	entryTraced     = 4
	entrySumSize    = 4
	entryHeaderSize = 24
	entryTraceSize  = 16
	commandHeader   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrEntry means an entry that this version cannot read. The group stops before
// anything of it is applied: guessing would make replicas differ.
var ErrEntry = errors.New("cluster: unreadable entry")

// ErrEntrySum means that the bytes of an entry are not those that were sealed.
var ErrEntrySum = errors.New("cluster: entry with a wrong checksum")

// EntrySum returns the checksum that e carries, if it looks like an entry that
// carries one. It compares nothing: CheckEntry does.
func EntrySum(e *pb.Entry) (sum uint32, ok bool) {
	data := e.GetData()
	if e.GetType() != pb.EntryNormal || len(data) < entryHeaderSize || data[4] != entryVersion || data[5] != entryCommands {
		return 0, false
	}
	return binary.LittleEndian.Uint32(data), true
}

// CheckEntry says whether the data of an entry is what its checksum was computed
// of.
func CheckEntry(data []byte) error {
	if len(data) < entrySumSize {
		return fmt.Errorf("%w: it has %d bytes", ErrEntrySum, len(data))
	}
	if want, got := binary.LittleEndian.Uint32(data), crc32.Checksum(data[entrySumSize:], castagnoli); want != got {
		return fmt.Errorf("%w: %08x, it was sealed with %08x", ErrEntrySum, got, want)
	}
	return nil
}

// SealEntry returns the data of an entry with commands, as a leader seals it.
func SealEntry(term uint64, stamp int64, commands ...[]byte) []byte {
	data := beginEntry(nil, term, stamp)
	for _, c := range commands {
		data = appendCommand(data, c, nil)
	}
	sealEntry(data)
	return data
}

// beginEntry begins the data of an entry; appendCommand adds to it, sealEntry ends
// it.
func beginEntry(dst []byte, term uint64, stamp int64) []byte {
	dst = append(dst, 0, 0, 0, 0, entryVersion, entryCommands, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, term)
	return binary.LittleEndian.AppendUint64(dst, uint64(stamp))
}

// appendCommand appends a command that is given in two parts.
func appendCommand(dst, command, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(command)+len(body)))
	return append(append(dst, command...), body...)
}

// sealEntry puts the checksum into the data of an entry.
func sealEntry(data []byte) {
	binary.LittleEndian.PutUint32(data, crc32.Checksum(data[entrySumSize:], castagnoli))
}

// opened is the decoded data of an entry. Its slices are reused.
type opened struct {
	decided  uint64
	stamp    int64
	commands [][]byte
	offsets  []uint32
}

// open decodes data into o; commands alias data. It does not compute the checksum:
// the log that data was read from did, or the connection that it came by.
func (o *opened) open(data []byte) error {
	o.commands, o.offsets = o.commands[:0], o.offsets[:0]
	if len(data) < entryHeaderSize {
		return fmt.Errorf("%w: %d bytes, the header alone has %d", ErrEntry, len(data), entryHeaderSize)
	}
	if data[4] < entryVersion {
		return fmt.Errorf("%w: version %d, this server knows version %d: an earlier version wrote it, and only that one reads it: run that one here",
			ErrEntry, data[4], entryVersion)
	}
	if data[4] > entryVersion || data[5] != entryCommands {
		return fmt.Errorf("%w: version %d kind %d, this server knows version %d kind %d: a later version wrote it; upgrade this server",
			ErrEntry, data[4], data[5], entryVersion, entryCommands)
	}
	if unknown := data[6] &^ entryTraced; unknown != 0 || data[7] != 0 {
		return fmt.Errorf("%w: unknown flags %#x, %#x: upgrade this server", ErrEntry, unknown, data[7])
	}
	o.decided = binary.LittleEndian.Uint64(data[8:])
	o.stamp = int64(binary.LittleEndian.Uint64(data[16:]))
	at := entryHeaderSize
	if data[6]&entryTraced != 0 {
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
