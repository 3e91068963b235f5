package server

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/message"
)

func TestPublishAndSubscribe(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1})
	p := n.mustPublisher("flights")
	if o := p.stored(1, 1, bodies("a", "", "c")); o.FirstId != 1 || o.Count != 3 || !o.Interested || o.Duplicate {
		t.Fatalf("outcome %v", o)
	}
	// An empty body and no headers are a message like any other.
	if got := s.receive(3); fmt.Sprint(got) != "[1 2 3]" {
		t.Fatalf("received %v", got)
	}
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 3}, Token: 9}); err != nil {
		t.Fatal(err)
	}
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// Whoever has said everything still gets every answer.
func TestHalfClosedStreamsAreAnswered(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("flights")
	const batches = 300 // more than the window
	for i := range uint64(batches) {
		p.send(i+1, 1, bodies("x"))
	}
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(batches) {
		if o := p.outcome(); o.Sequence != i+1 || o.Error != nil {
			t.Fatalf("outcome %v, want of %d", o, i+1)
		}
	}
	if err := p.end(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1, CreditMessages: 10})
	s.receive(10)
	s.say(&perdurepb.SubscribeRequest{Settle: &perdurepb.Settle{Acks: []uint64{1, 5}, Token: 3}})
	s.say(&perdurepb.SubscribeRequest{Close: true})
	if f := s.frame(); f.GetSettled().GetToken() != 3 || f.GetSettled().GetError() != nil {
		t.Fatalf("frame %v", f)
	}
	if err := s.end(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	// What was not settled is free at once, and counted.
	s = n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1, CreditMessages: 1})
	d := s.frame().GetDelivery()
	if fmt.Sprint(d.GetIds()) != "[6 6]" || fmt.Sprint(d.GetCounted(), d.GetEnded()) != "[0] [1]" {
		t.Fatalf("delivery %v", d)
	}
}

func TestSequencesThroughTheStream(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("flights")
	p.stored(1, 1, bodies("a"))
	if e := p.refused(3, 1, bodies("c"), perdurepb.Reason_REASON_SEQUENCE_GAP); e.LastSequence != 1 {
		t.Fatalf("gap after %d", e.LastSequence)
	}
	p.stored(2, 1, bodies("b"))
	if o := p.publish(2, 1, bodies("b")); !o.Duplicate || o.FirstId != 2 || o.Error != nil {
		t.Fatalf("repeated: %v", o)
	}
	p.refused(2, 1, bodies("other"), perdurepb.Reason_REASON_SEQUENCE_REUSED)
	for i := range uint64(64) {
		p.stored(3+i, 1, bodies("x"))
	}
	if o := p.publish(1, 1, bodies("a")); o.Error.GetReason() != perdurepb.Reason_REASON_RECEIPT_FORGOTTEN || !o.Duplicate {
		t.Fatalf("forgotten: %v", o)
	}
	p.refused(0, 1, bodies("x"), perdurepb.Reason_REASON_INVALID_ARGUMENT)
}

