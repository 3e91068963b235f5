package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	peerpb "github.com/perdure/perdure/api/peer/v1"
	"github.com/perdure/perdure/cluster"
)

// lines is a log that can be counted.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

// fails waits until n's connection with its only peer failed for a cause.
func fails(t *testing.T, n *node, want error) {
	t.Helper()
	until(t, want.Error(), func() bool {
		return errors.Is(n.Peers()[0].LastError, want)
	})
	if s := n.Peers()[0]; s.Up {
		t.Fatalf("up in spite of %v", want)
	}
}

func TestWrongRealmIsRefused(t *testing.T) {
	log := &lines{}
	a := start(t, 1, "s1", func(o *Options) {
		o.Realm = func() [16]byte { return [16]byte{1} }
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	b := start(t, 2, "s2", func(o *Options) { o.Realm = func() [16]byte { return [16]byte{2} } })
	introduceAll(a, b)
	fails(t, a, ErrRealm)
	fails(t, b, ErrRealm)
	until(t, "more attempts", func() bool { return a.Stats().Refused > 10 })
	if n := log.count("realm"); n != 1 {
		t.Fatalf("logged %d times", n)
	}
}

func TestRealmMayBeFormedLater(t *testing.T) {
	var mu sync.Mutex
	realms := map[uint64][16]byte{}
	set := func(server uint64, realm byte) {
		mu.Lock()
		defer mu.Unlock()
		realms[server] = [16]byte{realm}
	}
	a, b := pair(t, func(o *Options) {
		id := o.Server
		o.Realm = func() [16]byte {
			mu.Lock()
			defer mu.Unlock()
			return realms[id]
		}
	})
	set(1, 5)
	pass := func() {
		e, m := heartbeat(1, 1, 2)
		if !a.Send(2, e, m) {
			t.Fatal("refused")
		}
		await(t, b.messages, "heartbeat")
	}
	pass() // one knows its realm, the other not yet
	set(2, 5)
	pass()
	set(2, 6) // another realm under the open connection
	e, m := heartbeat(1, 1, 2)
	a.Send(2, e, m)
	expect(t, b.links, "down 1")
	expect(t, a.links, "down 2")
	fails(t, b, ErrRealm)
	select {
	case <-b.messages:
		t.Fatal("a message of another realm was delivered")
	default:
	}
}

func TestWrongIdentityIsRefused(t *testing.T) {
	t.Run("name", func(t *testing.T) {
		a, b := start(t, 1, "s1", nil), start(t, 2, "other", nil)
		a.SetPeers(map[uint64]Peer{2: {Name: "s2", Address: b.Addr().String()}})
		b.SetPeers(map[uint64]Peer{1: peerOf(a)})
		fails(t, a, ErrIdentity)
		fails(t, b, ErrIdentity)
	})
	t.Run("id", func(t *testing.T) {
		a, b := start(t, 1, "s1", nil), start(t, 2, "s2", nil)
		a.SetPeers(map[uint64]Peer{3: {Address: b.Addr().String()}})
		fails(t, a, ErrIdentity)
	})
	t.Run("own id", func(t *testing.T) {
		a, b := start(t, 1, "s1", nil), start(t, 1, "s1", nil)
		a.SetPeers(map[uint64]Peer{2: {Address: b.Addr().String()}})
		fails(t, a, ErrIdentity)
	})
	t.Run("unknown", func(t *testing.T) {
		a, b := start(t, 1, "s1", nil), start(t, 2, "s2", nil)
		a.SetPeers(map[uint64]Peer{2: peerOf(b)})
		fails(t, a, ErrUnknownPeer)
	})
	t.Run("proven name", func(t *testing.T) {
		a := start(t, 1, "s1", nil)
		b := start(t, 2, "s2", func(o *Options) {
			o.Identify = func(net.Conn) (string, error) { return "mallory", nil }
		})
		introduceAll(a, b)
		fails(t, a, ErrIdentity)
		fails(t, b, ErrIdentity)
	})
	t.Run("nobody there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		a := start(t, 1, "s1", nil)
		a.SetPeers(map[uint64]Peer{2: {Address: l.Addr().String()}})
		fails(t, a, ErrUnreachable)
	})
	t.Run("no id yet", func(t *testing.T) {
		a, b := start(t, 0, "s1", nil), start(t, 2, "s2", nil)
		b.SetPeers(map[uint64]Peer{1: peerOf(a)})
		a.SetPeers(map[uint64]Peer{2: peerOf(b)})
		fails(t, a, ErrNoServerID)
		fails(t, b, ErrIdentity)
		if err := a.SetServer(1); err != nil {
			t.Fatal(err)
		}
		expect(t, a.links, "up 2")
		if a.SetServer(1) != nil || a.SetServer(3) == nil || a.SetServer(0) == nil {
			t.Fatal("an id can be given once")
		}
	})
}

// stranger is a hand-made dialing side.
type stranger struct {
	net.Conn
	in frameReader
}

func connect(t *testing.T, n *node) *stranger {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &stranger{c, frameReader{r: bufio.NewReader(c)}}
}

// hello is what server 2 would say to server 1.
func hello(kind peerpb.ConnectionKind) *peerpb.Hello {
	return &peerpb.Hello{
		MinVersion: 1, MaxVersion: 1, Kind: kind, Server: 2, Name: "s2",
		Realm: make([]byte, realmLen), Incarnation: 99, ToServer: 1,
	}
}

func (s *stranger) greet(t *testing.T, h *peerpb.Hello) *peerpb.Welcome {
	t.Helper()
	b, err := proto.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	s.send(t, appendFrame(nil, frameHello, b))
	_, payload, err := s.in.next(oneOf(frameWelcome), true)
	if err != nil {
		t.Fatal(err)
	}
	w := &peerpb.Welcome{}
	if err := proto.Unmarshal(payload, w); err != nil {
		t.Fatal(err)
	}
	return w
}

func (s *stranger) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
}

