package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/durable/dispatch"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
)

func TestNamesThatDoNotExist(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	_, err := n.messages.Resolve(n.ctx(), &perdurepb.ResolveRequest{Endpoint: "fligths"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT); !strings.Contains(e.Message, `"flights"`) {
		t.Errorf("no suggestion: %s", e.Message)
	}
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "nowhere"})
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT)
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "flights", StoreId: 999})
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_STORE)
	_, err = n.subscriber(&perdurepb.SubscribeOpen{Endpoint: "nowhere"})
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_ENDPOINT)
	_, err = n.subscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "nobody"})
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_DURABLE)
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	for _, bad := range []string{strings.Repeat("x", 257), "_mine"} {
		_, err := n.subscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: bad, Kind: perdurepb.Kind_KIND_SHARED})
		wantReason(t, err, perdurepb.Reason_REASON_INVALID_NAME)
		_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: bad})
		wantReason(t, err, perdurepb.Reason_REASON_INVALID_NAME)
	}
	_, err := n.messages.Resolve(n.ctx(), &perdurepb.ResolveRequest{})
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_NAME)
	long := strings.Repeat("x", 256)
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: long, Kind: perdurepb.Kind_KIND_SHARED})
	if !s.opened.Created || s.opened.Durable != long {
		t.Fatalf("opened %v", s.opened)
	}
	again := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: long})
	if again.opened.Created || again.opened.Kind != perdurepb.Kind_KIND_SHARED || again.opened.DurableId != s.opened.DurableId {
		t.Fatalf("opened %v", again.opened)
	}
}

func TestMatchersAndKinds(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	for _, tc := range []struct {
		name string
		open *perdurepb.SubscribeOpen
		want perdurepb.Reason
		text string
	}{
		{"matcher that does not parse", &perdurepb.SubscribeOpen{Durable: "x", Matcher: `{"a":}`}, perdurepb.Reason_REASON_INVALID_MATCHER, "byte 6"},
		{"another matcher", &perdurepb.SubscribeOpen{Durable: "vegas", Matcher: `{"origin":"JFK"}`}, perdurepb.Reason_REASON_MATCHER_MISMATCH, "JFK"},
		{"a matcher where there is none", &perdurepb.SubscribeOpen{Durable: "delays", Matcher: `{"origin":"JFK"}`}, perdurepb.Reason_REASON_MATCHER_MISMATCH, "{}"},
		{"another kind", &perdurepb.SubscribeOpen{Durable: "delays", Kind: perdurepb.Kind_KIND_STANDARD}, perdurepb.Reason_REASON_KIND_MISMATCH, "shared"},
		{"no template of that kind", &perdurepb.SubscribeOpen{Durable: "new", Kind: perdurepb.Kind_KIND_STANDARD}, perdurepb.Reason_REASON_NO_TEMPLATE, "template"},
		{"a kind that is none", &perdurepb.SubscribeOpen{Durable: "new", Kind: 77}, perdurepb.Reason_REASON_INVALID_ARGUMENT, "77"},
	} {
		tc.open.Endpoint = "flights"
		_, err := n.subscriber(tc.open)
		if e := wantReason(t, err, tc.want); !strings.Contains(e.Message, tc.text) {
			t.Errorf("%s: %s", tc.name, e.Message)
		}
	}
	// {} is every message: for a durable that is made, and for one that is there.
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "all", Matcher: "{}", Kind: perdurepb.Kind_KIND_SHARED})
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "all", Matcher: "{ }", Kind: perdurepb.Kind_KIND_SHARED})
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "vegas", Matcher: `{ "origin" : "LAS" }`, Kind: perdurepb.Kind_KIND_SHARED})
	p := n.mustPublisher("flights")
	var jfk, las message.Message
	jfk.SetString("origin", "JFK")
	las.SetString("origin", "LAS")
	p.stored(1, 1, messagesOf(&jfk, &las, &jfk, &las))
	d := s.frame()
	b, err := message.ParseBatch(d.GetBatch())
	if err != nil || b.Count() != 2 || fmt.Sprint(d.GetDelivery().GetIds()) != "[2 2 4 4]" {
		t.Fatalf("delivery %v of %d messages: %v", d.GetDelivery(), b.Count(), err)
	}
}

func TestTakeoverThroughTheStream(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	old := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1})
	_, err := n.subscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1})
	wantReason(t, err, perdurepb.Reason_REASON_ALREADY_SUBSCRIBED)
	young := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 2})
	wantReason(t, old.end(), perdurepb.Reason_REASON_FORCE_CLOSED)
	n.mustPublisher("flights").stored(1, 1, bodies("a"))
	young.receive(1)
	if err := young.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := young.end(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	// The attachment was given up: the same process may come again.
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 2}).receive(1)
}

