package cluster

import (
	"bytes"
	"errors"
	"testing"
)

// lent is a proposal in memory with front bytes before its body. Its owner
// writes over the memory as soon as it is released.
func lent(front, size, n int, released *int) Proposal[string] {
	memory := make([]byte, front+size)
	body := memory[front:]
	for i := range body {
		body[i] = byte(n)
	}
	return Proposal[string]{
		Command: []byte{byte(n)}, Body: body, Memory: memory,
		Release: func() {
			*released++
			for i := range memory {
				memory[i] = 0xee
			}
		},
	}
}

// logged returns the commands in the log, in order.
func logged(t *testing.T, p *puppet) (all [][]byte) {
	t.Helper()
	end, err := p.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := p.log.Entries(1, end+1, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	var o opened
	for _, e := range entries {
		if len(e.GetData()) == 0 {
			continue
		}
		if err := errors.Join(CheckEntry(e.GetData()), o.open(e.GetData())); err != nil {
			t.Fatal(err)
		}
		for _, c := range o.commands {
			all = append(all, bytes.Clone(c))
		}
	}
	return all
}

// TestMemoryOfProposalsMayChangeOnceReleased proposes bodies in memory with room
// and without, alone in an entry and with others.
func TestMemoryOfProposalsMayChangeOnceReleased(t *testing.T) {
	p := newPuppet(t, 1)
	p.lead()
	released, n := 0, 0
	for _, sizes := range [][]int{{60 << 10}, {10, 20, 30}, {60 << 10, 60 << 10, 5}, {1}, {300 << 10, 60 << 10}} {
		for _, front := range []int{0, EntryFront, EntryFront + 1, 200} {
			for _, size := range sizes {
				n++
				p.Propose(lent(front, size, n, &released))
			}
			p.advance(0)
			if released != n {
				t.Fatalf("memory of %d proposals is released, %d were sealed", released, n)
			}
			p.store()
		}
	}
	all := logged(t, p)
	if len(all) != n {
		t.Fatalf("%d commands are in the log, want %d", len(all), n)
	}
	for i, c := range all {
		if want := bytes.Repeat([]byte{byte(i + 1)}, len(c)); !bytes.Equal(c, want) {
			t.Fatalf("command %d of %d bytes is not what was proposed", i+1, len(c))
		}
	}
}

// TestEntryIsMadeAroundItsBody checks that a body which fills an entry is not
// copied where there is room before it.
func TestEntryIsMadeAroundItsBody(t *testing.T) {
	for front, inPlace := range map[int]bool{EntryFront: false, EntryFront + 1: true} {
		p := newPuppet(t, 1)
		p.lead()
		var released int
		q := lent(front, 60<<10, 1, &released)
		memory, freed := q.Memory, q.Release
		q.Release = func() {
			if made := memory[front-1] == 1; made != inPlace {
				t.Errorf("front of %d bytes: made in place %v, want %v", front, made, inPlace)
			}
			freed()
		}
		p.Propose(q)
		p.advance(0)
		if released != 1 {
			t.Errorf("front of %d bytes: released %d times", front, released)
		}
	}
}

// A replica that has nothing to do does not keep the entry it applied last.
func TestAppliedEntriesAreLetGo(t *testing.T) {
	p := newPuppet(t, 1)
	p.lead()
	p.Propose(Proposal[string]{Command: make([]byte, 1000)})
	p.Propose(Proposal[string]{Command: make([]byte, 1000)})
	p.advance(0)
	p.store()
	commands := p.open.commands[:cap(p.open.commands)]
	if len(commands) < 2 {
		t.Fatalf("%d commands were applied, want 2", len(commands))
	}
	for i, c := range commands {
		if c != nil {
			t.Errorf("command %d of the last entry is kept: %d bytes", i, len(c))
		}
	}
}