// closed waits until the other side has closed the connection.
func (s *stranger) closed(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, s.in.r); err != nil && errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// single starts one transport that knows a server 2 that is not there.
func single(t *testing.T, change func(*Options)) *node {
	t.Helper()
	n := start(t, 1, "s1", change)
	n.SetPeers(map[uint64]Peer{2: {Name: "s2", Address: "127.0.0.1:1"}})
	return n
}

func TestVersionsAndKinds(t *testing.T) {
	n := single(t, nil)
	h := hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL)
	h.MinVersion, h.MaxVersion = 2, 9
	if w := connect(t, n).greet(t, h); w.Refusal != peerpb.Refusal_REFUSAL_VERSION {
		t.Fatalf("got %v", w)
	}
	if w := connect(t, n).greet(t, hello(99)); w.Refusal != peerpb.Refusal_REFUSAL_KIND {
		t.Fatalf("got %v", w)
	}
	h = hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL)
	h.MaxVersion = 7 // a later release that still speaks ours
	if w := connect(t, n).greet(t, h); w.Refusal != 0 || w.Version != 1 {
		t.Fatalf("got %v", w)
	}
}

func TestForgedMessagesAreDropped(t *testing.T) {
	n := single(t, func(o *Options) {
		o.Accept = func(server uint64, e cluster.Envelope) bool { return server == 2 && e.From == 22 }
	})
	s := connect(t, n)
	if w := s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL)); w.Refusal != 0 {
		t.Fatalf("refused: %v", w)
	}
	bad := 0
	frame := make([]byte, framePrefix)
	add := func(e cluster.Envelope, m *pb.Message) {
		var err error
		if frame, err = appendMessage(frame, e, m); err != nil {
			t.Fatal(err)
		}
		bad++
	}
	for kind := range pb.MessageType_name {
		if k := pb.MessageType(kind); int(k) >= len(carried) || !carried[k] || k == pb.MsgSnap || k == pb.MsgApp {
			add(cluster.Envelope{From: 22, To: 11}, &pb.Message{Type: k.Enum()})
		}
	}
	e, m := heartbeat(1, 33, 11) // of a replica that does not live there
	add(e, m)
	e, m = heartbeat(1, 22, 11) // From in the message is not that of the envelope
	m.From = new(uint64(33))
	add(e, m)
	e, m = heartbeat(1, 22, 11)
	m.To = new(uint64(33))
	add(e, m)
	e, m = entries(1, 22, 11, 5, []byte("an append on control"))
	add(e, m)
	e, m = heartbeat(1, 22, 11) // the only good one
	add(e, m)
	bad--
	finishFrame(frame, frameControl)
	s.send(t, frame)
	got := await(t, n.messages, "the good one")
	e.Incarnation = 99
	if got.envelope != e || !proto.Equal(got.message, m) {
		t.Fatalf("got %+v", got)
	}
	if n.Stats().Rejected != uint64(bad) || len(n.messages) != 0 {
		t.Fatalf("rejected %d of %d, %d more delivered", n.Stats().Rejected, bad, len(n.messages))
	}
}

