package client

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/message"
)

func TestIDRanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var r idRanges
		want := map[message.ID]bool{}
		for range random.IntN(60) {
			id := message.ID(1 + random.IntN(80))
			for range 1 + random.IntN(3) {
				r.add(id)
				want[id] = true
				id++
			}
		}
		r = r.normal()
		for i, one := range r {
			if one.first > one.last || i > 0 && r[i-1].last+1 >= one.first {
				t.Fatalf("not in order: %v", r)
			}
		}
		for id := message.ID(0); id < 100; id++ {
			if r.has(id) != want[id] {
				t.Fatalf("%d in %v is %v", id, r, r.has(id))
			}
		}
		if r.messages() != len(want) {
			t.Fatalf("%v has %d messages, want %d", r, r.messages(), len(want))
		}
		for range random.IntN(20) {
			id := message.ID(random.IntN(100))
			r.remove(id)
			delete(want, id)
			if r.has(id) || r.messages() != len(want) {
				t.Fatalf("%d was removed: %v has %d messages, want %d", id, r, r.messages(), len(want))
			}
		}
	}
}

func TestLedgerFlush(t *testing.T) {
	var g ledger
	for _, id := range []message.ID{3, 4, 5, 9, 1, 2} {
		g.ack(id)
	}
	g.nack(20, 0)
	g.nack(21, 0)
	g.nack(22, time.Second)
	g.credited(9, 90)
	frames, messages, bytes := g.flush(true)
	if len(frames) != 2 || messages != 9 || bytes != 90 {
		t.Fatalf("%v, %d, %d", frames, messages, bytes)
	}
	s := frames[0].Settle
	if !slices.Equal(s.Acks, []uint64{1, 5, 9, 9}) || s.Token != 1 || len(s.Nacks) != 2 || s.Nacks[0].Last != 21 || s.Nacks[1].DelayMs != 1000 {
		t.Errorf("settle %v", s)
	}
	if c := frames[1].Credit; c.Messages != 9 || c.Bytes != 90 {
		t.Errorf("credit %v", c)
	}
	if frames, _, _ := g.flush(true); frames != nil || g.idle() {
		t.Errorf("flushed again: %v; idle: %v", frames, g.idle())
	}
	g.settled(7, nil) // of somebody else
	g.settled(1, nil)
	if !g.idle() || g.unconfirmed != 0 {
		t.Error("not idle after the answer")
	}
}

func TestLedgerSplitsLargeFrames(t *testing.T) {
	var g ledger
	const n = rangesPerFrame + 10
	for i := range n {
		g.ack(message.ID(2*i + 1))
	}
	frames, _, _ := g.flush(true)
	if len(frames) != 2 || len(frames[0].Settle.Acks) != 2*rangesPerFrame || len(frames[1].Settle.Acks) != 20 {
		t.Errorf("%d frames", len(frames))
	}
}

func TestLedgerRestart(t *testing.T) {
	var g ledger
	g.ack(1)
	g.flush(true)
	g.ack(2)
	g.nack(3, 0)
	g.credited(3, 3)
	a := g.sync(5)
	g.flush(true)
	g.ack(7)
	b := g.sync(6)
	again := g.restart()
	if !slices.Equal(again, idRanges{{1, 2}, {5, 7}}) {
		t.Errorf("again: %v", again)
	}
	frames, messages, _ := g.flush(true)
	if len(frames) != 3 || !slices.Equal(frames[0].Settle.Acks, []uint64{1, 2, 7, 7}) || len(frames[0].Settle.Nacks) != 0 || messages != 0 {
		t.Errorf("frames %v", frames)
	}
	refused := errors.New("refused")
	g.settled(frames[1].Settle.Token, refused) // that of a: first asked, first sent
	g.fail(ErrClosed)
	if <-a.done; a.err != refused {
		t.Errorf("first: %v", a.err)
	}
	if <-b.done; !errors.Is(b.err, ErrClosed) || !errors.Is(b.err, ErrOutcomeUnknown) {
		t.Errorf("second: %v", b.err)
	}
	if !g.idle() {
		t.Error("not idle after the end")
	}
}

// TestLedgerAgain acknowledges copies of what is in every place there is: each
// goes out once more, and an answer to an earlier token ends nothing.
func TestLedgerAgain(t *testing.T) {
	var g ledger
	g.ack(1)
	g.ack(2)
	a, b := g.sync(3), g.sync(4)
	g.flush(true)
	g.ack(6)
	c := g.sync(7)
	g.again(idRanges{{1, 1}, {3, 3}, {6, 8}})
	frames, _, _ := g.flush(true)
	var acks [][]uint64
	for _, f := range frames {
		acks = append(acks, f.Settle.Acks)
	}
	if want := [][]uint64{{1, 1, 6, 6, 8, 8}, {3, 3}, {7, 7}}; !slices.EqualFunc(acks, want, slices.Equal) {
		t.Fatalf("acknowledged %v, want %v", acks, want)
	}
	g.settled(2, ErrNotOwner)
	select {
	case <-a.done:
		t.Error("ended by the answer to what was sent before the copy came")
	default:
	}
	g.settled(1, ErrNotOwner)
	for token := uint64(3); token <= g.token; token++ {
		if g.idle() {
			t.Errorf("idle before the answer to %d", token)
		}
		g.settled(token, nil)
	}
	for _, s := range []*syncAck{a, b, c} {
		if <-s.done; s.err != nil {
			t.Errorf("%d: %v", s.id, s.err)
		}
	}
	if !g.idle() || g.unconfirmed != 0 {
		t.Errorf("left over: %+v", g)
	}
}

// TestLedgerRestartJoinsCopies acknowledges on the next stream once what two
// tokens had.
func TestLedgerRestartJoinsCopies(t *testing.T) {
	var g ledger
	g.ack(1)
	g.flush(true)
	g.again(idRanges{{1, 1}})
	g.flush(true)
	g.again(idRanges{{1, 1}})
	if again := g.restart(); !slices.Equal(again, idRanges{{1, 1}}) {
		t.Errorf("again: %v", again)
	}
	frames, _, _ := g.flush(true)
	if len(frames) != 1 || !slices.Equal(frames[0].Settle.Acks, []uint64{1, 1}) || g.unconfirmed != 1 {
		t.Errorf("frames %v, %d unconfirmed", frames, g.unconfirmed)
	}
}

// TestLedgerBoundsWhatIsUnconfirmed grants no credit to a server that confirms
// nothing.
func TestLedgerBoundsWhatIsUnconfirmed(t *testing.T) {
	var g ledger
	for i := range maxUnconfirmed + 1 {
		g.ack(message.ID(i + 1))
		g.credited(1, 1)
	}
	if _, messages, _ := g.flush(true); messages != 0 {
		t.Errorf("%d messages of credit", messages)
	}
	g.settled(g.token, nil)
	if _, messages, _ := g.flush(true); messages != maxUnconfirmed+1 {
		t.Errorf("%d messages of credit after the answer", messages)
	}
}
