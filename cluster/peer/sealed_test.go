package peer

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/cluster"
)

// mixed is an append of entries that carry their checksum and of others between.
func mixed(bodies ...[]byte) (cluster.Envelope, *pb.Message) {
	data := [][]byte{[]byte("no entry that a leader seals"), nil}
	for _, b := range bodies {
		data = append(data, cluster.SealEntry(7, 1, b), []byte("x"))
	}
	e, m := entries(5, 1, 2, 1, data...)
	last := m.Entries[len(m.Entries)-1]
	last.Type, last.Data = pb.EntryConfChangeV2.Enum(), cluster.SealEntry(7, 1, []byte("not one either"))
	return e, m
}

// written is the frame that the writer of an append connection makes of m.
func written(t testing.TB, n *node, e cluster.Envelope, m *pb.Message) []byte {
	t.Helper()
	w := appendWriter{p: n.peer(2)}
	if err := w.add(&appendItem{envelope: e, message: m}); err != nil {
		t.Fatal(err)
	}
	return bytes.Join(w.parts, nil)
}

// take reads frames as an append connection does, until one is bad or the end.
func take(n *node, b []byte) error {
	c := &conn{in: frameReader{r: bufio.NewReader(bytes.NewReader(b))}}
	err := n.peer(2).receiveAppends(&line{conn: c})
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

func alone(t testing.TB) *node {
	n := start(t, 1, "s1", nil)
	n.SetPeers(map[uint64]Peer{1: {Name: "s1", Address: "127.0.0.1:1"}, 2: {Name: "s2", Address: "127.0.0.1:1"}})
	return n
}

func TestSealedEntriesSurviveTheWire(t *testing.T) {
	a, b := pair(t, nil)
	rng := rand.New(rand.NewPCG(9, 2))
	for _, size := range []int{0, 1, 300, 5 << 10, 70 << 10, 3 << 20} { // the small ones go without the writer
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(rng.Uint32())
		}
		e, m := mixed(body, body[:size/2])
		for range 3 {
			if !a.Send(2, e, m) {
				t.Fatal("refused")
			}
		}
		for range 3 {
			if got := await(t, b.messages, "entries"); !proto.Equal(got.message, m) {
				t.Fatalf("bodies of %d bytes came as something else", size)
			}
		}
	}
}

// Whatever bit of an append frame changes, nothing of it is delivered; so too if
// what changed is the body of an entry, which its own checksum covers alone.
func TestEveryBitOfAnAppendFrame(t *testing.T) {
	n := alone(t)
	e, m := mixed([]byte("the first body"), []byte("the second"))
	frame := written(t, n, e, m)
	if err := take(n, frame); err != nil || len(n.messages) != 1 || !proto.Equal((<-n.messages).message, m) {
		t.Fatalf("what nothing happened to: %v", err)
	}
	for bit := range 8 * len(frame) {
		frame[bit/8] ^= 1 << (bit % 8)
		if err := take(n, frame); cause(err) == nil || len(n.messages) != 0 {
			t.Fatalf("bit %d of byte %d of %d: %v, %d messages", bit%8, bit/8, len(frame), err, len(n.messages))
		}
		frame[bit/8] ^= 1 << (bit % 8)
	}
	for cut := 1; cut < len(frame); cut++ {
		if err := take(n, frame[:cut]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// sealedFrame is an append frame with whatever it is told.
func sealedFrame(e cluster.Envelope, m *pb.Message, sums bool, change func(covered, bodies []byte) (c, b []byte)) []byte {
	covered, err := appendHead(make([]byte, realmLen), e, m, sums)
	if err != nil {
		panic(err)
	}
	var own []byte
	for _, entry := range m.GetEntries() {
		if _, carried := cluster.EntrySum(entry); carried && sums {
			own = append(own, entry.GetData()...)
		} else {
			covered = append(covered, entry.GetData()...)
		}
	}
	covered, own = change(covered, own)
	var x extent
	x.add(covered, false)
	x.add(own, true)
	frame := make([]byte, headerLen)
	x.put(frame, frameAppend)
	return append(append(frame, covered...), own...)
}

func TestAppendFramesThatLie(t *testing.T) {
	n := alone(t)
	same := func(c, b []byte) ([]byte, []byte) { return c, b }
	e, m := mixed([]byte("a body"), []byte("b body"))
	if err := take(n, sealedFrame(e, m, true, same)); err != nil || len(n.messages) != 1 {
		t.Fatalf("one that does not: %v", err)
	}
	<-n.messages
	changed := proto.CloneOf(m)
	changed.Entries[2].Data[30] ^= 1 // after it was sealed
	for name, frame := range map[string][]byte{
		"changed after it was sealed": written(t, n, e, changed),
		"not announced":               sealedFrame(e, m, false, same),
		"the bodies change places": sealedFrame(e, m, true, func(c, b []byte) ([]byte, []byte) {
			return c, append(bytes.Clone(b[len(b)/2:]), b[:len(b)/2]...)
		}),
		"bytes left":         sealedFrame(e, m, true, func(c, b []byte) ([]byte, []byte) { return c, append(b, 0) }),
		"bytes missing":      sealedFrame(e, m, true, func(c, b []byte) ([]byte, []byte) { return c, b[:len(b)-1] }),
		"no bodies":          sealedFrame(e, m, true, func(c, _ []byte) ([]byte, []byte) { return c, nil }),
		"bodies and nothing": sealedFrame(e, m, true, func(_, b []byte) ([]byte, []byte) { return make([]byte, realmLen), b }),
	} {
		if err := take(n, frame); !errors.Is(err, ErrCorrupt) || len(n.messages) != 0 {
			t.Errorf("%s: %v, %d messages", name, err, len(n.messages))
		}
	}
	// Only an append frame may leave anything uncovered.
	control := sealedFrame(e, m, true, same)
	length, covered := len(control)-headerLen, 20
	x := extent{length, covered, checksum(control[headerLen : headerLen+covered])}
	x.put(control, frameControl)
	r := frameReader{r: bufio.NewReader(bytes.NewReader(control))}
	if _, _, err := r.next(oneOf(frameControl), false); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a control frame that is covered in part: %v", err)
	}
	// And a control frame's messages have nothing beside it.
	head, err := appendHead(nil, e, m, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := decodeMessage(append(head, make([]byte, dataSize(m))...), false); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a control message with a checksum: %v", err)
	}
}

// Whatever an append frame's bytes are, what comes of it is whole: data that looks
// like an entry with its checksum has the right one.
func FuzzAppendFrame(f *testing.F) {
	for _, body := range []string{"", "a body"} {
		e, m := mixed([]byte("a"), []byte(body))
		covered := 0
		frame := sealedFrame(e, m, true, func(c, b []byte) ([]byte, []byte) { covered = len(c) - realmLen; return c, b })
		f.Add(frame[framePrefix:], uint16(covered))
	}
	f.Fuzz(func(t *testing.T, b []byte, covered uint16) {
		n := min(len(b), int(covered))
		d := decoder{b: b[:n], bodies: b[n:], sums: true}
		for d.end(); d.err == nil && len(d.b) > 0; {
			_, m := d.message(true)
			for _, e := range m.GetEntries() {
				if _, looks := cluster.EntrySum(e); looks && d.err == nil && cluster.CheckEntry(e.GetData()) != nil {
					t.Error("an entry with a wrong checksum passed")
				}
			}
		}
		if d.err != nil && !errors.Is(d.err, ErrCorrupt) {
			t.Errorf("not typed: %v", d.err)
		}
	})
}
