package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for on a loaded machine.
const patience = 60 * time.Second

// testRealm is what most tests apply: everything on s1.
const testRealm = `
realm: test
clusters:
  - name: main
    durability: async
    services:
      - {name: main-1, server: s1}
    stores:
      - name: flights
        max_message_size: 64KiB
        durables:
          - {name: audit, type: standard}
          - {name: delays, type: shared}
          - {name: vegas, type: shared, matcher: '{"origin":"LAS"}'}
      - name: small
        byte_limit: 4KiB
        durables:
          - {name: kept, type: standard}
      - name: loose
        publisher_mode: noconfirm
        durables:
          - {name: kept, type: standard}
endpoints:
  - {name: flights, store: flights, template: ftl.shared.template, default_durable: audit, subscribers: {worker: delays}}
  - {name: small, store: small, default_durable: kept}
  - {name: loose, store: loose, default_durable: kept}
`

// node is a server in this process and a raw client of it.
type node struct {
	*Server
	t        testing.TB
	config   Config
	messages perdurepb.MessagesClient
	admin    perdurepb.AdminClient
	conn     *grpc.ClientConn
	log      *logged
	closed   sync.Once
}

// logged keeps what a server logs, for failures.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// single is the configuration of a realm of one server, which forms at once.
func single(t testing.TB) Config {
	t.Helper()
	return Config{
		Name: "s1", Data: filepath.Join(t.TempDir(), "s1"), Core: "s1=127.0.0.1:1",
		ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", ListenOps: "127.0.0.1:0",
	}
}

// open opens a server, which the test's end closes.
func open(t testing.TB, config Config) *node {
	t.Helper()
	n := &node{t: t, config: config, log: &logged{}}
	s, err := Open(t.Context(), config, slog.New(slog.NewTextHandler(n.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n.Server = s
	n.conn, err = grpc.NewClient(s.ClientAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.messages, n.admin = perdurepb.NewMessagesClient(n.conn), perdurepb.NewAdminClient(n.conn)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of server %s:\n%s", config.Name, n.log)
		}
		n.stop()
	})
	return n
}

// stop closes the server and the client, once.
func (n *node) stop() {
	n.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			n.t.Errorf("close %s: %v", n.config.Name, err)
		}
		if err := n.conn.Close(); err != nil {
			n.t.Errorf("close the client of %s: %v", n.config.Name, err)
		}
	})
}

// start opens a single server and applies a realm.
func start(t testing.TB, document string) *node {
	t.Helper()
	n := open(t, single(t))
	n.apply(document)
	return n
}

func (n *node) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

// apply applies a realm, as soon as there is somebody to take it.
func (n *node) apply(document string) {
	n.t.Helper()
	n.until("the realm is formed", func() bool { return n.forming() == nil })
	if _, err := n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: []byte(document), File: "test.yaml"}); err != nil {
		n.t.Fatal(err)
	}
	n.until("services run", func() bool { return len(n.unready()) == 0 })
}

// until waits for something that nobody announces.
func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			n.t.Fatalf("server %s: %s: not after %v; unready: %v", n.config.Name, what, patience, n.unready())
		}
		<-tick.C
	}
}

