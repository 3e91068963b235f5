package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
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
)

// TestMain also checks, when all tests ran, that each reason was seen on the
// wire by one of them.
func TestMain(m *testing.M) {
	if setting := os.Getenv(childEnv); setting != "" {
		if err := beChild(setting); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" {
			for reason := range natures {
				if _, ok := produced.Load(reason); !ok {
					fmt.Fprintf(os.Stderr, "no test produces %v\n", reason)
					code = 1
				}
			}
		}
		os.Exit(code)
	}))
}

// patience bounds what a test waits for on a loaded machine.
const patience = 3 * time.Minute

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
			if s.Code() != natures[e.Reason].code {
				t.Errorf("%v came with code %v, want %v", e.Reason, s.Code(), natures[e.Reason].code)
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
	if e.Message == "" || e.Retryable != natures[e.Reason].retry {
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

// freeAddresses returns addresses on which nobody listens at this moment. Their
// ports are not among those that the system gives to whoever asks for any, so
// nobody is given one of them meanwhile.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(20_000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // only to reserve it
		out = append(out, addr)
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

// replace replaces what must be there.
func replace(t testing.TB, s, from, to string) string {
	t.Helper()
	if !strings.Contains(s, from) {
		t.Fatalf("no %q", from)
	}
	return strings.Replace(s, from, to, 1)
}