func TestBadFramesCloseOnlyTheirConnection(t *testing.T) {
	a, b := pair(t, nil)
	good := func() []byte {
		e, m := heartbeat(1, 2, 1)
		frame, err := appendMessage(make([]byte, framePrefix), e, m)
		if err != nil {
			t.Fatal(err)
		}
		finishFrame(frame, frameControl)
		return frame
	}
	large := make([]byte, headerLen)
	putHeader(large, frameControl, maxControl+1, 0)
	unknown := appendFrame(nil, 77, nil)
	clock := appendFrame(nil, frameClock, []byte("short"))
	norealm := appendFrame(nil, frameControl, []byte("short"))
	message := appendFrame(nil, frameControl, append(make([]byte, realmLen), 0xff, 0xff, 0xff))
	cases := map[string][]byte{
		"garbage": []byte(strings.Repeat("GET / HTTP/1.1\r\n", 4)), "oversized": large,
		"unknown type": unknown, "clock": clock, "no realm": norealm, "message": message,
	}
	for i := range good() {
		frame := good()
		frame[i] ^= 1 << (i % 8)
		cases["flipped bit in byte "+string(rune('0'+i/10))+string(rune('0'+i%10))] = frame
	}
	// A third server misbehaves while the two go on.
	a.SetPeers(map[uint64]Peer{2: peerOf(b), 3: {Name: "s3", Address: "127.0.0.1:1"}})
	before := a.Stats()
	for name, bytes := range cases {
		t.Run(name, func(t *testing.T) {
			s := connect(t, a)
			h := hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL)
			h.Server, h.Name = 3, "s3"
			if w := s.greet(t, h); w.Refusal != 0 {
				t.Fatalf("refused: %v", w)
			}
			s.send(t, bytes)
			s.closed(t)
		})
	}
	until(t, "all to be counted", func() bool {
		s := a.Stats()
		return s.Corrupt+s.Refused-before.Corrupt-before.Refused >= uint64(len(cases))
	})
	if len(a.messages) != 0 {
		t.Fatal("a damaged message was delivered")
	}
	e, m := heartbeat(1, 2, 1)
	if !b.Send(1, e, m) {
		t.Fatal("the good connection was hurt")
	}
	await(t, a.messages, "heartbeat")
	select {
	case l := <-a.links:
		t.Fatalf("link changed: %s", l)
	default:
	}
}

func TestTruncatedFrame(t *testing.T) {
	n := single(t, nil)
	s := connect(t, n)
	if w := s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_APPEND)); w.Refusal != 0 {
		t.Fatalf("refused: %v", w)
	}
	head := make([]byte, headerLen)
	putHeader(head, frameAppend, MaxFrame, 0)
	s.send(t, append(head, "only this"...))
	s.Close()
	until(t, "truncation to be counted", func() bool { return n.Stats().Truncated == 1 })
}

func TestHalfOpen(t *testing.T) {
	limits := Limits{
		Clock: 5 * time.Millisecond, Silence: 50 * time.Millisecond,
		MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
	}
	t.Run("before the handshake", func(t *testing.T) {
		n := single(t, func(o *Options) { o.Limits.Handshake = 50 * time.Millisecond })
		connect(t, n).closed(t)
	})
	t.Run("accepted and silent", func(t *testing.T) {
		n := single(t, func(o *Options) { o.Limits = limits })
		s := connect(t, n)
		s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL))
		s.closed(t)
		until(t, "silence to be seen", func() bool { return n.Peers()[0].LastError != nil })
	})
	t.Run("dialed and silent", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n := start(t, 1, "s1", func(o *Options) { o.Limits = limits })
		done := make(chan struct{})
		var held []net.Conn
		go func() { // welcomes everybody and never says more
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				held = append(held, c)
				w, _ := proto.Marshal(&peerpb.Welcome{Version: 1, Server: 2, Name: "s2", Realm: make([]byte, realmLen)})
				_, _ = c.Write(appendFrame(nil, frameWelcome, w))
			}
		}()
		n.SetPeers(map[uint64]Peer{2: {Name: "s2", Address: l.Addr().String()}})
		fails(t, n, ErrSilent)
		n.Close()
		l.Close()
		<-done
		for _, c := range held {
			c.Close()
		}
	})
}

func TestSecondHolderOfAnIdIsRefused(t *testing.T) {
	a, b := pair(t, nil)
	clone := start(t, 2, "s2", func(o *Options) { o.Incarnation = 666 })
	clone.SetPeers(map[uint64]Peer{1: peerOf(a)})
	until(t, "the clone to be refused", func() bool {
		return errors.Is(clone.Peers()[0].LastError, ErrDuplicate)
	})
	if !a.Peers()[0].Up || a.Peers()[0].Incarnation != b.opts.Incarnation {
		t.Fatal("the clone took over")
	}
	b.Close()
	expect(t, a.links, "down 2")
	until(t, "the other to be accepted", func() bool { return a.Peers()[0].Incarnation == 666 })
}

func TestConnectionsAreCapped(t *testing.T) {
	n := single(t, func(o *Options) { o.Limits.Connections = 4 })
	var held []*stranger
	for range 4 {
		held = append(held, connect(t, n))
	}
	until(t, "a refusal", func() bool {
		connect(t, n).closed(t)
		return n.Stats().Refused > 0
	})
	for _, s := range held {
		s.Close()
	}
	until(t, "room again", func() bool {
		s := connect(t, n)
		defer s.Close()
		s.SetDeadline(time.Now().Add(patience))
		b, _ := proto.Marshal(hello(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL))
		if _, err := s.Write(appendFrame(nil, frameHello, b)); err != nil {
			return false
		}
		_, _, err := s.in.next(oneOf(frameWelcome), false)
		return err == nil
	})
}

func TestHeaderLayout(t *testing.T) {
	f := appendFrame(nil, frameControl, []byte("payload"))
	want := "Pd\x02\x03\x07\x00\x00\x00\x07\x00\x00\x00"
	if string(f[:12]) != want || binary.LittleEndian.Uint32(f[12:]) != checksum([]byte("payload")) || len(f) != headerLen+7 {
		t.Fatalf("frame % x", f)
	}
}
