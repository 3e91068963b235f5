package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// everything withholds all answers.
func everything(*perdurepb.Settle) bool { return true }

// urgent withholds the answers that somebody waits for.
func urgent(m *perdurepb.Settle) bool { return m.Now }

// settle waits until what was acknowledged has reached the server, and what it
// answered the client.
func settle() {
	time.Sleep(5 * time.Millisecond)
	synctest.Wait()
}

// breakStream ends the stream of a subscription whose server took no settlement
// so far. On the next one it does, but others hold the lent messages when it
// opens, and if there are any, copies of the rest do not come. What the next
// stream settles and grants is counted anew.
func (w *world) breakStream(t *testing.T, lent ...uint64) {
	t.Helper()
	settle()
	w.kill("s1")
	w.with(func() {
		w.settles, w.credits = nil, nil
		w.onSub = func(*perdurepb.SubscribeOpen) error {
			w.durable.change(func() {
				w.durable.deaf = false
				for _, id := range w.durable.ids {
					if len(lent) > 0 {
						w.durable.delayed[id] = 1
					}
				}
			})
			w.durable.lend(lent...)
			return nil
		}
	})
	w.lead("s2")
	time.Sleep(2 * time.Second) // it may have to ask twice who leads
	synctest.Wait()
	w.with(func() {
		if n := len(w.subOpened); n != 2 {
			t.Fatalf("%d streams were opened, want 2", n)
		}
	})
}

// sent is how many settlements of the present stream acknowledge id.
func (w *world) sent(id uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, m := range w.settles {
		for r := range slices.Chunk(m.Acks, 2) {
			if r[0] <= id && id <= r[1] {
				n++
			}
		}
	}
	return n
}

// granted is the credit of the present stream beyond what it started with.
func (w *world) granted() (messages, bytes uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.credits {
		messages += c.Messages
		bytes += c.Bytes
	}
	return messages, bytes
}

// wantSettled checks that the messages up to n were acknowledged, each once,
// and that nothing is left.
func (w *world) wantSettled(t *testing.T, n int) {
	t.Helper()
	w.durable.change(func() {
		acked := slices.Sorted(slices.Values(w.durable.acked))
		if len(w.durable.ids) > 0 || len(acked) != n || len(slices.Compact(acked)) != n {
			t.Errorf("pending %v, acknowledged %v, want all of %d", w.durable.ids, w.durable.acked, n)
		}
	})
}

// TestCopyAfterARefusedAck gives a message back that somebody else held when the
// acknowledgement of an earlier stream was repeated. The server has refused that
// one, and still owes the answer to another. The copy is settled by an
// acknowledgement of its own.
func TestCopyAfterARefusedAck(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(2)...)
		w.durable.deaf = true
		w.durable.withhold = urgent
		s := subscribe(t, c)
		if err := receive(t, s).Ack(); err != nil {
			t.Fatal(err)
		}
		second, sync := receive(t, s), make(chan error, 1)
		go func() { sync <- second.AckSync(context.Background()) }()
		w.breakStream(t, 1)
		if n := w.sent(1); n != 1 {
			t.Fatalf("message 1 was acknowledged %d times on the second stream before it came", n)
		}
		w.durable.handBack(1)
		settle()
		if n := w.sent(1); n != 2 {
			t.Errorf("message 1 was acknowledged %d times on the second stream, want once more for the copy", n)
		}
		w.wantSettled(t, 2)
		w.durable.release()
		if err := <-sync; err != nil {
			t.Errorf("AckSync of the other message: %v", err)
		}
		wantNothing(t, s)
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestCopyOvertakesTheAnswer is the same with the answer to the repeated
// acknowledgement itself on its way: it waits for the rest of its ranges.
func TestCopyOvertakesTheAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(6)...)
		w.durable.deaf = true
		w.durable.withhold = everything
		s := subscribe(t, c, client.Prefetch(6))
		for range 6 {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		w.breakStream(t, 2, 3, 5)
		w.durable.handBack(2, 3, 5)
		settle()
		w.wantSettled(t, 6)
		for _, id := range []uint64{2, 3, 5} {
			if n := w.sent(id); n != 2 {
				t.Errorf("message %d was acknowledged %d times on the second stream, want 2", id, n)
			}
		}
		w.durable.release()
		settle()
		w.durable.add("7")
		if d := receive(t, s); d.ID() != 7 {
			t.Errorf("received message %d, want 7", d.ID())
		} else if err := d.Ack(); err != nil {
			t.Error(err)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantSettled(t, 7)
	})
}

