package perdurepb_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// TestPublishFrameReadsWhatTheMessageReads receives frames of all sizes, one
// after the other, in the same PublishFrame.
func TestPublishFrameReadsWhatTheMessageReads(t *testing.T) {
	var f perdurepb.PublishFrame
	all := frames()
	for _, size := range []int{1, 20_000, 40_000, 65_600, 70_000, 250_000, 1 << 20, 5 << 20} {
		all = append(all, &perdurepb.PublishRequest{Sequence: uint64(size), Batch: bytes.Repeat([]byte{byte(size)}, size)})
	}
	for range 2 {
		for _, m := range all {
			want, ok := m.(*perdurepb.PublishRequest)
			if !ok {
				continue
			}
			wire, err := proto.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := perdurepb.Codec().Unmarshal(split(wire), &f); err != nil || !proto.Equal(want, &f.PublishRequest) {
				t.Fatalf("read %v of %d bytes: %v", &f, len(wire), err)
			}
			clear(wire)
			batch := f.Batch
			memory, release := f.Take()
			if len(memory) > 0 {
				if len(memory) < perdurepb.BatchFront+len(batch) || &memory[len(memory)-1] != &batch[len(batch)-1] {
					t.Fatalf("memory of %d bytes does not end with the batch of %d, or has too little before it", len(memory), len(batch))
				}
				clear(memory[:len(memory)-len(batch)])
			} else if len(batch) > 0 && len(want.ProtoReflect().GetUnknown()) == 0 {
				t.Fatalf("no memory comes with a batch of %d bytes", len(batch))
			}
			if !bytes.Equal(batch, want.Batch) {
				t.Fatalf("the batch of %d bytes changed with what is before it", len(batch))
			}
			if release != nil {
				release()
			}
			if memory, release := f.Take(); memory != nil || release != nil {
				t.Fatal("memory was taken twice")
			}
		}
	}
}

// TestPublishFrameKeepsWhatWasTaken holds several frames at once.
func TestPublishFrameKeepsWhatWasTaken(t *testing.T) {
	var f perdurepb.PublishFrame
	var batches [][]byte
	for i := range byte(8) {
		wire, err := proto.Marshal(&perdurepb.PublishRequest{Sequence: 1, Batch: bytes.Repeat([]byte{i}, 65_600)})
		if err != nil {
			t.Fatal(err)
		}
		if err := perdurepb.Codec().Unmarshal(split(wire), &f); err != nil {
			t.Fatal(err)
		}
		batches = append(batches, f.Batch)
		if _, release := f.Take(); release == nil {
			t.Fatal("memory for 65,600 bytes is not used again")
		}
	}
	for i, b := range batches {
		if !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, 65_600)) {
			t.Errorf("batch %d changed", i)
		}
	}
}

// TestPublishFrameOfAnotherWriter has a field after the batch.
func TestPublishFrameOfAnotherWriter(t *testing.T) {
	wire := append([]byte{15<<3 | 2, 5}, "batch\x10\x07"...)
	var f perdurepb.PublishFrame
	if err := perdurepb.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &f); err != nil {
		t.Fatal(err)
	}
	if string(f.Batch) != "batch" || f.Sequence != 7 {
		t.Errorf("read %v", &f)
	}
	if memory, release := f.Take(); memory != nil || release != nil {
		t.Error("memory that does not end with the batch was handed over")
	}
}

func BenchmarkReceivePublishFrame(b *testing.B) {
	data := frame(b, 64<<10)
	var f perdurepb.PublishFrame
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if err := perdurepb.Codec().Unmarshal(data, &f); err != nil {
			b.Fatal(err)
		}
		_, release := f.Take()
		release()
	}
}
