package peer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	peerpb "github.com/perdure/perdure/api/peer/v1"
	"github.com/perdure/perdure/cluster"
)

func snapshotOf(group uint64) (cluster.Envelope, *pb.Message) {
	e := cluster.Envelope{Group: group, Epoch: 1, From: 11, To: 22}
	return e, &pb.Message{
		Type: pb.MsgSnap.Enum(), From: new(uint64(11)), To: new(uint64(22)), Term: new(uint64(3)),
		Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			Index: new(uint64(9)), Term: new(uint64(3)), ConfState: &pb.ConfState{Voters: []uint64{11, 22}},
		}},
	}
}

// send sends a snapshot and returns where its outcome will come.
func send(n *node, server, group uint64, body func(io.Writer) error) chan error {
	done := make(chan error, 2)
	e, m := snapshotOf(group)
	n.SendSnapshot(server, e, m, body, func(err error) { done <- err })
	return done
}

func TestSnapshotArrivesWhole(t *testing.T) {
	a, b := pair(t, nil)
	var body []byte
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5<<20/8 + 1 {
		body = append(body, byte(rng.Uint32()), 2, 3, 4, 5, 6, 7, 8)
	}
	type taken struct {
		delivery
		sum [32]byte
	}
	got := make(chan taken, 1)
	b.snapshot = func(server uint64, e cluster.Envelope, m *pb.Message, r io.Reader) error {
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			return err
		}
		got <- taken{delivery{server, e, m, false}, [32]byte(h.Sum(nil))}
		return nil
	}
	done := send(a, 2, 5, func(w io.Writer) error {
		for rest := body; len(rest) > 0; { // writes of all sizes
			n := min(1+rng.IntN(1<<rng.IntN(22)), len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
	if err := await(t, done, "outcome"); err != nil {
		t.Fatal(err)
	}
	s := await(t, got, "snapshot")
	e, m := snapshotOf(5)
	e.Incarnation = a.opts.Incarnation
	if s.server != 1 || s.envelope != e || !proto.Equal(s.message, m) || s.sum != sha256.Sum256(body) {
		t.Fatalf("got %+v", s)
	}
	if err := await(t, send(a, 2, 5, func(io.Writer) error { return nil }), "an empty one"); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotFailures(t *testing.T) {
	a, b := pair(t, nil)
	seen := make(chan error, 1)
	b.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		seen <- err
		return err
	}
	errBody := errors.New("the disk broke")
	done := send(a, 2, 5, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return errors.Join(errBody, err)
	})
	if err := await(t, done, "outcome"); !errors.Is(err, errBody) {
		t.Fatalf("sender got %v", err)
	}
	if err := await(t, seen, "what the receiver saw"); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("receiver got %v", err)
	}

	b.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
		_, err := r.Read(make([]byte, 10))
		return errors.Join(errors.New("no room for it"), err)
	}
	done = send(a, 2, 5, func(w io.Writer) error {
		for range 1000 { // until the receiver's refusal is noticed
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
		return nil
	})
	remote := &RemoteError{}
	if err := await(t, done, "outcome"); !errors.As(err, &remote) || !strings.Contains(remote.Text, "no room for it") {
		t.Fatalf("sender got %v", err)
	}

	b.snapshot = func(uint64, cluster.Envelope, *pb.Message, io.Reader) error { return nil } // reads nothing
	done = send(a, 2, 5, func(w io.Writer) error {
		_, err := w.Write([]byte("some"))
		return err
	})
	if err := await(t, done, "outcome"); !errors.As(err, &remote) {
		t.Fatalf("sender got %v", err)
	}

	if err := await(t, send(a, 9, 5, nil), "outcome"); !errors.Is(err, ErrUnknownPeer) {
		t.Fatalf("unknown server: %v", err)
	}
	e, m := heartbeat(5, 11, 22)
	a.SendSnapshot(2, e, m, nil, func(err error) { done <- err })
	if err := await(t, done, "outcome"); err == nil {
		t.Fatal("sent a heartbeat as a snapshot")
	}
	select {
	case err := <-done:
		t.Fatalf("done ran twice: %v", err)
	default:
	}
}

func TestOneSnapshotForAGroupAndReceiver(t *testing.T) {
	a, b := pair(t, func(o *Options) { o.Limits.Snapshots = 2 })
	b.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	begun, release := make(chan struct{}, 2), make(chan struct{})
	slow := func(io.Writer) error {
		begun <- struct{}{}
		<-release
		return nil
	}
	first := send(a, 2, 5, slow)
	await(t, begun, "the first")
	if err := await(t, send(a, 2, 5, slow), "the same again"); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v", err)
	}
	second := send(a, 2, 6, slow)
	await(t, begun, "that of another group")
	if err := await(t, send(a, 2, 7, slow), "one too many"); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v", err)
	}
	close(release)
	for _, done := range []chan error{first, second} {
		if err := await(t, done, "outcome"); err != nil {
			t.Fatal(err)
		}
	}
	if err := await(t, send(a, 2, 5, slow), "the next"); err != nil {
		t.Fatal(err)
	}
}

