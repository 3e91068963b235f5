package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The kinds of keys; doc.go has the layout.
const (
	kindCounter = 'c'
	kindCopy    = 'g'
	kindFloor   = 'f' // the first segment of the journal that an opening reads

	kindHard  = 1
	kindEdge  = 2
	kindPage  = 3
	kindEntry = 4

	// where the journal has an entry below the first index
	kindPosition = 5
)

const (
	formatVersion = 1
	recordHeader  = 8                 // version, type, two spare, CRC
	entryHeader   = recordHeader + 16 // index, term
	entryKeySize  = 4 + 1 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendKey(dst []byte, generation uint32, kind byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, generation), kind)
}

func appendEntryKey(dst []byte, generation uint32, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(dst, generation, kindEntry), index)
}

func copyKey(group uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(nil, 0, kindCopy), group)
}

// generationEnd is the first key behind a generation.
func generationEnd(generation uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, generation+1)
}

// seal writes the header of a record whose content is already in value.
func seal(key, value []byte, kind byte) {
	value[0], value[1], value[2], value[3] = formatVersion, kind, 0, 0
	binary.BigEndian.PutUint32(value[4:], checksum(key, value))
}

func checksum(key, value []byte) uint32 {
	sum := crc32.Checksum(key, castagnoli)
	sum = crc32.Update(sum, castagnoli, value[:4])
	return crc32.Update(sum, castagnoli, value[recordHeader:])
}

// unseal checks a record and returns its content, which aliases value.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < recordHeader {
		return nil, fmt.Errorf("record %x is cut off after %d bytes", key, len(value))
	}
	if value[0] != formatVersion {
		return nil, fmt.Errorf("record %x has format version %d, this program knows %d", key, value[0], formatVersion)
	}
	if got, want := checksum(key, value), binary.BigEndian.Uint32(value[4:]); got != want {
		return nil, fmt.Errorf("record %x has checksum %08x, its content %08x", key, want, got)
	}
	return value[recordHeader:], nil
}

// sealed returns the value of key that holds content.
func sealed(key, content []byte) []byte {
	value := append(make([]byte, recordHeader, recordHeader+len(content)), content...)
	seal(key, value, 0)
	return value
}

// putEntry writes the value of an entry into value, which has the right length.
func putEntry(key, value []byte, index, term uint64, kind pb.EntryType, data []byte) {
	binary.BigEndian.PutUint64(value[recordHeader:], index)
	binary.BigEndian.PutUint64(value[recordHeader+8:], term)
	copy(value[entryHeader:], data)
	seal(key, value, byte(kind))
}

// entry is a raft entry whose fields lie in one allocation.
type entry struct {
	pb.Entry
	index, term uint64
	kind        pb.EntryType
}

func newEntry(index, term uint64, kind pb.EntryType, data []byte) *pb.Entry {
	e := &entry{index: index, term: term, kind: kind}
	e.Index, e.Term, e.Type = &e.index, &e.term, &e.kind
	if len(data) > 0 {
		e.Data = data
	}
	return &e.Entry
}

// parseEntry checks an entry's record and returns it; its data aliases value.
func parseEntry(key, value []byte) (*pb.Entry, error) {
	content, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	if len(key) != entryKeySize || len(content) < 16 {
		return nil, fmt.Errorf("record %x is no entry", key)
	}
	index := binary.BigEndian.Uint64(content)
	if at := binary.BigEndian.Uint64(key[5:]); at != index {
		return nil, fmt.Errorf("record %x says it is entry %d", key, index)
	}
	return newEntry(index, binary.BigEndian.Uint64(content[8:]), pb.EntryType(value[1]), content[16:]), nil
}

// hardState is raft's, by value.
type hardState struct{ term, vote, commit uint64 }

func (h hardState) proto() *pb.HardState {
	return &pb.HardState{Term: new(h.term), Vote: new(h.vote), Commit: new(h.commit)}
}

func (h hardState) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, h.term)
	b = binary.BigEndian.AppendUint64(b, h.vote)
	return binary.BigEndian.AppendUint64(b, h.commit)
}

func parseHard(b []byte) (hardState, error) {
	if len(b) != 24 {
		return hardState{}, fmt.Errorf("hard state has %d bytes, not 24", len(b))
	}
	return hardState{
		term:   binary.BigEndian.Uint64(b),
		vote:   binary.BigEndian.Uint64(b[8:]),
		commit: binary.BigEndian.Uint64(b[16:]),
	}, nil
}

// edge is what a checkpoint says about the log.
type edge struct {
	applied    uint64
	first      uint64
	termBefore uint64 // of the entry at first-1
	conf       *pb.ConfState
}

func (e edge) encode() ([]byte, error) {
	b := binary.BigEndian.AppendUint64(nil, e.applied)
	b = binary.BigEndian.AppendUint64(b, e.first)
	b = binary.BigEndian.AppendUint64(b, e.termBefore)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, e.conf)
	if err != nil {
		return nil, fmt.Errorf("raftlog: encode configuration: %w", err)
	}
	return b, nil
}

func parseEdge(b []byte) (edge, error) {
	if len(b) < 24 {
		return edge{}, fmt.Errorf("edge has %d bytes, at least 24 expected", len(b))
	}
	e := edge{
		applied:    binary.BigEndian.Uint64(b),
		first:      binary.BigEndian.Uint64(b[8:]),
		termBefore: binary.BigEndian.Uint64(b[16:]),
		conf:       &pb.ConfState{},
	}
	if err := proto.Unmarshal(b[24:], e.conf); err != nil {
		return edge{}, fmt.Errorf("configuration: %w", err)
	}
	return e, nil
}

// copyRecord says which generation is a group's copy, and whose.
type copyRecord struct {
	generation uint32
	copy       Copy
}

func (r copyRecord) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, r.generation)
	b = binary.BigEndian.AppendUint64(b, r.copy.ReplicaID)
	b = binary.BigEndian.AppendUint16(b, r.copy.Epoch)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.copy.Voters)))
	for _, v := range r.copy.Voters {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func parseCopy(b []byte) (copyRecord, error) {
	const fixed = 4 + 8 + 2 + 4
	if len(b) < fixed || len(b) != fixed+8*int(binary.BigEndian.Uint32(b[14:])) {
		return copyRecord{}, fmt.Errorf("copy record has %d bytes", len(b))
	}
	r := copyRecord{
		generation: binary.BigEndian.Uint32(b),
		copy:       Copy{ReplicaID: binary.BigEndian.Uint64(b[4:]), Epoch: binary.BigEndian.Uint16(b[12:])},
	}
	for b = b[fixed:]; len(b) > 0; b = b[8:] {
		r.copy.Voters = append(r.copy.Voters, binary.BigEndian.Uint64(b))
	}
	return r, nil
}