func TestNotOwner(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	open := &perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker", CreditMessages: 2}
	a, b := n.mustSubscriber(open), n.mustSubscriber(open)
	n.mustPublisher("flights").stored(1, 1, bodies("a", "b", "c", "d"))
	mine, theirs := a.receive(2), b.receive(2)
	if err := a.settle(&perdurepb.Settle{Acks: []uint64{1, 4}, Token: 1}); err.GetReason() != perdurepb.Reason_REASON_NOT_OWNER {
		t.Fatalf("settled %v and %v: %v", mine, theirs, err)
	}
	if err := b.settle(&perdurepb.Settle{Acks: []uint64{theirs[0], theirs[1]}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	// A nack gives a message to whoever has credit.
	a.say(&perdurepb.SubscribeRequest{Credit: &perdurepb.Credit{Messages: 1, Bytes: 100}})
	n.mustPublisher("flights").stored(1, 1, bodies("e"))
	a.receive(1)
	a.say(&perdurepb.SubscribeRequest{Settle: &perdurepb.Settle{Nacks: []*perdurepb.Nack{{First: 5, Last: 5}}}})
	b.say(&perdurepb.SubscribeRequest{Credit: &perdurepb.Credit{Messages: 1, Bytes: 100}})
	if got := b.receive(1); got[0] != 5 {
		t.Fatalf("received %v", got)
	}
}

func TestSettlementsThatAreNone(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	for _, m := range []*perdurepb.Settle{
		{Acks: []uint64{1}},
		{Acks: []uint64{2, 1}},
		{Acks: []uint64{0, 1}},
		{Nacks: []*perdurepb.Nack{{First: 3, Last: 2}}},
		{Nacks: []*perdurepb.Nack{{First: 1, Last: 1, DelayMs: 1 << 60}}},
		{Acks: make([]uint64, 2*maxSettled+2)},
	} {
		s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker"})
		s.say(&perdurepb.SubscribeRequest{Settle: m})
		wantReason(t, s.end(), perdurepb.Reason_REASON_INVALID_ARGUMENT)
	}
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker"})
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 1<<64 - 1}, Token: 1}); err != nil {
		t.Fatalf("everything, of nothing: %v", err)
	}
}

func TestFirstFrames(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p, err := n.messages.Publish(n.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send(&perdurepb.PublishRequest{Sequence: 1, Batch: bodies("a")}); err != nil {
		t.Fatal(err)
	}
	_, err = p.Recv()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	s, err := n.messages.Subscribe(n.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&perdurepb.SubscribeRequest{Heartbeat: true}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)

	open := n.mustPublisher("flights")
	if err := open.stream.Send(&perdurepb.PublishRequest{Open: &perdurepb.PublishOpen{Endpoint: "flights"}}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, open.end(), perdurepb.Reason_REASON_INVALID_ARGUMENT)
	empty := n.mustPublisher("flights")
	empty.send(1, 1, nil)
	wantReason(t, empty.end(), perdurepb.Reason_REASON_INVALID_ARGUMENT)
	sub := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	sub.say(&perdurepb.SubscribeRequest{Open: &perdurepb.SubscribeOpen{Endpoint: "flights"}})
	wantReason(t, sub.end(), perdurepb.Reason_REASON_INVALID_ARGUMENT)
}

func TestSessionsThatCannotBeResumed(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	_, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: 4711})
	wantReason(t, err, perdurepb.Reason_REASON_SESSION_UNKNOWN)
	p := n.mustPublisher("flights")
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "small", Session: p.opened.Session}) // of another store
	wantReason(t, err, perdurepb.Reason_REASON_SESSION_UNKNOWN)
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: p.opened.Session, Epoch: 3})
	wantReason(t, err, perdurepb.Reason_REASON_EPOCH_CHANGED)
}

func TestDurableDeleted(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "vegas"})
	n.apply(replace(t, testRealm, `          - {name: vegas, type: shared, matcher: '{"origin":"LAS"}'}`+"\n", ""))
	wantReason(t, s.end(), perdurepb.Reason_REASON_DURABLE_DELETED)
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.streams.mu.Lock()
	n.streams.most = 2
	n.streams.mu.Unlock()
	n.mustPublisher("flights")
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	_, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_OVERLOADED)
	_, err = n.subscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker"})
	wantReason(t, err, perdurepb.Reason_REASON_OVERLOADED)
	s.say(&perdurepb.SubscribeRequest{Close: true})
	if err := s.end(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	n.mustPublisher("flights")
}

