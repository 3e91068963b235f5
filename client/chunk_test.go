package client

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

func batchOf(t testing.TB, n int) []byte {
	var b message.Builder
	for range n {
		if err := b.AddBody([]byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

func TestChunk(t *testing.T) {
	c, err := newChunk(nil, nil, &perdurepb.SubscribeResponse{
		Delivery: &perdurepb.Delivery{Ids: []uint64{3, 4, 9, 9, 20, 21}, Bytes: 13, Counted: []uint32{1, 4}, Ended: []uint32{2, 0}, Possible: []uint32{1, 3}},
		Batch:    batchOf(t, 5),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.each != 2 || c.rest != 3 {
		t.Errorf("credit %d each and %d", c.each, c.rest)
	}
	c.mark(2)
	var ids []message.ID
	var counts []int
	for d, ok := c.pop(); ok; d, ok = c.pop() {
		ids = append(ids, d.ID())
		counts = append(counts, d.DeliveryCount(), d.EndedDeliveries())
		if !c.mark(d.pos) || c.mark(d.pos) {
			t.Error("marks are wrong")
		}
	}
	if !slices.Equal(ids, []message.ID{3, 4, 20, 21}) || !slices.Equal(counts, []int{0, 0, 3, 2, 0, 0, 3, 0}) || c.left != 0 {
		t.Errorf("ids %v, counts %v, left %d", ids, counts, c.left)
	}
}

func TestChunkRefusesWhatDoesNotFit(t *testing.T) {
	three := batchOf(t, 3)
	flipped := slices.Clone(three)
	flipped[len(flipped)-1] ^= 1
	for name, tt := range map[string]struct {
		ids   []uint64
		batch []byte
	}{
		"no ids":          {nil, three},
		"half a range":    {[]uint64{1, 3, 5}, three},
		"too few":         {[]uint64{1, 2}, three},
		"too many":        {[]uint64{1, 4}, three},
		"descending":      {[]uint64{3, 1}, three},
		"out of order":    {[]uint64{5, 6, 4, 4}, three},
		"overlapping":     {[]uint64{5, 6, 6, 6}, three},
		"all there are":   {[]uint64{0, 1<<64 - 1, 1, 3}, three},
		"a flipped bit":   {[]uint64{1, 3}, flipped},
		"a missing batch": {[]uint64{1, 3}, nil},
	} {
		_, err := newChunk(nil, nil, &perdurepb.SubscribeResponse{Delivery: &perdurepb.Delivery{Ids: tt.ids}, Batch: tt.batch})
		if !errors.Is(err, message.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDelivery feeds frames to what the client does with them.
func FuzzDelivery(f *testing.F) {
	for _, ids := range [][]uint64{{1, 3}, {1, 1, 5, 6}, {0, 1<<64 - 1}} {
		wire, err := proto.Marshal(&perdurepb.SubscribeResponse{
			Delivery: &perdurepb.Delivery{Ids: ids, Counted: []uint32{9, 1}, Ended: []uint32{1}, Bytes: 1<<64 - 1}, Batch: batchOf(f, 3),
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		frame := new(perdurepb.SubscribeResponse)
		if perdurepb.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, frame) != nil || frame.Delivery == nil {
			return
		}
		c, err := newChunk(nil, nil, frame)
		if err != nil {
			return
		}
		n := 0
		last := message.ID(0)
		for d, ok := c.pop(); ok; d, ok = c.pop() {
			if n++; n > 1 && d.ID() <= last {
				t.Fatalf("id %d after %d", d.ID(), last)
			}
			last = d.ID()
			d.DeliveryCount()
			d.EndedDeliveries()
			d.Body()
			if _, err := d.Message(); err != nil {
				continue
			}
		}
		if n != c.batch.Count() {
			t.Fatalf("%d of %d messages", n, c.batch.Count())
		}
	})
}
