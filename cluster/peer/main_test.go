package peer

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"

	"github.com/perdure/perdure/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// delivery is a message as it was received.
type delivery struct {
	server   uint64
	envelope cluster.Envelope
	message  *pb.Message
	lone     bool
}

// echo is one call of Receiving.Echo.
type echo struct {
	server uint64
	left   time.Time
}

// wall is one call of Receiving.Wall.
type wall struct {
	server       uint64
	theirs, ours int64
}

// recorder is a Receiving that tells tests what it was called with. Its channels
// hold more than any test makes it receive, but clocks, of which it keeps some.
type recorder struct {
	messages chan delivery
	links    chan string // "up 2", "down 2"
	walls    chan wall
	echoes   chan echo
	snapshot func(server uint64, e cluster.Envelope, m *pb.Message, body io.Reader) error
	hold     atomic.Pointer[func(*pb.Message)] // Receive calls it first, if set
}

func newRecorder() *recorder {
	return &recorder{
		messages: make(chan delivery, 1<<16),
		links:    make(chan string, 1<<12),
		walls:    make(chan wall, 1<<8),
		echoes:   make(chan echo, 1<<8),
	}
}

func (r *recorder) Receive(server uint64, e cluster.Envelope, m *pb.Message, lone bool) {
	if h := r.hold.Load(); h != nil {
		(*h)(m)
	}
	r.messages <- delivery{server, e, m, lone}
}

func (r *recorder) ReceiveSnapshot(server uint64, e cluster.Envelope, m *pb.Message, body io.Reader) error {
	return r.snapshot(server, e, m, body)
}

func (r *recorder) PeerUp(server uint64)   { r.links <- fmt.Sprintf("up %d", server) }
func (r *recorder) PeerDown(server uint64) { r.links <- fmt.Sprintf("down %d", server) }

func (r *recorder) Echo(server uint64, left time.Time) {
	select {
	case r.echoes <- echo{server, left}:
	default:
	}
}

func (r *recorder) Wall(server uint64, theirs, ours int64) {
	select {
	case r.walls <- wall{server, theirs, ours}:
	default:
	}
}

// await receives from c or fails the test.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %s for %s", patience, what)
		panic("unreachable")
	}
}

// expect awaits a value.
func expect[T comparable](t testing.TB, c <-chan T, want T) {
	t.Helper()
	if got := await(t, c, fmt.Sprint(want)); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// node is a transport under test.
type node struct {
	*Transport
	*recorder
	opts Options
}

// start opens a transport on loopback and closes it when the test ends.
func start(t testing.TB, id uint64, name string, change func(*Options)) *node {
	t.Helper()
	r := newRecorder()
	opts := Options{
		Server: id, Name: name, Incarnation: 1000 + id, Address: "127.0.0.1:0", Receiving: r,
		Limits: Limits{
			Clock: 50 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		},
	}
	if change != nil {
		change(&opts)
	}
	tr, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return &node{tr, r, opts}
}

// peerOf is how others know n.
func peerOf(n *node) Peer { return Peer{Name: n.opts.Name, Address: n.Addr().String()} }

// introduceAll makes nodes know each other.
func introduceAll(nodes ...*node) {
	for _, n := range nodes {
		peers := map[uint64]Peer{}
		for _, o := range nodes {
			peers[o.opts.Server] = peerOf(o)
		}
		n.SetPeers(peers)
	}
}

// pair starts two transports that know each other and waits until they are up.
func pair(t testing.TB, change func(*Options)) (*node, *node) {
	t.Helper()
	a, b := start(t, 1, "s1", change), start(t, 2, "s2", change)
	introduceAll(a, b)
	expect(t, a.links, "up 2")
	expect(t, b.links, "up 1")
	ready(t, a, 2)
	ready(t, b, 1)
	return a, b
}

// ready waits until n's append connection to a server stands. There is no event
// for it, so it asks, yielding in between.
func ready(t testing.TB, n *node, server uint64) {
	t.Helper()
	until(t, fmt.Sprintf("appends to %d", server), func() bool {
		for _, p := range n.Peers() {
			if p.Server == server && p.Appends && p.Outgoing {
				return true
			}
		}
		return false
	})
}

// until asks again and again, as quickly as a ticker lets it.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// heartbeat is a control message of a group.
func heartbeat(group, from, to uint64) (cluster.Envelope, *pb.Message) {
	return cluster.Envelope{Group: group, Epoch: 3, From: from, To: to}, &pb.Message{
		Type: pb.MsgHeartbeat.Enum(), From: &from, To: &to, Term: new(uint64(7)), Commit: new(group),
	}
}

// entries is an append of a group with data.
func entries(group, from, to, index uint64, data ...[]byte) (cluster.Envelope, *pb.Message) {
	m := &pb.Message{
		Type: pb.MsgApp.Enum(), From: &from, To: &to, Term: new(uint64(7)), LogTerm: new(uint64(6)),
		Index: new(index), Commit: new(index),
	}
	for i, d := range data {
		m.Entries = append(m.Entries, &pb.Entry{
			Type: pb.EntryNormal.Enum(), Term: new(uint64(7)), Index: new(index + 1 + uint64(i)), Data: d,
		})
	}
	return cluster.Envelope{Group: group, Epoch: 3, From: from, To: to}, m
}
