package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/raftlog"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

// producers names the test that produces each reason on the wire. TestMain sees
// to it that the list is true.
var producers = map[perdurepb.Reason]string{
	perdurepb.Reason_REASON_INVALID_ARGUMENT:   "TestSequencesThroughTheStream",
	perdurepb.Reason_REASON_NO_SUCH_ENDPOINT:   "TestNamesThatDoNotExist",
	perdurepb.Reason_REASON_NO_SUCH_STORE:      "TestNamesThatDoNotExist",
	perdurepb.Reason_REASON_NO_SUCH_DURABLE:    "TestNamesThatDoNotExist",
	perdurepb.Reason_REASON_INVALID_NAME:       "TestNames",
	perdurepb.Reason_REASON_INVALID_MATCHER:    "TestMatchersAndKinds",
	perdurepb.Reason_REASON_MATCHER_MISMATCH:   "TestMatchersAndKinds",
	perdurepb.Reason_REASON_KIND_MISMATCH:      "TestMatchersAndKinds",
	perdurepb.Reason_REASON_NO_TEMPLATE:        "TestMatchersAndKinds",
	perdurepb.Reason_REASON_NO_SUCH_CLUSTER:    "TestSuspendWhatIsNotThere",
	perdurepb.Reason_REASON_SUSPENDED:          "TestSuspended",
	perdurepb.Reason_REASON_NOT_SUSPENDED:      "TestSaveRefused",
	perdurepb.Reason_REASON_MESSAGE_TOO_LARGE:  "TestRefusedBatches",
	perdurepb.Reason_REASON_BATCH_TOO_LARGE:    "TestRefusedBatches",
	perdurepb.Reason_REASON_BATCH_CORRUPT:      "TestRefusedBatches",
	perdurepb.Reason_REASON_STORE_FULL:         "TestStoreFull",
	perdurepb.Reason_REASON_SEQUENCE_GAP:       "TestSequencesThroughTheStream",
	perdurepb.Reason_REASON_SEQUENCE_REUSED:    "TestSequencesThroughTheStream",
	perdurepb.Reason_REASON_RECEIPT_FORGOTTEN:  "TestSequencesThroughTheStream",
	perdurepb.Reason_REASON_ABORTED:            "TestRefusedBatches",
	perdurepb.Reason_REASON_SESSION_UNKNOWN:    "TestSessionsThatCannotBeResumed",
	perdurepb.Reason_REASON_EPOCH_CHANGED:      "TestSessionsThatCannotBeResumed",
	perdurepb.Reason_REASON_NOT_OWNER:          "TestNotOwner",
	perdurepb.Reason_REASON_FORCE_CLOSED:       "TestTakeoverThroughTheStream",
	perdurepb.Reason_REASON_DURABLE_DELETED:    "TestDurableDeleted",
	perdurepb.Reason_REASON_ALREADY_SUBSCRIBED: "TestTakeoverThroughTheStream",
	perdurepb.Reason_REASON_NOT_LEADER:         "TestThreeServers",
	perdurepb.Reason_REASON_NO_LEADER:          "TestNoLeader",
	perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN: "TestMemoryIsForgotten",
	perdurepb.Reason_REASON_OVERLOADED:         "TestStreamsAreBounded",
	perdurepb.Reason_REASON_STOPPING:           "TestThreeServers",
	perdurepb.Reason_REASON_OUTCOME_UNKNOWN:    "TestThreeServers",
	perdurepb.Reason_REASON_CLIENT_TIMEOUT:     "TestSilentClients",
	perdurepb.Reason_REASON_CORRUPT:            "TestStoredBatchIsCorrupt",
	perdurepb.Reason_REASON_REALM_INVALID:      "TestRealmErrors",
	perdurepb.Reason_REASON_REVISION_CONFLICT:  "TestRealmErrors",
	perdurepb.Reason_REASON_REALM_FORMING:      "TestForming",
	perdurepb.Reason_REASON_STATE_TRUNCATED:    "TestLoadBadFiles",
	perdurepb.Reason_REASON_STATE_ALTERED:      "TestLoadBadFiles",
	perdurepb.Reason_REASON_STATE_FOREIGN:      "TestLoadBadFiles",
	perdurepb.Reason_REASON_STATE_NEWER:        "TestLoadBadFiles",
	perdurepb.Reason_REASON_NOT_EMPTY:          "TestLoadRefused",
	perdurepb.Reason_REASON_LOAD_REFUSED:       "TestLoadRefused",
	perdurepb.Reason_REASON_LOADING:            "TestLoadInterrupted",
	perdurepb.Reason_REASON_NO_SUCH_LOAD:       "TestLoadInterrupted",
	perdurepb.Reason_REASON_NO_SUCH_FILE:       "TestStateFiles",
	perdurepb.Reason_REASON_FILE_FAILED:        "TestStateFiles",
	perdurepb.Reason_REASON_INTERNAL:           "TestPanicsAreAnswered",
}

