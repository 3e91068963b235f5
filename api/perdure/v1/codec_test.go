package perdurepb_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// frames are the messages that the codec treats by hand, and one that it does
// not.
func frames() []proto.Message {
	unknown := &perdurepb.PublishRequest{Sequence: 1, Batch: []byte("x")}
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7))
	return []proto.Message{
		&perdurepb.PublishRequest{},
		&perdurepb.PublishRequest{Heartbeat: true},
		&perdurepb.PublishRequest{Open: &perdurepb.PublishOpen{Endpoint: "flights", Session: 1 << 63, Epoch: 3, Name: "é"}},
		&perdurepb.PublishRequest{Sequence: 1, Attempt: 1, Batch: []byte("batch")},
		&perdurepb.PublishRequest{Sequence: 1<<64 - 1, Attempt: 1<<32 - 1, Heartbeat: true, Open: &perdurepb.PublishOpen{}, Batch: bytes.Repeat([]byte{7}, 70_000)},
		unknown,
		&perdurepb.SubscribeResponse{},
		&perdurepb.SubscribeResponse{Opened: &perdurepb.SubscribeOpened{Subscription: 9, Durable: "audit", Kind: perdurepb.Kind_KIND_SHARED, Created: true}},
		&perdurepb.SubscribeResponse{Heartbeat: true},
		&perdurepb.SubscribeResponse{Settled: &perdurepb.Settled{Token: 5, Error: &perdurepb.Error{Reason: perdurepb.Reason_REASON_NOT_OWNER}}},
		&perdurepb.SubscribeResponse{Error: &perdurepb.Error{Message: "x", Leader: &perdurepb.Leader{Server: "s1"}}, Batch: []byte{1}},
		&perdurepb.SubscribeResponse{
			Delivery: &perdurepb.Delivery{Ids: []uint64{1, 500}, Stamp: -1, Counted: []uint32{3}, Ended: []uint32{1}, Possible: []uint32{0}, Bytes: 64_000},
			Batch:    bytes.Repeat([]byte("m"), 64_000),
		},
		&perdurepb.ResolveRequest{Endpoint: "flights"},
	}
}

// TestCodecSpeaksProtobuf checks both directions against gRPC's own encoding.
func TestCodecSpeaksProtobuf(t *testing.T) {
	codec := perdurepb.Codec()
	for _, m := range frames() {
		encoded, err := codec.Marshal(m)
		if err != nil {
			t.Fatalf("marshal %v: %v", m, err)
		}
		wire := encoded.Materialize()
		read := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(wire, read); err != nil || !proto.Equal(m, read) {
			t.Errorf("protobuf reads %v of %v: %v", read, m, err)
		}
		plain, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []mem.BufferSlice{encoded, split(plain)} {
			got := m.ProtoReflect().New().Interface()
			if err := codec.Unmarshal(data, got); err != nil || !proto.Equal(m, got) {
				t.Errorf("codec reads %v of %v: %v", got, m, err)
			}
		}
	}
}

// split cuts b into three buffers, as HTTP/2 frames would.
func split(b []byte) mem.BufferSlice {
	i, j := len(b)/3, 2*len(b)/3
	return mem.BufferSlice{mem.SliceBuffer(b[:i]), mem.SliceBuffer(b[i:j]), mem.SliceBuffer(b[j:])}
}

func TestCodecSendsTheCallersBatch(t *testing.T) {
	batch := []byte("a batch")
	for _, m := range []proto.Message{
		&perdurepb.PublishRequest{Sequence: 1, Batch: batch},
		&perdurepb.SubscribeResponse{Delivery: &perdurepb.Delivery{Bytes: 1}, Batch: batch},
	} {
		encoded, err := perdurepb.Codec().Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		last := encoded[len(encoded)-1].ReadOnlyData()
		if &last[0] != &batch[0] || len(last) != len(batch) {
			t.Errorf("%T: the batch was copied", m)
		}
	}
}

func TestCodecKeepsNothingOfWhatItRead(t *testing.T) {
	wire, err := proto.Marshal(&perdurepb.PublishRequest{Sequence: 1, Batch: []byte("batch")})
	if err != nil {
		t.Fatal(err)
	}
	var got perdurepb.PublishRequest
	if err := perdurepb.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &got); err != nil {
		t.Fatal(err)
	}
	clear(wire)
	if string(got.Batch) != "batch" {
		t.Errorf("batch is %q after gRPC took its buffer back", got.Batch)
	}
}

func TestCodecRefusesWhatIsNotProtobuf(t *testing.T) {
	codec := perdurepb.Codec()
	if _, err := codec.Marshal("text"); err == nil {
		t.Error("encoded a string")
	}
	if err := codec.Unmarshal(nil, new(string)); err == nil {
		t.Error("decoded into a string")
	}
	truncated := mem.BufferSlice{mem.SliceBuffer([]byte{15<<3 | 2, 200, 1, 'x'})}
	if err := codec.Unmarshal(truncated, new(perdurepb.PublishRequest)); err == nil {
		t.Error("decoded a truncated batch")
	}
}

// FuzzCodec holds the codec to the general decoder: both accept the same bytes
// and read the same message from them.
func FuzzCodec(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range frames() {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		wire = wire[:min(len(wire), 200)]
		f.Add(wire)
		if len(wire) > 0 {
			flipped := bytes.Clone(wire)
			flipped[random.IntN(len(flipped))] ^= 1 << random.IntN(8)
			f.Add(flipped)
		}
		f.Add(append(bytes.Clone(wire), wire...))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, m := range []proto.Message{new(perdurepb.PublishRequest), new(perdurepb.SubscribeResponse)} {
			want := m.ProtoReflect().New().Interface()
			wantErr := proto.Unmarshal(wire, want)
			err := perdurepb.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, m)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("codec says %v, protobuf %v", err, wantErr)
			}
			if err == nil && !proto.Equal(m, want) {
				t.Fatalf("codec reads %v, protobuf %v", m, want)
			}
			if err != nil {
				continue
			}
			again, err := perdurepb.Codec().Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			read := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(again.Materialize(), read); err != nil || !proto.Equal(m, read) {
				t.Fatalf("written again: %v, %v", read, err)
			}
		}
	})
}