// TestCopyAfterTheAnswer gives the message back when the client knows that its
// acknowledgement was refused: then it is a delivery like any other.
func TestCopyAfterTheAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(2)...)
		w.durable.deaf = true
		s := subscribe(t, c)
		for range 2 {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		w.breakStream(t, 1)
		w.durable.handBack(1)
		d := receive(t, s)
		if d.ID() != 1 || d.DeliveryCount() == 0 {
			t.Errorf("received message %d with a count of %d", d.ID(), d.DeliveryCount())
		}
		if n := w.sent(1); n != 1 {
			t.Errorf("acknowledged %d times although nobody has settled the copy", n)
		}
		if err := d.AckSync(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantSettled(t, 2)
	})
}

// TestCopyOfWhatIsSettled lets copies come of which the server has taken the
// repeated acknowledgement, as it does when it handed them out first. Each costs
// one acknowledgement, which has no effect, and gives its credit back once.
func TestCopyOfWhatIsSettled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		const n, prefetch = 40, 8
		w.durable.add(numbered(prefetch)...)
		w.durable.deaf = true
		w.durable.withhold = everything
		s := subscribe(t, c, client.Prefetch(prefetch))
		for range prefetch {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		w.breakStream(t, 1, 2, 3, 4, 5, 6, 7, 8) // so that no copy comes by itself
		w.durable.change(func() {
			var b message.Builder
			for id := range uint64(prefetch) {
				if err := b.AddBody([]byte(fmt.Sprint(id))); err != nil {
					t.Fatal(err)
				}
			}
			w.durable.ids, w.durable.acked = nil, []uint64{1, 2, 3, 4, 5, 6, 7, 8}
			clear(w.durable.holder)
			for sub := range w.durable.subs {
				sub.messages -= prefetch
				sub.bytes -= 9*prefetch + 3
				sub.first = append(sub.first, &perdurepb.SubscribeResponse{
					Delivery: &perdurepb.Delivery{Ids: []uint64{1, prefetch}, Bytes: 9*prefetch + 3},
					Batch:    b.AppendTo(nil, message.Options{}),
				})
			}
		})
		settle()
		for id := range uint64(prefetch) {
			if n := w.sent(id + 1); n != 2 {
				t.Errorf("message %d was acknowledged %d times on the second stream, want 2", id+1, n)
			}
		}
		if messages, bytes := w.granted(); messages != prefetch || bytes != 9*prefetch+3 {
			t.Errorf("%d messages and %d bytes of credit came back for the copies", messages, bytes)
		}
		w.durable.release()
		settle()
		w.durable.add(numbered(n)...)
		for range n {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		if messages, _ := w.granted(); messages != prefetch+n {
			t.Errorf("%d messages of credit were granted for %d that came", messages, prefetch+n)
		}
		w.durable.change(func() {
			for sub := range w.durable.subs {
				if sub.messages != prefetch {
					t.Errorf("the server has %d messages of credit at the end, want %d", sub.messages, prefetch)
				}
			}
		})
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantSettled(t, prefetch+n)
	})
}

// TestCopyAndAckSync lets the copy of a message come that somebody waits to have
// settled. What he is told is what became of the copy: were it acknowledged and
// he told that another subscriber has it, he might undo his work, and nobody
// would do it again.
func TestCopyAndAckSync(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(1)...)
		w.durable.deaf = true
		w.durable.withhold = everything
		s := subscribe(t, c)
		d, sync := receive(t, s), make(chan error, 1)
		go func() { sync <- d.AckSync(context.Background()) }()
		w.breakStream(t, 1)
		w.durable.handBack(1)
		settle()
		if n := w.sent(1); n != 2 {
			t.Errorf("acknowledged %d times on the second stream, want 2", n)
		}
		w.durable.release()
		if err := <-sync; err != nil {
			t.Errorf("AckSync: %v", err)
		}
		w.wantSettled(t, 1)
	})
}

