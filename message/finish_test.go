package message

import (
	"bytes"
	"testing"
)

// TestFinishWritesWhatAppendToWrites lets one builder finish batch after batch in
// the memory of earlier ones, as a publisher does, and checks that none changes
// before its memory is given back.
func TestFinishWritesWhatAppendToWrites(t *testing.T) {
	type sent struct{ batch, memory, want []byte }
	for seed := range uint64(40) {
		g := newGen(seed)
		var b Builder
		var window []sent
		for range 60 {
			var other Builder
			for range g.IntN(20) {
				m := g.message()
				if g.IntN(4) == 0 {
					m = &Message{Body: make([]byte, g.IntN(20_000))}
				}
				if err := other.Add(m); err != nil {
					t.Fatal(err)
				}
				if err := b.Add(m); err != nil {
					t.Fatal(err)
				}
			}
			var next []byte
			if len(window) > 3 {
				oldest := window[0]
				if !bytes.Equal(oldest.batch, oldest.want) {
					t.Fatalf("seed %d: a finished batch changed while it was in use", seed)
				}
				next, window = oldest.memory, window[1:]
				clear(next[:cap(next)])
			}
			opts := Options{}
			if g.IntN(5) == 0 {
				opts = allOptions[g.IntN(len(allOptions))]
			}
			want := other.AppendTo(nil, opts)
			batch, memory := b.Finish(opts, next)
			if !bytes.Equal(batch, want) {
				t.Fatalf("seed %d: Finish returns other bytes than AppendTo (%d, %d bytes)", seed, len(batch), len(want))
			}
			if b.Len() != 0 || b.Size() != HeaderSize {
				t.Fatalf("seed %d: the builder is not empty after Finish", seed)
			}
			window = append(window, sent{batch, memory, bytes.Clone(batch)})
		}
	}
}

func TestFinishDoesNotMoveBodies(t *testing.T) {
	var b Builder
	body := bytes.Repeat([]byte("x"), 16<<10)
	var memory []byte
	for i := range 10 {
		if err := b.AddBody(body); err != nil {
			t.Fatal(err)
		}
		at := &b.bodies[0]
		batch, m := b.Finish(Options{}, memory)
		if &batch[len(batch)-len(body)] != at {
			t.Errorf("batch %d: its bodies were copied", i)
		}
		memory = m
	}
}

func TestFinishLearnsTheSizeOfHeads(t *testing.T) {
	var b Builder
	var memory []byte
	for range 3 {
		for range 1000 { // a head of 4 KB
			if err := b.AddBody([]byte("body")); err != nil {
				t.Fatal(err)
			}
		}
		at := &b.bodies[0]
		var batch []byte
		batch, memory = b.Finish(Options{}, memory)
		if &batch[len(batch)-4000] == at {
			return
		}
	}
	t.Error("bodies are copied still in the third batch with a large head")
}

// What one large message needs, later batches do not get; what every batch needs,
// they do.
func TestFinishLearnsTheSizeOfBodies(t *testing.T) {
	const small, large = 100, 700 << 10
	batch := func(b *Builder, size int) int {
		t.Helper()
		for range 2 { // what does not fit moves
			if err := b.AddBody(make([]byte, size/2)); err != nil {
				t.Fatal(err)
			}
		}
		_, memory := b.Finish(Options{}, nil)
		return cap(memory)
	}
	var b Builder
	batch(&b, small)
	batch(&b, large)
	if n := batch(&b, small); n > 1000 {
		t.Errorf("a small batch after one large message is made in %d bytes", n)
	}
	batch(&b, large)
	batch(&b, large)
	if n := batch(&b, large+large/20); n > large+large/10 {
		t.Errorf("a batch of about the usual size moved, into %d bytes", n)
	}
}

func TestFinishOfNothing(t *testing.T) {
	var b Builder
	if batch, next := b.Finish(Options{}, []byte("next")); batch != nil || string(next) != "next" {
		t.Errorf("an empty builder finishes %q and keeps what it was lent: %q", batch, next)
	}
}
