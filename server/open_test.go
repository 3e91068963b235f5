package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/raftlog"
)

func TestRealmErrors(t *testing.T) {
	t.Parallel()
	n := open(t, single(t))
	n.until("the realm is formed", func() bool { return n.forming() == nil })
	_, err := n.admin.GetRealm(n.ctx(), &perdurepb.GetRealmRequest{})
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_REALM_FORMING); !strings.Contains(e.Message, "realm apply") {
		t.Errorf("before any definition: %s", e.Message)
	}
	bad := []byte(strings.NewReplacer("type: standard", "type: standrad", "store: small", "store: smal").Replace(testRealm))
	for what, call := range map[string]func() error{
		"apply": func() error {
			_, err := n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: bad, File: "bad.yaml"})
			return err
		},
		"plan": func() error {
			_, err := n.admin.PlanRealm(n.ctx(), &perdurepb.PlanRealmRequest{Document: bad, File: "bad.yaml"})
			return err
		},
	} {
		e := wantReason(t, call(), perdurepb.Reason_REASON_REALM_INVALID)
		if len(e.Problems) < 2 {
			t.Fatalf("%s: problems %v", what, e.Problems)
		}
		for _, p := range e.Problems {
			if p.Line == 0 || p.Column == 0 || p.Path == "" || p.Message == "" {
				t.Errorf("%s: problem without a position: %v", what, p)
			}
		}
	}
	n.apply(testRealm)
	_, err = n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{
		Document: []byte(replace(t, testRealm, "64KiB", "65KiB")), Check: true, ExpectedRevision: 9,
	})
	wantReason(t, err, perdurepb.Reason_REASON_REVISION_CONFLICT)
	_, err = n.admin.GetRealm(n.ctx(), &perdurepb.GetRealmRequest{Revision: 9})
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	got, err := n.admin.GetRealm(n.ctx(), &perdurepb.GetRealmRequest{})
	if err != nil || string(got.Document) != testRealm || got.Revision != 1 {
		t.Errorf("revision %d: %v", got.GetRevision(), err)
	}
}

// A core server alone serves nobody, and says what it waits for everywhere.
func TestForming(t *testing.T) {
	t.Parallel()
	config := single(t)
	config.Core = "s1=127.0.0.1:1,s2=127.0.0.1:2,s3=127.0.0.1:3"
	n := open(t, config)
	n.until("it has asked the others", func() bool { return strings.Contains(n.realm.waitingFor(), "s2") })
	_, err := n.messages.Resolve(n.ctx(), &perdurepb.ResolveRequest{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_REALM_FORMING)
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_REALM_FORMING)
	_, err = n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: []byte(testRealm)})
	wantReason(t, err, perdurepb.Reason_REASON_REALM_FORMING)
	if r, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{}); err != nil || r.Server != "s1" {
		t.Errorf("status %v: %v", r, err)
	}
	if code, body := n.get("/readyz"); code != 503 || !strings.Contains(body, "s2") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _ := n.get("/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	n.wantHealth(healthpb.HealthCheckResponse_NOT_SERVING)
}

