package integration

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/integration/harness"
)

// TestGarbageOnListeners sends what nobody should send to all listeners of all
// servers, while clients work: they must not notice, no leader may lose its
// office, and no server may complain of itself.
func TestGarbageOnListeners(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	hello := recordHello(t, f)
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	before := f.Cluster("main")

	var pieces [][]byte
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 15, 16, 17, 1 << 10, 1 << 20} {
		piece := make([]byte, size)
		_, _ = random.Read(piece) // never fails
		pieces = append(pieces, piece)
	}
	pieces = append(pieces, frames(hello)...)
	pieces = append(pieces, requests()...)
	gate := make(chan struct{}, 8) // so many connections at once
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		for _, address := range []string{n.Client, n.Peer, n.Ops} {
			for i, piece := range pieces {
				gate <- struct{}{}
				wg.Go(func() {
					defer func() { <-gate }()
					// What comes back is up to the listener; that it lives is judged below.
					_, _ = harness.Speak(address, piece, i%2 == 0)
				})
			}
		}
	}
	wg.Wait()
	h.AwaitProgress(30 * time.Second)
	for _, n := range f.Nodes {
		if err := n.Readyz(within(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
	}
	if after := f.Cluster("main"); after.Leader != before.Leader || after.Term != before.Term {
		t.Errorf("garbage moved leadership from %s, term %d, to %s, term %d", before.Leader, before.Term, after.Leader, after.Term)
	}
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}

// recordHello returns the first bytes that s1 says to s3: s3 is stopped, and we
// listen in its place.
func recordHello(t *testing.T, f *harness.Fleet) []byte {
	t.Helper()
	s3 := f.Node("s3")
	s3.Kill()
	l, err := net.Listen("tcp", s3.Peer)
	if err != nil {
		t.Fatal(err)
	}
	var hello []byte
	for len(hello) == 0 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 4096)
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _ := c.Read(buffer) // nothing: another will come
		if bytes.HasPrefix(buffer[:n], []byte("Pd")) && bytes.Contains(buffer[:n], []byte("s1")) {
			hello = buffer[:n]
		}
		_ = c.Close()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s3.Start()
	s3.Ready()
	return hello
}

// frames returns peer frames that a bit makes wrong, that end too soon, or that
// announce more than is allowed, and which are right in all else.
func frames(hello []byte) [][]byte {
	var all [][]byte
	for at := range hello {
		flipped := bytes.Clone(hello)
		flipped[at] ^= 1 << (at % 8)
		all = append(all, flipped)
		if at%8 == 0 {
			all = append(all, hello[:at])
		}
	}
	for _, length := range []uint32{41 << 20, 1 << 31, 1<<32 - 1} {
		for kind := range uint8(12) {
			frame := bytes.Clone(hello[:20])
			frame[3] = kind
			binary.LittleEndian.PutUint32(frame[4:], length)
			binary.LittleEndian.PutUint32(frame[8:], length)
			binary.LittleEndian.PutUint32(frame[16:], crc32.Checksum(frame[:16], crc32.MakeTable(crc32.Castagnoli)))
			all = append(all, append(frame, make([]byte, 1<<16)...))
		}
	}
	return all
}

// requests returns what is wrong in HTTP.
func requests() [][]byte {
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	all := [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		[]byte("GET /readyz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 2<<20) + "\r\n\r\n"),
		[]byte("POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"),
		[]byte("GET /../../etc/passwd HTTP/1.0\r\n\r\n"),
		[]byte(preface),
		[]byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"),                                          // settings
		[]byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\xff\xff\xff\x00\x00\x00\x00\x00\x01"), // a frame of 16 MiB
		[]byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x06\x00\x00\x00\x00\x00ping"),
	}
	return append(all, []byte(preface+strings.Repeat("\xaa", 1<<16)))
}

// TestFlippedBitsBetweenServers lets all that servers say to each other pass
// through proxies that flip a bit now and then. Checksums must find each: the
// cost is a connection, never a message, and never a replica.
func TestFlippedBitsBetweenServers(t *testing.T) {
	t.Parallel()
	f := harness.New(t, 3)
	var flips atomic.Int64
	var on atomic.Bool
	mutate := func(b []byte) {
		if on.Load() && rand.IntN(200) == 0 {
			b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
			flips.Add(1)
		}
	}
	listen := harness.FreeAddresses(t, len(f.Nodes))
	for i, n := range f.Nodes {
		// The core list has the proxies, and the servers listen behind them.
		harness.NewProxy(t, n.Peer, listen[i], mutate)
		n.StartWith("--listen-peer", listen[i], "--advertise-peer", n.Peer)
	}
	for _, n := range f.Nodes {
		n.Ready()
	}
	f.Apply(harness.Definition(harness.Cluster{Name: "main", Durability: "async"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	on.Store(true)
	for range 5 {
		h.AwaitProgress(30 * time.Second)
		harness.Pause(time.Second)
	}
	on.Store(false)
	if flips.Load() == 0 {
		t.Error("no bit was flipped")
	}
	t.Logf("%d bits flipped", flips.Load())
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}

// TestSilentConnections opens connections that say nothing, or half of
// something, and leaves them open. Clients must not notice.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	leader := f.Leader("main")
	for range 100 {
		for _, address := range []string{leader.Client, leader.Peer, leader.Ops} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatalf("the %s listener takes no more connections: %v", address, err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "P"); err != nil {
				continue // closed already: as good
			}
		}
	}
	h.AwaitProgress(30 * time.Second)
	if err := leader.Readyz(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	h.Finish()
}
