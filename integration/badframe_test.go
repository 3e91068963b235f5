package integration

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
)

// stranger speaks the public protocol without the care of our client.
type stranger struct {
	t *testing.T
	m perdurepb.MessagesClient
}

func newStranger(t *testing.T, address string) stranger {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(perdurepb.Codec()), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return stranger{t, perdurepb.NewMessagesClient(conn)}
}

// reason is what a status says.
func reason(err error) perdurepb.Reason {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*perdurepb.Error); ok {
			return e.Reason
		}
	}
	return perdurepb.Reason_REASON_UNSPECIFIED
}

// publishing is a publish stream of a stranger.
type publishing struct {
	stranger
	stream   perdurepb.Messages_PublishClient
	sequence uint64
	attempt  uint32
}

func (s stranger) publish(endpoint string) *publishing {
	s.t.Helper()
	stream, err := s.m.Publish(within(s.t, time.Minute))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := stream.Send(&perdurepb.PublishRequest{Open: &perdurepb.PublishOpen{Endpoint: endpoint}}); err != nil {
		s.t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	return &publishing{s, stream, r.GetOpened().GetLastSequence(), r.GetOpened().GetAttempt()}
}

// outcome sends a batch and returns what became of it.
func (p *publishing) outcome(sequence uint64, attempt uint32, batch []byte) *perdurepb.PublishOutcome {
	p.t.Helper()
	if err := p.stream.Send(&perdurepb.PublishRequest{Sequence: sequence, Attempt: attempt, Batch: batch}); err != nil {
		_, err = p.stream.Recv()
		p.t.Fatalf("send: %v", err)
	}
	for {
		r, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("sequence %d: the stream ended: %v", sequence, err)
		}
		for _, o := range r.GetOutcomes() {
			if o.Sequence == sequence {
				return o
			}
		}
	}
}

// next publishes the next batch. A refused one does not take its sequence, and
// ends the attempt.
func (p *publishing) next(batch []byte) perdurepb.Reason {
	p.t.Helper()
	o := p.outcome(p.sequence+1, p.attempt, batch)
	if o.Error == nil {
		p.sequence++
		return perdurepb.Reason_REASON_UNSPECIFIED
	}
	p.attempt++
	return o.Error.Reason
}

func batchOf(bodies ...string) []byte {
	var b message.Builder
	b.SetMaxMessageSize(message.HardMaxMessageSize)
	for _, body := range bodies {
		if err := b.Add(&message.Message{Body: []byte(body)}); err != nil {
			panic(err)
		}
	}
	return b.AppendTo(nil, message.Options{})
}

// TestMalformedBatches sends batches that are wrong by a bit, too short, too
// large or out of turn. Each is refused with its reason, none is stored, and the
// publisher goes on under its next attempt.
func TestMalformedBatches(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Stores: []string{"bad"}}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	p := newStranger(t, f.Leader("main").Client).publish("bad")
	good := batchOf("one", "two")
	if r := p.next(good); r != 0 {
		t.Fatalf("a good batch: %v", r)
	}
	for at := range good {
		flipped := append([]byte(nil), good...)
		flipped[at] ^= 1 << (at % 8)
		if r := p.next(flipped); r != perdurepb.Reason_REASON_BATCH_CORRUPT {
			t.Errorf("bit %d of byte %d flipped: %v", at%8, at, r)
		}
		if at > 0 {
			if r := p.next(good[:at]); r != perdurepb.Reason_REASON_BATCH_CORRUPT {
				t.Errorf("cut after byte %d: %v", at, r)
			}
		}
	}
	if r := p.next(append(append([]byte(nil), good...), 0)); r != perdurepb.Reason_REASON_BATCH_CORRUPT {
		t.Errorf("a byte too much: %v", r)
	}
	if r := p.next(make([]byte, 33<<20+1)); r != perdurepb.Reason_REASON_BATCH_TOO_LARGE && r != perdurepb.Reason_REASON_BATCH_CORRUPT {
		t.Errorf("zeros, over the hard limit: %v", r)
	}
	if r := p.next(batchOf(strings.Repeat("x", message.MaxMessageSize+1))); r != perdurepb.Reason_REASON_MESSAGE_TOO_LARGE {
		t.Errorf("a message over the store's limit: %v", r)
	}
	o := p.outcome(p.sequence+5, p.attempt, good)
	if o.GetError().GetReason() != perdurepb.Reason_REASON_SEQUENCE_GAP || o.GetError().GetLastSequence() != p.sequence {
		t.Errorf("a sequence skipped: %v", o)
	}
	if o := p.outcome(p.sequence, p.attempt, good); o.Error != nil || !o.Duplicate {
		t.Errorf("a batch sent again: %v", o)
	}
	if o := p.outcome(p.sequence, p.attempt, batchOf("other", "bytes")); o.GetError().GetReason() != perdurepb.Reason_REASON_SEQUENCE_REUSED {
		t.Errorf("other bytes under a sequence that was used: %v", o)
	}
	if r := p.next(batchOf("")); r != 0 {
		t.Errorf("an empty body is fine: %v", r)
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("bad", harness.Standard, 3)
	f.AwaitIdentical("main")
}

