package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/perdure/perdure/cluster"
)

func optional[T any](t *rapid.T, g *rapid.Generator[T], name string) *T {
	if !rapid.Bool().Draw(t, name+" there") {
		return nil
	}
	return new(g.Draw(t, name))
}

func drawMessage(t *rapid.T) (cluster.Envelope, *pb.Message) {
	n := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 127, 128, math.MaxUint64}))
	e := cluster.Envelope{
		Group: n.Draw(t, "group"), Epoch: rapid.Uint16().Draw(t, "epoch"),
		From: n.Draw(t, "from"), To: n.Draw(t, "to"),
	}
	m := &pb.Message{
		Type: pb.MessageType(rapid.IntRange(0, 40).Draw(t, "type")).Enum(),
		To:   new(rapid.SampledFrom([]uint64{e.To, 5}).Draw(t, "message to")),
		From: new(rapid.SampledFrom([]uint64{e.From, 5}).Draw(t, "message from")),
		Term: optional(t, n, "term"), LogTerm: optional(t, n, "log term"), Index: optional(t, n, "index"),
		Commit: optional(t, n, "commit"), Vote: optional(t, n, "vote"),
		Reject: optional(t, rapid.Bool(), "reject"), RejectHint: optional(t, n, "hint"),
	}
	data := rapid.SliceOfN(rapid.Byte(), 0, 40)
	if b := optional(t, data, "context"); b != nil {
		m.Context = append([]byte{}, *b...)
	}
	if rapid.Bool().Draw(t, "snapshot") {
		m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			Index: optional(t, n, "snapshot index"), ConfState: &pb.ConfState{Voters: []uint64{1, 2}},
		}}
	}
	for range rapid.IntRange(0, 5).Draw(t, "entries") {
		e := &pb.Entry{Term: optional(t, n, "entry term"), Index: optional(t, n, "entry index")}
		if rapid.Bool().Draw(t, "entry type there") {
			e.Type = pb.EntryType(rapid.IntRange(0, 3).Draw(t, "entry type")).Enum()
		}
		if b := optional(t, data, "data"); b != nil {
			e.Data = append([]byte{}, *b...)
		}
		m.Entries = append(m.Entries, e)
	}
	return e, m
}

func TestMessagesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, m := drawMessage(t)
		b, err := appendMessage(nil, e, m)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > headSize(m)+dataSize(m) {
			t.Fatalf("%d bytes, estimated %d", len(b), headSize(m)+dataSize(m))
		}
		b = append(b, "next"...)
		for _, alias := range []bool{true, false} {
			e2, m2, rest, err := decodeMessage(bytes.Clone(b), alias)
			if err != nil || e2 != e || !proto.Equal(m, m2) || string(rest) != "next" {
				t.Fatalf("alias %t: %v %+v %v, want %+v %v, rest %q", alias, err, e2, m2, e, m, rest)
			}
		}
		for cut := range len(b) - len("next") {
			if _, _, _, err := decodeMessage(b[:cut:cut], true); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("cut at %d of %d: %v", cut, len(b), err)
			}
		}
	})
}

func TestCopiesShareNothing(t *testing.T) {
	e, m := entries(1, 2, 3, 4, []byte("data"))
	m.Context = []byte("context")
	b, err := appendMessage(nil, e, m)
	if err != nil {
		t.Fatal(err)
	}
	_, m2, _, err := decodeMessage(b, false)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !proto.Equal(m, m2) {
		t.Fatal("the copy changed with its source")
	}
}

// A release of raft that gives messages another field must not lose it here.
func TestEveryFieldOfRaftIsKnown(t *testing.T) {
	// responses are of messages to the node's own storage, which never travel.
	for m, want := range map[proto.Message]int{&pb.Message{}: 14, &pb.Entry{}: 4} {
		if d := m.ProtoReflect().Descriptor(); d.Fields().Len() != want {
			t.Errorf("%s has %d fields, message.go knows %d", d.FullName(), d.Fields().Len(), want)
		}
	}
	for kind, name := range pb.MessageType_name {
		if kind > int32(pb.MsgForgetLeader) {
			t.Errorf("message type %s is new: may it travel?", name)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, m := range []func() (cluster.Envelope, *pb.Message){
		func() (cluster.Envelope, *pb.Message) { return heartbeat(1, 2, 3) },
		func() (cluster.Envelope, *pb.Message) { return entries(1, 2, 3, 4, []byte("a"), nil, []byte("bc")) },
		func() (cluster.Envelope, *pb.Message) {
			return cluster.Envelope{}, &pb.Message{Snapshot: &pb.Snapshot{Data: []byte("x")}, Context: []byte("c")}
		},
	} {
		e, msg := m()
		b, err := appendMessage(nil, e, msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, m, rest, err := decodeMessage(b, true)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not typed: %v", err)
			}
			return
		}
		// What was understood is said again in the same words, or shorter ones.
		again, err := appendMessage(nil, e, m)
		if err != nil {
			t.Fatal(err)
		}
		e2, m2, left, err := decodeMessage(again, false)
		if err != nil || e2 != e || !proto.Equal(m, m2) || len(left) != 0 {
			t.Fatalf("%v: %+v %v, want %+v %v", err, e2, m2, e, m)
		}
		if len(rest) > len(b) {
			t.Fatal("more left than there was")
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frameControl, []byte("one")), frameAppend, []byte("two")))
	large := make([]byte, headerLen)
	putHeader(large, frameAppend, MaxFrame, 7)
	f.Add(large)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := frameReader{r: bufio.NewReader(bytes.NewReader(b))}
		for {
			_, payload, err := r.next(^kinds(0), len(b)%2 == 0)
			if err == nil {
				if len(payload) > len(b) {
					t.Fatal("a payload longer than the stream")
				}
				continue
			}
			if err != io.EOF && cause(err) == nil {
				t.Fatalf("not typed: %v", err)
			}
			if cap(r.buf) > readStep {
				t.Fatalf("keeps %d bytes", cap(r.buf))
			}
			return
		}
	})
}

func TestAnnouncedLengthsAllocateNothing(t *testing.T) {
	frame := make([]byte, headerLen)
	putHeader(frame, frameAppend, MaxFrame, 7)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := frameReader{r: bufio.NewReader(bytes.NewReader(frame))}
	if _, _, err := r.next(oneOf(frameAppend), true); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*readStep {
		t.Fatalf("%d bytes for a header that announces %d", got, MaxFrame)
	}
}
