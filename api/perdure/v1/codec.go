package perdurepb

import (
	"fmt"

	"github.com/bytedance/gopkg/lang/dirtmake"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Codec returns the gRPC codec that clients and servers of this contract force
// on their calls (grpc.ForceCodecV2, grpc.ForceServerCodecV2). What it writes is
// plain protobuf and it reads all plain protobuf, so peers may use any other
// codec.
//
// It differs from gRPC's own in two frames, PublishRequest and
// SubscribeResponse: their batch is sent from the caller's slice without a copy
// and, when received, is a part of one buffer that belongs to the message. So a
// sender must not change a batch until its outcome has arrived, and a receiver
// may keep a batch as long as it likes.
//
// It is safe for use by several goroutines at once.
func Codec() encoding.CodecV2 { return codec{} }

type codec struct{}

// Name is that of gRPC's own codec: the bytes are the same.
func (codec) Name() string { return "proto" }

// batchTag is the key of field 15, length-delimited, in both frames.
const batchTag = 15<<3 | 2

// Marshal encodes a message of this contract.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	var batch []byte
	switch m := v.(type) {
	case *PublishRequest:
		batch = m.Batch
	case *SubscribeResponse:
		batch = m.Batch
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("perdurepb: encode %T: not a protobuf message", v)
	}
	if len(batch) == 0 || len(m.ProtoReflect().GetUnknown()) > 0 {
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("perdurepb: encode %T: %w", v, err)
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	head := make([]byte, 0, 32)
	var err error
	switch m := v.(type) {
	case *PublishRequest:
		head, err = m.appendHead(head)
	case *SubscribeResponse:
		head, err = m.appendHead(head)
	}
	if err != nil {
		return nil, fmt.Errorf("perdurepb: encode %T: %w", v, err)
	}
	head = append(head, batchTag)
	head = protowire.AppendVarint(head, uint64(len(batch)))
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(batch)}, nil
}

// Unmarshal decodes a message of this contract. data is not kept.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("perdurepb: decode %T: not a protobuf message", v)
	}
	switch m := v.(type) {
	case *PublishFrame:
		return m.receive(data)
	case *PublishRequest:
		// A frame of usual size comes in several pieces, so one copy is needed
		// to make a batch contiguous. It is this one.
		b := join(data)
		if m.decode(b) {
			return nil
		}
		return unmarshal(b, m)
	case *SubscribeResponse:
		b := join(data)
		if m.decode(b) {
			return nil
		}
		return unmarshal(b, m)
	}
	b := data.MaterializeToBuffer(pool)
	defer b.Free()
	return unmarshal(b.ReadOnlyData(), m)
}

// join copies data into one buffer that belongs to the caller.
func join(data mem.BufferSlice) []byte {
	n := data.Len()
	if n == 0 {
		return nil
	}
	b := dirtmake.Bytes(n, n) // not cleared: all of it is written
	data.CopyTo(b)
	return b
}

func unmarshal(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("perdurepb: decode %T: %w", m, err)
	}
	return nil
}

// appendHead appends all fields but the batch.
func (m *PublishRequest) appendHead(b []byte) ([]byte, error) {
	var err error
	if m.Open != nil {
		if b, err = appendMessage(b, 1, m.Open); err != nil {
			return nil, err
		}
	}
	b = appendUint(b, 2, m.Sequence)
	b = appendUint(b, 3, uint64(m.Attempt))
	return appendBool(b, 4, m.Heartbeat), nil
}

// appendHead appends all fields but the batch.
func (m *SubscribeResponse) appendHead(b []byte) ([]byte, error) {
	var err error
	if m.Opened != nil {
		if b, err = appendMessage(b, 1, m.Opened); err != nil {
			return nil, err
		}
	}
	if m.Settled != nil {
		if b, err = appendMessage(b, 2, m.Settled); err != nil {
			return nil, err
		}
	}
	b = appendBool(b, 3, m.Heartbeat)
	if m.Error != nil {
		if b, err = appendMessage(b, 4, m.Error); err != nil {
			return nil, err
		}
	}
	if m.Delivery != nil {
		return appendMessage(b, 5, m.Delivery)
	}
	return b, nil
}

func appendMessage(b []byte, number protowire.Number, m proto.Message) ([]byte, error) {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(m)))
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

func appendUint(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendBool(b []byte, number protowire.Number, v bool) []byte {
	return appendUint(b, number, protowire.EncodeBool(v))
}

// decode reads b, which m keeps as its batch. It reports false where only the
// general decoder gives the right answer: a malformed frame, a field it does
// not know, a field that comes twice. m is then undefined.
func (m *PublishRequest) decode(b []byte) bool {
	m.Reset()
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | 2:
			m.Open = new(PublishOpen)
			f.bad = proto.Unmarshal(f.bytes, m.Open) != nil
		case 2 << 3:
			m.Sequence = f.varint
		case 3 << 3:
			m.Attempt = uint32(f.varint)
		case 4 << 3:
			m.Heartbeat = protowire.DecodeBool(f.varint)
		case batchTag:
			m.Batch = f.bytes
		default:
			return false
		}
	}
	return !f.bad
}

// decode does for a SubscribeResponse what it does for a PublishRequest.
func (m *SubscribeResponse) decode(b []byte) bool {
	m.Reset()
	f := fields{rest: b}
	for f.next() {
		var part proto.Message
		switch f.key {
		case 1<<3 | 2:
			m.Opened = new(SubscribeOpened)
			part = m.Opened
		case 2<<3 | 2:
			m.Settled = new(Settled)
			part = m.Settled
		case 3 << 3:
			m.Heartbeat = protowire.DecodeBool(f.varint)
		case 4<<3 | 2:
			m.Error = new(Error)
			part = m.Error
		case 5<<3 | 2:
			m.Delivery = new(Delivery)
			part = m.Delivery
		case batchTag:
			m.Batch = f.bytes
		default:
			return false
		}
		if part != nil {
			f.bad = proto.Unmarshal(f.bytes, part) != nil
		}
	}
	return !f.bad
}

// fields walks over the fields of a frame. All fields of the two frames have
// numbers up to 15, thus keys of one byte.
type fields struct {
	rest   []byte
	seen   uint16 // numbers that came already
	bad    bool
	key    byte
	varint uint64
	bytes  []byte
}

// next reads one field and reports whether there was one. It ends with bad set
// at the first thing that is not a first field of a known type.
func (f *fields) next() bool {
	if f.bad || len(f.rest) == 0 {
		return false
	}
	f.key = f.rest[0]
	number := f.key >> 3
	if f.key >= 1<<7 || number == 0 || f.seen&(1<<number) != 0 {
		f.bad = true
		return false
	}
	f.seen |= 1 << number
	n := 0
	switch f.key & 7 {
	case byte(protowire.VarintType):
		f.varint, n = protowire.ConsumeVarint(f.rest[1:])
	case byte(protowire.BytesType):
		f.bytes, n = protowire.ConsumeBytes(f.rest[1:])
		// Whoever appends to a field must not run into the next one.
		f.bytes = f.bytes[:len(f.bytes):len(f.bytes)]
	default:
		n = -1
	}
	if n < 0 {
		f.bad = true
		return false
	}
	f.rest = f.rest[1+n:]
	return true
}