// TestMalformedStreams opens streams that are wrong. Each ends with its reason,
// and the server serves others.
func TestMalformedStreams(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	s := newStranger(t, f.Leader("main").Client)
	open := func(o *perdurepb.PublishOpen) *perdurepb.PublishRequest { return &perdurepb.PublishRequest{Open: o} }
	for _, tc := range []struct {
		name   string
		frames []*perdurepb.PublishRequest
		code   codes.Code
		reason perdurepb.Reason
	}{
		{"no open", []*perdurepb.PublishRequest{{Sequence: 1, Batch: batchOf("x")}}, codes.InvalidArgument, perdurepb.Reason_REASON_INVALID_ARGUMENT},
		{"nothing at all", []*perdurepb.PublishRequest{{}}, codes.InvalidArgument, perdurepb.Reason_REASON_INVALID_ARGUMENT},
		{"an unknown endpoint", []*perdurepb.PublishRequest{open(&perdurepb.PublishOpen{Endpoint: "mian"})}, codes.NotFound, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT},
		{"no endpoint", []*perdurepb.PublishRequest{open(&perdurepb.PublishOpen{})}, codes.InvalidArgument, perdurepb.Reason_REASON_INVALID_NAME},
		{"another store", []*perdurepb.PublishRequest{open(&perdurepb.PublishOpen{Endpoint: "main", StoreId: 999})}, codes.NotFound, perdurepb.Reason_REASON_NO_SUCH_STORE},
		{"an unknown session", []*perdurepb.PublishRequest{open(&perdurepb.PublishOpen{Endpoint: "main", Session: 999})}, codes.FailedPrecondition, perdurepb.Reason_REASON_SESSION_UNKNOWN},
		{"a frame over the limit", []*perdurepb.PublishRequest{open(&perdurepb.PublishOpen{Endpoint: "main"}),
			{Sequence: 1, Attempt: 1, Batch: make([]byte, 40<<20)}}, codes.ResourceExhausted, 0},
	} {
		stream, err := s.m.Publish(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, frame := range tc.frames {
			if err := stream.Send(frame); err != nil {
				break // Recv says why
			}
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != tc.code || reason(err) != tc.reason {
			t.Errorf("%s: %v, reason %v; want %v, %v", tc.name, err, reason(err), tc.code, tc.reason)
		}
	}
	for _, tc := range []struct {
		name   string
		open   *perdurepb.SubscribeOpen
		reason perdurepb.Reason
	}{
		{"an unknown endpoint", &perdurepb.SubscribeOpen{Endpoint: "nowhere"}, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT},
		{"an unknown subscriber", &perdurepb.SubscribeOpen{Endpoint: "main", Subscriber: "nobody"}, perdurepb.Reason_REASON_NO_SUCH_DURABLE},
		{"a reserved name", &perdurepb.SubscribeOpen{Endpoint: "main", Durable: "_x"}, perdurepb.Reason_REASON_INVALID_NAME},
		{"a name of 257 bytes", &perdurepb.SubscribeOpen{Endpoint: "main", Durable: strings.Repeat("x", 257)}, perdurepb.Reason_REASON_INVALID_NAME},
		{"a matcher that does not parse", &perdurepb.SubscribeOpen{Endpoint: "main", Durable: "mine", Matcher: "{"}, perdurepb.Reason_REASON_INVALID_MATCHER},
		{"another matcher", &perdurepb.SubscribeOpen{Endpoint: "main", Durable: harness.Standard, Matcher: `{"a":1}`}, perdurepb.Reason_REASON_MATCHER_MISMATCH},
		{"another kind", &perdurepb.SubscribeOpen{Endpoint: "main", Durable: harness.Standard, Kind: perdurepb.Kind_KIND_SHARED}, perdurepb.Reason_REASON_KIND_MISMATCH},
	} {
		stream, err := s.m.Subscribe(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&perdurepb.SubscribeRequest{Open: tc.open}); err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); reason(err) != tc.reason {
			t.Errorf("subscribe, %s: %v, reason %v; want %v", tc.name, err, reason(err), tc.reason)
		}
	}
	if stream, err := s.m.Subscribe(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	} else if err := stream.Send(&perdurepb.SubscribeRequest{Open: &perdurepb.SubscribeOpen{Endpoint: "main", Durable: strings.Repeat("n", 256)}}); err != nil {
		t.Fatal(err)
	} else if r, err := stream.Recv(); err != nil || !r.GetOpened().GetCreated() {
		t.Errorf("a name of 256 bytes is fine: %v, %v", r, err)
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
}

// TestMalformedSettlements acknowledges and gives back what a subscriber was
// never given, in ranges that no loop must walk through. Others keep what is
// theirs.
func TestMalformedSettlements(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main", Stores: []string{"mine"}}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	p, err := f.Client().Publisher(within(t, 10*time.Second), "mine")
	if err != nil {
		t.Fatal(err)
	}
	holder, err := f.Client().Subscribe(within(t, 10*time.Second), "mine", client.SubscriberName(harness.Worker))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := p.Publish(within(t, 10*time.Second), &message.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // all are held, and none is acknowledged
		if _, err := holder.Receive(within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	s := newStranger(t, f.Leader("main").Client)
	for _, frame := range []*perdurepb.SubscribeRequest{
		{Settle: &perdurepb.Settle{Acks: []uint64{1, 100}}},
		{Settle: &perdurepb.Settle{Acks: []uint64{0, math.MaxUint64}}},
		{Settle: &perdurepb.Settle{Acks: []uint64{1}}},
		{Settle: &perdurepb.Settle{Acks: []uint64{100, 1}}},
		{Settle: &perdurepb.Settle{Acks: []uint64{1, math.MaxUint64, 1, math.MaxUint64}}},
		{Settle: &perdurepb.Settle{Nacks: []*perdurepb.Nack{{First: 0, Last: math.MaxUint64, DelayMs: math.MaxUint64}}}},
		{Settle: &perdurepb.Settle{Nacks: []*perdurepb.Nack{{First: 100, Last: 1}, nil, {}}}},
		{Credit: &perdurepb.Credit{Messages: math.MaxUint64, Bytes: math.MaxUint64}},
		{Open: &perdurepb.SubscribeOpen{Endpoint: "mine"}},
		{},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		stream, err := s.m.Subscribe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&perdurepb.SubscribeRequest{Open: &perdurepb.SubscribeOpen{Endpoint: "mine", Subscriber: harness.Worker}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		if frame.Settle != nil {
			frame.Settle.Token = 7
		}
		// Twice: a sum may overflow.
		for range 2 {
			_ = stream.Send(frame) // the stream may have ended by now
		}
		_ = stream.CloseSend()
		for err == nil {
			_, err = stream.Recv() // that it ends, and not by our deadline, is what matters
		}
		if status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("%v: the server says nothing any more", frame)
		}
		cancel()
	}
	h.AwaitProgress(30 * time.Second)
	f.AwaitPending("mine", harness.Shared, 100) // nobody settled what the holder holds
	h.Finish()
	f.AwaitIdentical("main")
}