func TestEveryReasonIsDecidedAndProduced(t *testing.T) {
	var tests strings.Builder
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range names {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	values := perdurepb.Reason(0).Descriptor().Values()
	for i := range values.Len() {
		r := perdurepb.Reason(values.Get(i).Number())
		n, decided := natures[r]
		if r == perdurepb.Reason_REASON_UNSPECIFIED {
			if decided {
				t.Errorf("%v is no reason", r)
			}
			continue
		}
		if !decided || n.code == codes.OK {
			t.Errorf("%v has no status code", r)
		}
		if test := producers[r]; !strings.Contains(tests.String(), "func "+test+"(t *testing.T)") {
			t.Errorf("%v: no test %q produces it", r, test)
		}
	}
	if len(natures) != values.Len()-1 {
		t.Errorf("%d reasons decided, there are %d", len(natures), values.Len()-1)
	}
}

// Whatever may pass by itself is a code that foreign clients retry, and the
// other way round, with few exceptions.
func TestCodesAgreeWithRetrying(t *testing.T) {
	passing := []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Unknown}
	exceptions := []perdurepb.Reason{
		perdurepb.Reason_REASON_SEQUENCE_GAP,      // go on at another sequence
		perdurepb.Reason_REASON_FORCE_CLOSED,      // it would take turns for ever
		perdurepb.Reason_REASON_REVISION_CONFLICT, // read what the other one wrote first
		perdurepb.Reason_REASON_CORRUPT,           // the next leader has a copy of its own
	}
	for r, n := range natures {
		if n.retry != slices.Contains(passing, n.code) && !slices.Contains(exceptions, r) {
			t.Errorf("%v: code %v, retryable %v", r, n.code, n.retry)
		}
	}
}

func TestAsFault(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want perdurepb.Reason
	}{
		{cluster.ErrNotLeader, perdurepb.Reason_REASON_NOT_LEADER},
		{cluster.ErrStopped, perdurepb.Reason_REASON_STOPPING},
		{cluster.ErrUnknownOutcome, perdurepb.Reason_REASON_OUTCOME_UNKNOWN},
		{cluster.ErrInstalling, perdurepb.Reason_REASON_OVERLOADED},
		{cluster.ErrTooLarge, perdurepb.Reason_REASON_BATCH_TOO_LARGE},
		{cluster.ErrMayHaveForgotten, perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN},
		{service.ErrForceClosed, perdurepb.Reason_REASON_FORCE_CLOSED},
		{service.ErrNoDurable, perdurepb.Reason_REASON_NO_SUCH_DURABLE},
		{raftlog.ErrCorrupt, perdurepb.Reason_REASON_CORRUPT},
		{message.ErrName, perdurepb.Reason_REASON_INVALID_NAME},
		{message.ErrUTF8, perdurepb.Reason_REASON_INVALID_ARGUMENT},
		{message.ErrVersion, perdurepb.Reason_REASON_BATCH_CORRUPT},
		{context.Canceled, perdurepb.Reason_REASON_OUTCOME_UNKNOWN},
		{faultf(perdurepb.Reason_REASON_OVERLOADED, "x"), perdurepb.Reason_REASON_OVERLOADED},
		{errors.New("canary: a path of the server"), perdurepb.Reason_REASON_INTERNAL},
	} {
		f := asFault(fmt.Errorf("somewhere: %w", tc.err))
		if f.reason != tc.want {
			t.Errorf("%v became %v", tc.err, f.reason)
		}
		if strings.Contains(f.text, "canary") {
			t.Errorf("an internal error shows its text: %s", f.text)
		}
		checkError(t, reasonOf(t, f))
	}
}

