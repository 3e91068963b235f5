package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster of servers in memory. They share one store and one durable:
// what Raft does is not the client's business. Faults are set from the test.
type world struct {
	t  testing.TB
	mu sync.Mutex

	servers map[string]*fakeServer
	leader  string // "" while there is none
	term    uint64
	epoch   uint64
	lineage uint64
	store   *fakeStore
	durable *fakeDurable

	noconfirm bool
	unknown   bool                                          // the endpoint does not exist
	onBatch   func(*perdurepb.PublishRequest) verdict       // nil: take it
	onOpen    func(*perdurepb.PublishOpen) error            // nil: open
	onSub     func(*perdurepb.SubscribeOpen) error          // nil: open
	admin     func(server string, request any) (any, error) // of every admin call
	onState   func(server string, stream any) error         // of every call about a state
	opened    []string                                      // servers that opened a publish stream
	subOpened []string                                      // and a subscribe stream
	settles   []*perdurepb.Settle                           // all that came
	credits   []*perdurepb.Credit                           // all that came
	frames    []string                                      // kinds of subscribe requests, in order
	resolves  int
}

// verdict is what becomes of a batch.
type verdict struct {
	reason perdurepb.Reason // reject with it
	early  bool             // before it is proposed: the attempt stays open
	lose   bool             // take it, but break the stream instead of answering
	drop   bool             // break the stream without taking it
	silent bool             // do not take it, do not answer
	pause  time.Duration    // before it is taken
}

type fakeServer struct {
	perdurepb.UnimplementedMessagesServer
	perdurepb.UnimplementedAdminServer
	w       *world
	address string
	lis     *bufconn.Listener
	grpc    *grpc.Server
	frozen  bool // takes connections and says nothing
}

const (
	heartbeatMillis = 1000
	timeoutMillis   = 5000
)

// newWorld starts servers s1, s2 and s3; s1 leads.
func newWorld(t testing.TB) *world {
	w := &world{t: t, servers: map[string]*fakeServer{}, leader: "s1", term: 1, store: newFakeStore(), durable: newFakeDurable()}
	for _, a := range []string{"s1", "s2", "s3"} {
		w.start(a)
	}
	return w
}

func (w *world) start(address string) {
	s := &fakeServer{w: w, address: address, lis: bufconn.Listen(1 << 20)}
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(perdurepb.Codec()), grpc.MaxRecvMsgSize(33<<20), grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.StaticStreamWindowSize(4<<20), grpc.StaticConnWindowSize(16<<20),
	)
	perdurepb.RegisterMessagesServer(s.grpc, s)
	perdurepb.RegisterAdminServer(s.grpc, s)
	w.mu.Lock()
	w.servers[address] = s
	w.mu.Unlock()
	go func() { _ = s.grpc.Serve(s.lis) }()
}

// kill ends a server as kill -9 does: its connections close.
func (w *world) kill(address string) {
	w.mu.Lock()
	s := w.servers[address]
	delete(w.servers, address)
	if w.leader == address {
		w.leader = ""
	}
	w.mu.Unlock()
	if s != nil {
		s.grpc.Stop()
	}
}

// lead makes a server the leader of the next term.
func (w *world) lead(address string) {
	w.mu.Lock()
	w.leader = address
	w.term++
	w.mu.Unlock()
	w.durable.newLeader()
}

func (w *world) stop() {
	for _, a := range []string{"s1", "s2", "s3"} {
		w.kill(a)
	}
}

func (w *world) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	s := w.servers[address]
	w.mu.Unlock()
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.lis.DialContext(ctx)
}

// connect returns a client that the test closes.
func (w *world) connect(opts ...client.Option) *client.Client {
	w.t.Helper()
	opts = append([]client.Option{client.WithDialer(w.dial), client.WithName("test")}, opts...)
	c, err := client.Connect(context.Background(), "s1,s2,s3", opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// inWorld runs a test in a bubble with fake time. Everything that it starts has
// ended when it returns, or it fails.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		f(t, w)
	})
}