// TestCopyAfterARefusedAckSync lets it come when he was told so. Then he gets it
// again, although other acknowledgements are still on their way.
func TestCopyAfterARefusedAckSync(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(4)...)
		w.durable.deaf = true
		w.durable.withhold = func(m *perdurepb.Settle) bool { return !m.Now }
		s := subscribe(t, c)
		d1, d2, sync := receive(t, s), receive(t, s), make(chan error, 1)
		for _, d := range []client.Delivery{d1, receive(t, s), receive(t, s)} {
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		go func() { sync <- d2.AckSync(context.Background()) }()
		w.breakStream(t, 2, 3)
		if err := <-sync; !errors.Is(err, client.ErrNotOwner) {
			t.Fatalf("AckSync of what somebody else holds: %v", err)
		}
		w.durable.handBack(2, 3)
		if d := receive(t, s); d.ID() != 2 || d.DeliveryCount() == 0 {
			t.Errorf("received message %d with a count of %d, want 2", d.ID(), d.DeliveryCount())
		} else if err := d.AckSync(t.Context()); err != nil {
			t.Error(err)
		}
		wantNothing(t, s)
		w.wantSettled(t, 4)
	})
}

// TestLateAckOfAQueuedCopy acknowledges a delivery of the last stream when its
// copy waits to be handed out. The acknowledgement comes after the copy, so one
// is enough for both.
func TestLateAckOfAQueuedCopy(t *testing.T) {
	for name, ack := range map[string]func(client.Delivery) error{
		"Ack":     client.Delivery.Ack,
		"AckSync": func(d client.Delivery) error { return d.AckSync(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect()
				defer closeAll(t, c)
				w.durable.add(numbered(1)...)
				s := subscribe(t, c)
				d := receive(t, s)
				w.breakStream(t)
				if err := ack(d); err != nil {
					t.Fatal(err)
				}
				settle()
				if n := w.sent(1); n != 1 {
					t.Errorf("acknowledged %d times, want 1", n)
				}
				if messages, _ := w.granted(); messages != 1 {
					t.Errorf("%d messages of credit for one copy", messages)
				}
				w.wantSettled(t, 1)
				wantNothing(t, s)
			})
		})
	}
}

// TestDrainSettlesCopies lets a copy come while Drain waits for the answer.
func TestDrainSettlesCopies(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(3)...)
		w.durable.deaf = true
		w.durable.withhold = everything
		s := subscribe(t, c)
		for range 3 {
			if err := receive(t, s).Ack(); err != nil {
				t.Fatal(err)
			}
		}
		w.breakStream(t, 2)
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(context.Background()) }()
		settle()
		w.durable.handBack(2)
		settle()
		w.durable.release()
		if err := <-drained; err != nil {
			t.Error(err)
		}
		w.wantSettled(t, 3)
	})
}

// TestReplacedStore loads a saved state while deliveries are out: an id may name
// another message then, in the same epoch, so no acknowledgement of before goes there,
// and what comes under the same ids is handed out.
func TestReplacedStore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.durable.add(numbered(4)...)
		w.durable.deaf = true
		s := subscribe(t, c)
		if err := receive(t, s).Ack(); err != nil {
			t.Fatal(err)
		}
		second, waiting := receive(t, s), make(chan error, 1)
		go func() { waiting <- second.AckSync(context.Background()) }()
		third, fourth := receive(t, s), receive(t, s)
		settle()
		w.with(func() { w.lineage++ })
		w.breakStream(t)
		if err := <-waiting; !errors.Is(err, client.ErrEpochChanged) || !errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("AckSync before: %v", err)
		}
		if err := third.Ack(); err != nil {
			t.Errorf("Ack: %v", err)
		}
		if err := fourth.AckSync(t.Context()); !errors.Is(err, client.ErrEpochChanged) || errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("AckSync: %v", err)
		}
		settle()
		for id := range uint64(4) {
			if n := w.sent(id + 1); n > 0 {
				t.Errorf("message %d was acknowledged %d times", id+1, n)
			}
		}
		for id := range message.ID(4) {
			d := receive(t, s)
			if d.ID() != id+1 {
				t.Errorf("message %v comes, want %v", d.ID(), id+1)
			}
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		settle()
		w.wantSettled(t, 4)
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