// get asks the operators' listener.
func (n *node) get(path string) (code int, body string) {
	n.t.Helper()
	request, err := http.NewRequestWithContext(n.ctx(), http.MethodGet, "http://"+n.OpsAddr()+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Close = true
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		n.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// reasonOf returns the typed error in a status.
func reasonOf(t testing.TB, err error) *perdurepb.Error {
	t.Helper()
	s, ok := status.FromError(err)
	if !ok || err == nil {
		t.Fatalf("no status: %v", err)
	}
	for _, d := range s.Details() {
		if e, ok := d.(*perdurepb.Error); ok {
			if s.Code() != codesOf[e.Reason] {
				t.Errorf("%v came with code %v, want %v", e.Reason, s.Code(), codesOf[e.Reason])
			}
			checkError(t, e)
			return e
		}
	}
	t.Fatalf("status without details: %v", err)
	return nil
}

// checkError checks what every error must have.
func checkError(t testing.TB, e *perdurepb.Error) {
	t.Helper()
	produced.Store(e.Reason, true)
	if e.Message == "" || e.Retryable != retryable[e.Reason] {
		t.Errorf("error %v: message %q, retryable %v", e.Reason, e.Message, e.Retryable)
	}
}

// produced are the reasons that some test has seen on the wire.
var produced sync.Map

func wantReason(t testing.TB, err error, want perdurepb.Reason) *perdurepb.Error {
	t.Helper()
	e := reasonOf(t, err)
	if e.Reason != want {
		t.Fatalf("%v: %s, want %v", e.Reason, e.Message, want)
	}
	return e
}

// publishing is a raw publish stream.
type publishing struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[perdurepb.PublishRequest, perdurepb.PublishResponse]
	opened *perdurepb.PublishOpened
	next   []*perdurepb.PublishOutcome
}

// publisher opens a publish stream, and returns the error if it does not open.
func (n *node) publisher(open *perdurepb.PublishOpen) (*publishing, error) {
	n.t.Helper()
	stream, err := n.messages.Publish(n.ctx())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&perdurepb.PublishRequest{Open: open}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return &publishing{t: n.t, stream: stream, opened: r.GetOpened()}, nil
}

func (n *node) mustPublisher(endpoint string) *publishing {
	n.t.Helper()
	p, err := n.publisher(&perdurepb.PublishOpen{Endpoint: endpoint})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (p *publishing) send(sequence uint64, attempt uint32, batch []byte) {
	p.t.Helper()
	if err := p.stream.Send(&perdurepb.PublishRequest{Sequence: sequence, Attempt: attempt, Batch: batch}); err != nil {
		p.t.Fatalf("batch %d: %v", sequence, err)
	}
}

// outcome waits for the next outcome.
func (p *publishing) outcome() *perdurepb.PublishOutcome {
	p.t.Helper()
	for len(p.next) == 0 {
		r, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("publish stream: %v", err)
		}
		p.next = r.GetOutcomes()
	}
	o := p.next[0]
	p.next = p.next[1:]
	if o.Error != nil {
		checkError(p.t, o.Error)
	}
	return o
}

// publish sends a batch and returns what became of it.
func (p *publishing) publish(sequence uint64, attempt uint32, batch []byte) *perdurepb.PublishOutcome {
	p.t.Helper()
	p.send(sequence, attempt, batch)
	o := p.outcome()
	if o.Sequence != sequence || o.Attempt != attempt {
		p.t.Fatalf("outcome of %d/%d, want %d/%d", o.Sequence, o.Attempt, sequence, attempt)
	}
	return o
}

func (p *publishing) stored(sequence uint64, attempt uint32, batch []byte) *perdurepb.PublishOutcome {
	p.t.Helper()
	o := p.publish(sequence, attempt, batch)
	if o.Error != nil {
		p.t.Fatalf("batch %d: %v", sequence, o.Error)
	}
	return o
}

func (p *publishing) refused(sequence uint64, attempt uint32, batch []byte, want perdurepb.Reason) *perdurepb.Error {
	p.t.Helper()
	o := p.publish(sequence, attempt, batch)
	if o.Error.GetReason() != want {
		p.t.Fatalf("batch %d: %v, want %v", sequence, o.Error, want)
	}
	return o.Error
}

// end reads until the stream ends, and returns why it did.
func (p *publishing) end() error {
	for {
		if _, err := p.stream.Recv(); err != nil {
			return err
		}
	}
}

// subscribing is a raw subscribe stream.
type subscribing struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[perdurepb.SubscribeRequest, perdurepb.SubscribeResponse]
	opened *perdurepb.SubscribeOpened
}