// Every result of a command that a client can cause has a reason of its own.
func TestResultReasons(t *testing.T) {
	internal := []store.Code{store.OK, store.StaticDurable, store.Stale, store.NameTaken, store.Diverged}
	for c := range store.Diverged + 1 {
		_, ok := resultReasons[c]
		if ok == slices.Contains(internal, c) {
			t.Errorf("result %v: has a reason: %v", c, ok)
		}
	}
	f := resultFault(store.Result{Code: store.SequenceGap, Last: 7, Detail: "sequence 9 follows 7"})
	if f.last != 7 || !strings.Contains(f.text, "9 follows 7") {
		t.Errorf("fault %+v", f)
	}
}

func TestReceiveFault(t *testing.T) {
	var gone *goneError
	if err := receiveFault(status.Error(codes.Canceled, "the client left")); !errors.As(err, &gone) || status.Code(err) != codes.Canceled {
		t.Errorf("a client that left: %v", err)
	}
	s := &Server{logger: slog.New(slog.DiscardHandler)}
	if err := s.streamEnd(t.Context(), receiveFault(status.Error(codes.Canceled, "the client left")), nil); status.Code(err) != codes.Canceled {
		t.Errorf("stream of a client that left: %v", err)
	}
	if err := s.streamEnd(t.Context(), errors.Join(io.EOF), nil); err != nil {
		t.Errorf("stream that ended well: %v", err)
	}
	wantReason(t, receiveFault(status.Error(codes.ResourceExhausted, "too large")), perdurepb.Reason_REASON_BATCH_TOO_LARGE)
	wantReason(t, receiveFault(status.Error(codes.Internal, "unmarshal")), perdurepb.Reason_REASON_INVALID_ARGUMENT)
}

// careless panics in everything that it serves.
type careless struct {
	perdurepb.UnimplementedMessagesServer
	s *Server
}

func (careless) Resolve(context.Context, *perdurepb.ResolveRequest) (*perdurepb.ResolveResponse, error) {
	panic("resolve")
}
func (careless) Publish(perdurepb.Messages_PublishServer) error { panic("publish") }
func (c careless) Subscribe(stream perdurepb.Messages_SubscribeServer) error {
	o := newOutbox[int]()
	c.s.receive(o.end, func() error { panic("receive") })
	return c.s.streamEnd(stream.Context(), converse(stream.Context(), c.s.spawn, o, newPulse(patience, patience), nil, nil), &target{cluster: &catalog.ClusterView{}, store: &catalog.StoreView{}})
}

// A panic while serving a client costs that client's call, nobody else's.
func TestPanicsAreAnswered(t *testing.T) {
	s := &Server{logger: slog.New(slog.DiscardHandler)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.ForceServerCodecV2(perdurepb.Codec()), grpc.UnaryInterceptor(s.guardCall), grpc.StreamInterceptor(s.guardStream))
	perdurepb.RegisterMessagesServer(g, careless{s: s})
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c := perdurepb.NewMessagesClient(conn)
	_, err = c.Resolve(t.Context(), &perdurepb.ResolveRequest{})
	wantReason(t, err, perdurepb.Reason_REASON_INTERNAL)
	p, err := c.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Recv()
	wantReason(t, err, perdurepb.Reason_REASON_INTERNAL)
	sub, err := c.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = sub.Recv()
	wantReason(t, err, perdurepb.Reason_REASON_INTERNAL)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	g.Stop()
	s.helpers.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := s.metrics.panics.Load(); got != 3 {
		t.Errorf("%d panics counted", got)
	}
}