// pass lets time pass in the bubble.
func pass(d time.Duration) { time.Sleep(d) }

func (w *world) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func refuse(reason perdurepb.Reason, leader string) error {
	e := &perdurepb.Error{Reason: reason, Message: "test: " + reason.String()}
	if leader != "" {
		e.Leader = &perdurepb.Leader{Server: leader, Address: leader}
	}
	s, err := status.New(codes.FailedPrecondition, e.Message).WithDetails(e)
	if err != nil {
		return err
	}
	return s.Err()
}

// freeze makes a server hang as SIGSTOP does.
func (w *world) freeze(address string) { w.with(func() { w.servers[address].frozen = true }) }

// hang blocks while the server is frozen.
func (s *fakeServer) hang(ctx context.Context) error {
	s.w.mu.Lock()
	frozen := s.frozen
	s.w.mu.Unlock()
	if frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (s *fakeServer) Resolve(ctx context.Context, r *perdurepb.ResolveRequest) (*perdurepb.ResolveResponse, error) {
	if err := s.hang(ctx); err != nil {
		return nil, err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.resolves++
	if s.w.unknown {
		return nil, refuse(perdurepb.Reason_REASON_NO_SUCH_ENDPOINT, "")
	}
	response := &perdurepb.ResolveResponse{EndpointId: 1, StoreId: 1, Store: "flights", Cluster: "main"}
	if s.w.leader != "" {
		response.Leader = &perdurepb.Leader{Server: s.w.leader, Address: s.w.leader}
	}
	for _, a := range []string{"s1", "s2", "s3"} {
		response.Candidates = append(response.Candidates, &perdurepb.Leader{Server: a, Address: a})
	}
	return response, nil
}

// leads refuses what only the leader serves.
func (s *fakeServer) leads(ctx context.Context) error {
	if err := s.hang(ctx); err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.leader == s.address {
		return nil
	}
	if s.w.leader == "" {
		return refuse(perdurepb.Reason_REASON_NO_LEADER, "")
	}
	return refuse(perdurepb.Reason_REASON_NOT_LEADER, s.w.leader)
}

// fakeStore does what a store does for publisher sessions.
type fakeStore struct {
	sessions map[uint64]*fakeSession
	next     uint64
	bodies   []string // of every message stored, in order
	full     bool
}

type fakeSession struct {
	last     uint64
	attempt  uint32
	closed   bool
	outcomes map[uint64]*perdurepb.PublishOutcome
	sums     map[uint64]uint64
}

func newFakeStore() *fakeStore { return &fakeStore{sessions: map[uint64]*fakeSession{}} }

func (st *fakeStore) open() uint64 {
	st.next++
	st.sessions[st.next] = &fakeSession{attempt: 1, outcomes: map[uint64]*perdurepb.PublishOutcome{}, sums: map[uint64]uint64{}}
	return st.next
}

// apply is the rule of design section 4.
func (st *fakeStore) apply(session uint64, r *perdurepb.PublishRequest, v verdict) *perdurepb.PublishOutcome {
	o := &perdurepb.PublishOutcome{Sequence: r.Sequence, Attempt: r.Attempt}
	fail := func(reason perdurepb.Reason) *perdurepb.PublishOutcome {
		o.Error = &perdurepb.Error{Reason: reason}
		return o
	}
	x := st.sessions[session]
	if x == nil {
		return fail(perdurepb.Reason_REASON_SESSION_UNKNOWN)
	}
	b, err := message.ParseBatch(r.Batch)
	if err != nil {
		return fail(perdurepb.Reason_REASON_BATCH_CORRUPT)
	}
	if r.Sequence <= x.last {
		if x.sums[r.Sequence] != b.Sum() {
			return fail(perdurepb.Reason_REASON_SEQUENCE_REUSED)
		}
		old := x.outcomes[r.Sequence]
		o.FirstId, o.Count, o.Interested, o.Duplicate = old.FirstId, old.Count, old.Interested, true
		return o
	}
	switch {
	case r.Attempt < x.attempt || r.Attempt == x.attempt && x.closed:
		return fail(perdurepb.Reason_REASON_ABORTED)
	case r.Sequence != x.last+1:
		o = fail(perdurepb.Reason_REASON_SEQUENCE_GAP)
		o.Error.LastSequence = x.last
		return o
	}
	if v.early {
		return fail(v.reason)
	}
	x.attempt, x.closed = r.Attempt, false
	if v.reason == 0 && st.full {
		v.reason = perdurepb.Reason_REASON_STORE_FULL
	}
	if v.reason != 0 {
		x.closed = true
		return fail(v.reason)
	}
	o.FirstId, o.Count, o.Interested = uint64(len(st.bodies))+1, uint32(b.Count()), true
	for i := range b.Count() {
		body, err := b.Body(i)
		if err != nil {
			return fail(perdurepb.Reason_REASON_BATCH_CORRUPT)
		}
		st.bodies = append(st.bodies, string(body))
	}
	x.last = r.Sequence
	x.outcomes[r.Sequence], x.sums[r.Sequence] = o, b.Sum()
	return o
}

func (s *fakeServer) Publish(stream perdurepb.Messages_PublishServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := s.leads(stream.Context()); err != nil {
		return err
	}
	opened, err := s.open(first.Open)
	if err != nil {
		return err
	}
	if err := stream.Send(&perdurepb.PublishResponse{Opened: opened}); err != nil {
		return err
	}
	stop := s.beat(stream.Context(), func() error { return stream.Send(&perdurepb.PublishResponse{Heartbeat: true}) })
	defer stop()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.hang(stream.Context()); err != nil {
			return err
		}
		if err := s.leads(stream.Context()); err != nil {
			return err
		}
		if len(r.Batch) == 0 {
			continue
		}
		s.w.mu.Lock()
		var v verdict
		if s.w.onBatch != nil {
			v = s.w.onBatch(r)
		}
		if v.pause > 0 {
			s.w.mu.Unlock()
			pass(v.pause)
			s.w.mu.Lock()
		}
		if v.drop {
			s.w.mu.Unlock()
			return errors.New("broken")
		}
		if v.silent {
			s.w.mu.Unlock()
			continue
		}
		o := s.w.store.apply(opened.Session, r, v)
		quiet := s.w.noconfirm
		s.w.mu.Unlock()
		if v.lose {
			return errors.New("broken")
		}
		if quiet {
			continue
		}
		if err := stream.Send(&perdurepb.PublishResponse{Outcomes: []*perdurepb.PublishOutcome{o}}); err != nil {
			return err
		}
	}
}

func (s *fakeServer) open(open *perdurepb.PublishOpen) (*perdurepb.PublishOpened, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.onOpen != nil {
		if err := s.w.onOpen(open); err != nil {
			return nil, err
		}
	}
	s.w.opened = append(s.w.opened, s.address)
	session := open.Session
	if session == 0 {
		session = s.w.store.open()
	}
	x := s.w.store.sessions[session]
	if x == nil {
		return nil, refuse(perdurepb.Reason_REASON_SESSION_UNKNOWN, "")
	}
	return &perdurepb.PublishOpened{
		Session: session, StoreId: 1, Store: "flights", Epoch: s.w.epoch, LastSequence: x.last, Attempt: x.attempt,
		MaxMessageSize: message.MaxMessageSize, Durability: perdurepb.Durability_DURABILITY_ASYNC,
		Noconfirm: s.w.noconfirm, HeartbeatMs: heartbeatMillis, TimeoutMs: timeoutMillis, Term: s.w.term,
	}, nil
}

// beat sends heartbeats until the returned function is called.
func (s *fakeServer) beat(ctx context.Context, send func() error) func() {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(heartbeatMillis * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.w.mu.Lock()
			frozen := s.frozen
			s.w.mu.Unlock()
			if !frozen && send() != nil {
				return
			}
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

// stored returns the bodies in the store.
func (w *world) stored() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.store.bodies)
}

func text(s string) *message.Message { return &message.Message{Body: []byte(s)} }

// numbered returns "0" to "n-1".
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return list
}
