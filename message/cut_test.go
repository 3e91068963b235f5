package message

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestCutsAgainstReencoding compares what was cut out with a batch built from
// the same messages.
func TestCutsAgainstReencoding(t *testing.T) {
	for seed := range uint64(300) {
		g := newGen(seed)
		b, msgs := g.batch(t, allOptions[g.IntN(len(allOptions))])
		i := g.IntN(len(msgs))
		j := i + 1 + g.IntN(len(msgs)-i)
		cut, err := AppendSelection([]byte("x"), b.Bytes(), positions(i, j))
		if err != nil {
			t.Fatal(err)
		}
		checkCut(t, b, cut, msgs[i:j])

		var sel []int
		var want []*Message
		for i := range msgs {
			if g.IntN(2) == 0 {
				sel, want = append(sel, i), append(want, msgs[i])
			}
		}
		if len(sel) == 0 {
			continue
		}
		given := slices.Clone(sel)
		cut, err = AppendSelection([]byte("x"), b.Bytes(), sel)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sel, given) {
			t.Fatal("AppendSelection changed the selection")
		}
		checkCut(t, b, cut, want)
	}
}

// positions are those from i to before j.
func positions(i, j int) (sel []int) {
	for ; i < j; i++ {
		sel = append(sel, i)
	}
	return sel
}

func checkCut(t *testing.T, from Batch, cut []byte, want []*Message) {
	t.Helper()
	if cut[0] != 'x' {
		t.Fatal("what was in dst is gone")
	}
	b := parse(t, cut[1:])
	sameMessages(t, b, want)
	checkHeader(t, b, want)
	if len(want) == from.Count() {
		if !b.Equal(from) {
			t.Fatal("a cut of everything is not the same batch")
		}
		return
	}
	built := encode(t, Options{}, want...)
	if b.Opaque() && !b.Equal(built) {
		t.Fatal("a cut without fields is not what a builder writes")
	}
	if !b.Opaque() && !bytes.Equal(b.body, built.body) {
		t.Fatal("bodies of the cut are not what a builder writes")
	}
}

func TestCutOfACut(t *testing.T) {
	g := newGen(5)
	var msgs []*Message
	for range 40 {
		msgs = append(msgs, g.message())
	}
	b := encode(t, Options{}, msgs...)
	for len(msgs) > 2 {
		cut, err := AppendSelection(nil, b.Bytes(), positions(1, len(msgs)-1))
		if err != nil {
			t.Fatal(err)
		}
		msgs = msgs[1 : len(msgs)-1]
		b = parse(t, cut)
		sameMessages(t, b, msgs)
	}
}

func TestCutsRefuseWrongPositions(t *testing.T) {
	b := encode(t, Options{}, &Message{}, &Message{}, &Message{})
	for _, sel := range [][]int{nil, {}, {1, 1}, {1, 0}, {-1}, {3}, {0, 1, 2, 3}} {
		if out, err := AppendSelection([]byte("x"), b.Bytes(), sel); !errors.Is(err, ErrRange) || string(out) != "x" {
			t.Errorf("selection %v: %q, error %v", sel, out, err)
		}
	}
}

// TestCutsVerifyWhatTheyTakeFrom damages a batch: damage must not get a fresh
// checksum.
func TestCutsVerifyWhatTheyTakeFrom(t *testing.T) {
	g := newGen(2)
	m := g.message()
	m.Body = []byte("a body that is long enough to be hit")
	raw := bytes.Clone(encode(t, Options{}, new(Message).SetInt("n", 1), m, m).Bytes())
	for i := range raw {
		raw[i] ^= 0x10
		if out, err := AppendSelection([]byte("x"), raw, []int{0}); err == nil || string(out) != "x" {
			t.Fatalf("byte %d is damaged and a message was taken", i)
		}
		raw[i] ^= 0x10
	}
	raw[len(raw)-1] ^= 1
	if _, err := OpenBatch(raw); err != nil {
		t.Fatalf("OpenBatch looked at the checksum of the bodies: %v", err)
	}
}