// What is stored and fails a check is no fault of the subscriber's.
func TestStoredBatchIsCorrupt(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.mustPublisher("flights").stored(1, 1, bodies("a", "b"))
	h := n.reconciler.all()[0]
	for _, tc := range []struct {
		name   string
		change func(*dispatch.Batch)
		part   bool
	}{
		{"the batch is somewhere else", func(b *dispatch.Batch) { b.Offset += 3 }, true},
		{"the entry is too short", func(b *dispatch.Batch) { b.Bytes += 1000 }, false},
	} {
		s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "loose"}) // empty: nothing comes by itself
		err := h.group.Do(n.ctx(), func(cluster.Now) {
			st, _ := h.service.StoreByName("flights")
			b, _ := h.service.Batch(st.ID(), 1)
			d := service.Delivery{Batch: dispatch.Batch(b)}
			tc.change(&d.Batch)
			if tc.part {
				d.Ranges = []service.Range{{First: 1, Last: 1}}
			}
			n.deliverTo(s.opened.Subscription, d)
		})
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, s.end(), perdurepb.Reason_REASON_CORRUPT)
	}
	if !strings.Contains(n.log.String(), "must be replaced") {
		t.Error("nothing in the log")
	}
}

// deliverTo hands a delivery to a subscription, as dispatch does. It runs on the
// group's loop.
func (n *node) deliverTo(id uint64, d service.Delivery) {
	n.reconciler.all()[0].service.Subscription(id).Deliver(d)
}

// A reader that stalls holds up nobody, and what waits for it is bounded by its
// credit.
func TestStalledReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	// It says nothing, and is not to be given up for that.
	n := start(t, replace(t, testRealm, "durability: async", "durability: async\n    client_timeout: 60s"))
	stalled := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker", CreditMessages: 1 << 40, CreditBytes: 1 << 60})
	if stalled.opened.CreditMessages != service.MaxCredit {
		t.Errorf("credit %d", stalled.opened.CreditMessages)
	}
	reader := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", CreditMessages: 1 << 16, CreditBytes: 1 << 30})
	p := n.mustPublisher("flights")
	body := strings.Repeat("x", 60<<10)
	for i := range uint64(200) { // 12 MB, over every window of the connection
		p.stored(i+1, 1, bodies(body))
		reader.receive(1)
	}
	// Frames that the stalled one sends are taken nevertheless.
	stalled.say(&perdurepb.SubscribeRequest{Settle: &perdurepb.Settle{Acks: []uint64{1, 200}, Token: 5}})
	h := n.reconciler.all()[0]
	n.until("its acknowledgements are applied", func() bool {
		pending := uint64(1)
		err := h.group.Do(n.ctx(), func(cluster.Now) {
			st, _ := h.service.StoreByName("flights")
			d, _ := h.service.DurableByName(st.ID(), "delays")
			pending = d.Pending().Len()
		})
		return err == nil && pending == 0
	})
}

// A group that does not keep up refuses what it cannot queue, and nothing
// happened.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	h := n.reconciler.all()[0]
	held, release := make(chan struct{}), make(chan struct{})
	h.group.Go(func(cluster.Now) {
		close(held)
		<-release
	})
	<-held
	full := store.AppendPublish(nil, 0, 0, 0, 0, make([]byte, 20<<20)) // to no store
	if err := h.group.Propose(n.ctx(), cluster.Proposal[store.Result]{Command: full}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.ctx())
	cancel()
	_, err := propose(ctx, h.group, store.AppendOpenSession(nil, 1, 0, 0))
	close(release)
	wantReason(t, asFault(err), perdurepb.Reason_REASON_OVERLOADED)
	n.mustPublisher("flights").stored(1, 1, bodies("a"))
}

// What a client held that has gone is free at once: nothing waits for a hint
// that nobody would read.
func TestClientThatIsGone(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	ctx, leave := context.WithCancel(n.ctx())
	stream, err := n.messages.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &subscribing{t: t, stream: stream}
	s.say(&perdurepb.SubscribeRequest{Open: &perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker", CreditMessages: 5}})
	s.frame()
	other := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Subscriber: "worker", CreditMessages: 1})
	p := n.mustPublisher("flights")
	p.stored(1, 1, bodies("a"))
	if got := s.receive(1); got[0] != 1 {
		t.Fatalf("received %v", got)
	}
	leave()
	if got := other.receive(1); got[0] != 1 {
		t.Fatalf("received %v", got)
	}
	if log := n.log.String(); strings.Contains(log, "ERROR") {
		t.Errorf("log:\n%s", log)
	}
}