func TestStalledSnapshot(t *testing.T) {
	a, b := pair(t, func(o *Options) { o.Limits.Stall = 400 * time.Millisecond })
	seen := make(chan error, 1)
	b.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		seen <- err
		return err
	}
	release := make(chan struct{})
	done := send(a, 2, 5, func(w io.Writer) error {
		<-release
		return nil
	})
	if err := await(t, seen, "the receiver's patience"); !errors.Is(err, ErrStalled) || !errors.Is(err, ErrIncomplete) {
		t.Fatalf("got %v", err)
	}
	close(release)
	if err := await(t, done, "outcome"); err == nil {
		t.Fatal("sent")
	}

	stop := make(chan struct{})
	b.snapshot = func(uint64, cluster.Envelope, *pb.Message, io.Reader) error {
		<-stop // reads nothing
		return errors.New("too late")
	}
	done = send(a, 2, 5, func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	if err := await(t, done, "the sender's patience"); !errors.Is(err, ErrStalled) {
		t.Fatalf("got %v", err)
	}
	close(stop)
}

func TestCloseEndsSnapshots(t *testing.T) {
	a, b := pair(t, nil)
	begun := make(chan struct{})
	b.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
		close(begun)
		_, err := io.Copy(io.Discard, r)
		return err
	}
	done := send(a, 2, 5, func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return err
			}
		}
	})
	await(t, begun, "the receiver")
	a.Close()
	if err := await(t, done, "outcome"); err == nil {
		t.Fatal("sent")
	}
	if err := await(t, send(a, 2, 5, nil), "outcome after Close"); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestDamagedSnapshotStreams(t *testing.T) {
	head := func(t *testing.T) []byte {
		e, m := snapshotOf(5)
		b, err := appendMessage(make([]byte, framePrefix), e, m)
		if err != nil {
			t.Fatal(err)
		}
		finishFrame(b, frameSnapshot)
		return b
	}
	chunk := appendFrame(nil, frameChunk, []byte("hello"))
	flipped := bytes.Clone(chunk)
	flipped[headerLen] ^= 1
	wrongEnd := appendFrame(nil, frameEnd, make([]byte, 12))
	cases := map[string][]byte{
		"flipped bit": flipped, "wrong end mark": append(bytes.Clone(chunk), wrongEnd...),
		"other frame": appendFrame(nil, frameAppend, nil), "oversized": appendFrame(nil, frameChunk, make([]byte, maxChunk+1)),
	}
	for name, stream := range cases {
		t.Run(name, func(t *testing.T) {
			n := single(t, nil)
			seen := make(chan error, 1)
			n.snapshot = func(_ uint64, _ cluster.Envelope, _ *pb.Message, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				seen <- err
				return err
			}
			s := connect(t, n)
			s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_SNAPSHOT))
			s.send(t, append(head(t), stream...))
			if err := await(t, seen, "failure"); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("got %v", err)
			}
			kind, _, err := s.in.next(oneOf(frameAnswer, frameFailure), false)
			if err != nil || kind != frameFailure {
				t.Fatalf("answer %d, %v", kind, err)
			}
		})
	}
	t.Run("not a snapshot", func(t *testing.T) {
		n := single(t, nil)
		s := connect(t, n)
		s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_SNAPSHOT))
		e, m := heartbeat(5, 11, 22)
		b, err := appendMessage(make([]byte, framePrefix), e, m)
		if err != nil {
			t.Fatal(err)
		}
		finishFrame(b, frameSnapshot)
		s.send(t, b)
		kind, _, err := s.in.next(oneOf(frameAnswer, frameFailure), false)
		if err != nil || kind != frameFailure || n.Stats().Rejected != 1 {
			t.Fatalf("answer %d, %v", kind, err)
		}
	})
}