// wantHealth compares what every way of asking says with what it should be.
func (n *node) wantHealth(want healthpb.HealthCheckResponse_ServingStatus) {
	n.t.Helper()
	code, body := n.get("/readyz")
	if (code == 200) != (want == healthpb.HealthCheckResponse_SERVING) {
		n.t.Errorf("readyz: %d %s, want %v", code, body, want)
	}
	c := healthpb.NewHealthClient(n.conn)
	for _, name := range healthNames {
		r, err := c.Check(n.ctx(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil || r.Status != want {
			n.t.Errorf("health of %q: %v %v, want %v", name, r.GetStatus(), err, want)
		}
	}
	if _, err := c.Check(n.ctx(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		n.t.Errorf("health of nobody: %v", err)
	}
}

// Health follows the state: forming, ready, without a leader, stopped. Whoever
// watches is told.
func TestHealthFollowsTheState(t *testing.T) {
	t.Parallel()
	n := open(t, single(t))
	watch, err := healthpb.NewHealthClient(n.conn).Watch(n.ctx(), &healthpb.HealthCheckRequest{Service: "perdure.v1.Messages"})
	if err != nil {
		t.Fatal(err)
	}
	told := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for {
			r, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.Status == want {
				return
			}
		}
	}
	n.apply(testRealm)
	n.wantHealth(healthpb.HealthCheckResponse_SERVING)
	told(healthpb.HealthCheckResponse_SERVING)
	if err := n.reconciler.all()[0].group.Close(); err != nil {
		t.Fatal(err)
	}
	n.wantHealth(healthpb.HealthCheckResponse_NOT_SERVING)
	told(healthpb.HealthCheckResponse_NOT_SERVING)
	if code, _ := n.get("/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
}

// Before the reconciler has looked, a server that hosts services is not ready.
func TestServicesThatAreAboutToStart(t *testing.T) {
	for want, h := range map[string]*hosted{
		"about to start": nil,
		"waits":          {waiting: "waits"},
		"broken":         {err: errors.New("broken")},
	} {
		if got := unreadyService(h); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNoLeader(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("flights")
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	if err := n.reconciler.all()[0].group.Close(); err != nil {
		t.Fatal(err)
	}
	// Idle publishers are told, too.
	wantReason(t, p.end(), perdurepb.Reason_REASON_NOT_LEADER)
	wantReason(t, s.end(), perdurepb.Reason_REASON_NOT_LEADER)
	_, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_NO_LEADER)
	r, err := n.messages.Resolve(n.ctx(), &perdurepb.ResolveRequest{Endpoint: "flights"})
	if err != nil || r.Leader != nil || len(r.Candidates) != 1 {
		t.Errorf("resolved %v: %v", r, err)
	}
}

// What was in memory is forgotten by a restart: the service takes no part under
// its old name, and says so; the realm, which is on disk, is there again.
func TestMemoryIsForgotten(t *testing.T) {
	t.Parallel()
	config := single(t)
	n := open(t, config)
	n.apply(replace(t, testRealm, "durability: async", "durability: memory"))
	n.mustPublisher("flights").stored(1, 1, bodies("a"))
	n.stop()
	n = open(t, config)
	n.until("the service is fenced", func() bool {
		all := n.reconciler.all()
		return len(all) == 1 && errors.Is(all[0].err, cluster.ErrMayHaveForgotten)
	})
	_, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN)
	r, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{})
	if err != nil || r.Clusters[0].Services[0].State != "fenced" {
		t.Errorf("status %v: %v", r, err)
	}
	n.wantHealth(healthpb.HealthCheckResponse_NOT_SERVING)
}

// A restart finds everything again, sessions included.
func TestRestart(t *testing.T) {
	t.Parallel()
	config := single(t)
	n := open(t, config)
	n.apply(testRealm)
	p := n.mustPublisher("flights")
	p.stored(1, 1, bodies("a", "b"))
	session := p.opened.Session
	n.stop()
	n = open(t, config)
	n.until("it is ready", func() bool { return len(n.unready()) == 0 })
	n.until("it leads", func() bool { return n.reconciler.all()[0].group.Leads() })
	p, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: session})
	if err != nil || p.opened.LastSequence != 1 {
		t.Fatalf("resumed %v: %v", p, err)
	}
	if o := p.publish(1, 1, bodies("a", "b")); !o.Duplicate || o.FirstId != 1 {
		t.Errorf("repeated: %v", o)
	}
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	s.receive(2)
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 2}, Token: 1}); err != nil {
		t.Error(err)
	}
}

// Live changes of times restart the service's replica, and lose nothing.
func TestTuningIsLive(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.mustPublisher("flights").stored(1, 1, bodies("a"))
	n.apply(replace(t, testRealm, "durability: async", "durability: async\n    profile: fast"))
	n.until("it leads again", func() bool { return n.reconciler.all()[0].group.Leads() })
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(1)
}

// An Open that fails undoes what it did: the same directory and ports serve the
// next one.
func TestOpenUndoes(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := used.Close(); err != nil {
			t.Error(err)
		}
	}()
	config := single(t)
	for _, key := range []struct {
		name string
		addr *string
	}{{"listen_client", &config.ListenClient}, {"listen_peer", &config.ListenPeer}, {"listen_ops", &config.ListenOps}} {
		free := *key.addr
		*key.addr = used.Addr().String()
		_, err := Open(t.Context(), config, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), key.name) || !strings.Contains(err.Error(), used.Addr().String()) {
			t.Errorf("%s in use: %v", key.name, err)
		}
		*key.addr = free
	}
	n := open(t, config)
	_, err = Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if !errors.Is(err, raftlog.ErrLocked) {
		t.Errorf("a second server on one directory: %v", err)
	}
	n.apply(testRealm)
}

func TestOpenRefusesDirectories(t *testing.T) {
	t.Parallel()
	config := single(t)
	config.Data = filepath.Join(t.TempDir(), "missing", "parent")
	if _, err := Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "parent") {
		t.Errorf("no parent: %v", err)
	}
	config.Data = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(config.Data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("a file: %v", err)
	}
	config = single(t)
	n := open(t, config)
	n.stop()
	config.Name, config.Core = "s2", "s2=127.0.0.1:1"
	if _, err := Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `belongs to server "s1"`) {
		t.Errorf("another server's directory: %v", err)
	}
}

func TestCloseIsIdempotentAndEndsStreams(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("flights")
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", CreditMessages: 1})
	p.stored(1, 1, bodies("a", "b"))
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- n.Close(context.Background()) }()
	}
	for _, end := range []func() error{p.end, s.end} {
		if err := end(); errors.Is(err, io.EOF) || status.Code(err) != codes.Unavailable {
			t.Errorf("stream ended with %v", err)
		}
	}
	for range 2 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	<-n.Done()
}