func (n *node) subscriber(open *perdurepb.SubscribeOpen) (*subscribing, error) {
	n.t.Helper()
	stream, err := n.messages.Subscribe(n.ctx())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&perdurepb.SubscribeRequest{Open: open}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return &subscribing{t: n.t, stream: stream, opened: r.GetOpened()}, nil
}

func (n *node) mustSubscriber(open *perdurepb.SubscribeOpen) *subscribing {
	n.t.Helper()
	s, err := n.subscriber(open)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (s *subscribing) say(m *perdurepb.SubscribeRequest) {
	s.t.Helper()
	if err := s.stream.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

// frame waits for the next frame that is no heartbeat.
func (s *subscribing) frame() *perdurepb.SubscribeResponse {
	s.t.Helper()
	for {
		r, err := s.stream.Recv()
		if err != nil {
			s.t.Fatalf("subscribe stream: %v", err)
		}
		if !r.GetHeartbeat() {
			return r
		}
	}
}

// receive waits for n messages and returns their ids.
func (s *subscribing) receive(n int) []uint64 {
	s.t.Helper()
	var ids []uint64
	for len(ids) < n {
		d := s.frame().GetDelivery()
		if d == nil {
			continue
		}
		for i := 0; i < len(d.GetIds()); i += 2 {
			for id := d.Ids[i]; id <= d.Ids[i+1]; id++ {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// settle settles and waits for the answer.
func (s *subscribing) settle(m *perdurepb.Settle) *perdurepb.Error {
	s.t.Helper()
	s.say(&perdurepb.SubscribeRequest{Settle: m})
	for {
		if a := s.frame().GetSettled(); a.GetToken() == m.Token {
			if a.Error != nil {
				checkError(s.t, a.Error)
			}
			return a.Error
		}
	}
}

// end reads until the stream ends, and returns why it did.
func (s *subscribing) end() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}

// bodies is a batch of messages that are nothing but bodies.
func bodies(texts ...string) []byte {
	var b message.Builder
	b.SetMaxMessageSize(message.HardMaxMessageSize)
	for _, text := range texts {
		if err := b.AddBody([]byte(text)); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// messagesOf is a batch of messages.
func messagesOf(ms ...*message.Message) []byte {
	var b message.Builder
	for _, m := range ms {
		if err := b.Add(m); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// freeAddresses returns addresses on which nobody listens at this moment.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // only to reserve it
		out = append(out, l.Addr().String())
	}
	return out
}

// three opens three core servers, which form a realm.
func three(t testing.TB) []*node {
	t.Helper()
	addrs := freeAddresses(t, 3)
	core := fmt.Sprintf("s1=%s,s2=%s,s3=%s", addrs[0], addrs[1], addrs[2])
	nodes := make([]*node, 3)
	for i := range nodes {
		config := single(t)
		config.Name, config.Core, config.ListenPeer = fmt.Sprintf("s%d", i+1), core, addrs[i]
		config.Data = filepath.Join(t.TempDir(), config.Name)
		nodes[i] = open(t, config)
	}
	return nodes
}

// recount sets the number of messages in a batch's header, whose checksum then
// holds.
func recount(batch []byte, n uint32) []byte {
	binary.LittleEndian.PutUint32(batch[4:], n)
	end := message.HeaderSize - 4
	binary.LittleEndian.PutUint32(batch[end:], crc32.Checksum(batch[:end], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

// notUTF8 is a batch whose message has a header that is not UTF-8, with the
// checksums of one that is well formed.
func notUTF8(t testing.TB) []byte {
	t.Helper()
	m := &message.Message{Headers: []message.Header{{Name: "note", Value: "QQQQ"}}}
	b := messagesOf(m)
	at := bytes.Index(b, []byte("QQQQ"))
	if at < 0 {
		t.Fatal("the header is not where it was")
	}
	b[at] = 0xff
	h, err := message.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[message.HeaderSize:message.HeaderSize+h.HeadLen], castagnoli))
	return recount(b, uint32(h.Count))
}