// A batch that is refused closes its attempt, so that order holds; the next
// attempt goes on, on this stream or on another.
func TestRefusedBatches(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	corrupt := bodies("abcdefgh")
	corrupt[len(corrupt)-1] ^= 1
	head := bodies("abcdefgh")
	head[3] ^= 0xff
	version := bodies("a")
	version[0] = 99
	var b message.Builder
	for range 3 {
		if err := b.AddBody(make([]byte, 30<<10)); err != nil {
			t.Fatal(err)
		}
	}
	manyUnderTheLimit := b.AppendTo(nil, message.Options{})
	p := n.mustPublisher("flights")
	sequence, attempt := uint64(1), uint32(1)
	for _, tc := range []struct {
		name  string
		batch []byte
		want  perdurepb.Reason
		text  string
	}{
		{"message over the limit", bodies(strings.Repeat("x", 65<<10)), perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, "65536"},
		{"second message over the limit", bodies("x", strings.Repeat("x", 65<<10)), perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, "message 1 of the batch"},
		{"time to live", messagesOf(&message.Message{TTL: time.Minute}), perdurepb.Reason_REASON_INVALID_ARGUMENT, "not supported"},
		{"delivery time", messagesOf(&message.Message{DeliverAt: time.Unix(1e9, 0)}), perdurepb.Reason_REASON_INVALID_ARGUMENT, "not supported"},
		{"key", messagesOf(&message.Message{Key: "k"}), perdurepb.Reason_REASON_INVALID_ARGUMENT, "not supported"},
		{"batch over 1 MiB", tooManyBytes(t), perdurepb.Reason_REASON_BATCH_TOO_LARGE, "1048576"},
		{"flipped body", corrupt, perdurepb.Reason_REASON_BATCH_CORRUPT, "checksum"},
		{"flipped header", head, perdurepb.Reason_REASON_BATCH_CORRUPT, "checksum"},
		{"cut off", bodies("abcdefgh")[:47], perdurepb.Reason_REASON_BATCH_CORRUPT, "47"},
		{"nothing but noise", []byte("hello"), perdurepb.Reason_REASON_BATCH_CORRUPT, "header"},
		{"of another version", version, perdurepb.Reason_REASON_BATCH_CORRUPT, "version"},
		{"header that is not UTF-8", notUTF8(t), perdurepb.Reason_REASON_INVALID_ARGUMENT, "UTF-8"},
	} {
		p.send(sequence, attempt, bodies("before"))
		p.send(sequence+1, attempt, tc.batch)
		p.send(sequence+2, attempt, bodies("after"))
		if o := p.outcome(); o.Error != nil {
			t.Fatalf("%s: before it: %v", tc.name, o.Error)
		}
		e := p.outcome().GetError()
		if e.GetReason() != tc.want || !strings.Contains(e.GetMessage(), tc.text) || e.GetLastSequence() != sequence {
			t.Errorf("%s: %v", tc.name, e)
		}
		if o := p.outcome(); o.GetError().GetReason() != perdurepb.Reason_REASON_ABORTED {
			t.Errorf("%s: after it: %v", tc.name, o)
		}
		sequence, attempt = sequence+1, attempt+1
	}
	last := p.stored(sequence, attempt, manyUnderTheLimit)
	// Nothing of what was refused was stored: twelve batches before, and three now.
	if last.FirstId != 13 || last.Count != 3 {
		t.Errorf("went on at id %d", last.FirstId)
	}
	// The attempt is closed for the next stream of the session, too.
	p.refused(sequence+1, attempt, corrupt, perdurepb.Reason_REASON_BATCH_CORRUPT)
	again, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: p.opened.Session})
	if err != nil {
		t.Fatal(err)
	}
	if again.opened.LastSequence != sequence || again.opened.Attempt != attempt+1 {
		t.Fatalf("resumed at %v", again.opened)
	}
	// What was stored before is a duplicate, whatever the limit is by now.
	if o := again.publish(sequence, attempt, manyUnderTheLimit); !o.Duplicate || o.Error != nil {
		t.Fatalf("repeated: %v", o)
	}
}

// tooManyBytes is a batch of several messages over 1 MiB: no Builder makes one.
func tooManyBytes(t *testing.T) []byte {
	t.Helper()
	var b message.Builder
	b.SetMaxMessageSize(message.HardMaxMessageSize)
	if err := b.AddBody(make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	one := b.AppendTo(nil, message.Options{})
	return recount(one, 2)
}

// A limit that is changed live counts from the next batch on.
func TestMessageSizeLimitIsLive(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("flights")
	big := bodies(strings.Repeat("x", 60<<10))
	p.stored(1, 1, big)
	n.apply(replace(t, testRealm, "max_message_size: 64KiB", "max_message_size: 1KiB"))
	p.refused(2, 1, big, perdurepb.Reason_REASON_MESSAGE_TOO_LARGE)
	p.stored(2, 2, bodies("x"))
}

func TestStoreFull(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("small")
	p.stored(1, 1, bodies(strings.Repeat("x", 3000)))
	p.refused(2, 1, bodies(strings.Repeat("x", 3000)), perdurepb.Reason_REASON_STORE_FULL)
	p.refused(2, 1, bodies("x"), perdurepb.Reason_REASON_ABORTED)
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "small"})
	s.receive(1)
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 1}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	p.stored(2, 2, bodies(strings.Repeat("x", 3000)))
}

func TestNoconfirm(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	p := n.mustPublisher("loose")
	if !p.opened.Noconfirm || p.opened.Session != 0 {
		t.Fatalf("opened %v", p.opened)
	}
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "loose"})
	p.send(0, 0, bodies("a", "b"))
	s.receive(2)
	corrupt := bodies("abcdefgh")
	corrupt[len(corrupt)-1] ^= 1
	p.send(0, 0, corrupt)
	wantReason(t, p.end(), perdurepb.Reason_REASON_BATCH_CORRUPT)
	p = n.mustPublisher("loose")
	p.send(0, 0, bodies("c"))
	s.receive(1)
	p.send(0, 0, bodies("d")[:20])
	wantReason(t, p.end(), perdurepb.Reason_REASON_BATCH_CORRUPT)
}
