package harness

import (
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// fakeHistory has one publisher to store "main" that was confirmed n messages,
// with ids from 1 on, and one durable.
func fakeHistory(t *testing.T, kind client.Kind, n int) (*History, *Publishing, *consumed) {
	h := NewHistory(t)
	p := &Publishing{h: h, store: "main"}
	h.publishers = append(h.publishers, p)
	d := &consumed{
		h: h, store: "main", name: "audit", kind: kind,
		since: map[uint32]uint64{}, got: map[uint32][]byte{}, by: map[uint32][]byte{}, settled: map[uint32][]bool{}, next: map[uint32]uint64{},
	}
	h.durables["main/audit"] = d
	for sequence := range uint64(n) {
		p.outcomes, p.ids = append(p.outcomes, confirmed), append(p.ids, 0)
		h.slot("main", message.ID(sequence+1), p, sequence, "confirmation")
	}
	p.confirmed = uint64(n)
	return h, p, d
}

// come is one delivery.
type come struct {
	sequence uint64
	id       message.ID
	count    int
	number   byte // of the subscriber
}

func straight(n int) []come {
	var all []come
	for i := range n {
		all = append(all, come{sequence: uint64(i), id: message.ID(i + 1)})
	}
	return all
}

// TestHistorySeesFaults plants what servers must never do, and shows that each
// is seen.
func TestHistorySeesFaults(t *testing.T) {
	const n = 100
	for _, tc := range []struct {
		name  string
		kind  client.Kind
		plant func(h *History, p *Publishing, d *consumed, all []come) []come
		want  string // "" if it is no fault
	}{
		{"nothing", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come { return all }, ""},
		{"one lost", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all[:40], all[41:]...)
		}, "misses 1 of"},
		{"the last lost", client.KindShared, func(_ *History, _ *Publishing, _ *consumed, all []come) []come { return all[:n-1] }, "misses 1 of"},
		{"two swapped", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			all[3], all[4] = all[4], all[3]
			return all
		}, "out of order"},
		{"two swapped, shared", client.KindShared, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			all[3], all[4] = all[4], all[3]
			return all
		}, ""},
		{"one again, counted", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all, come{7, 8, 1, 0})
		}, ""},
		{"one again, not counted", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all, come{7, 8, 0, 0})
		}, "its count is 0"},
		{"one again to the next, not counted", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all, come{7, 8, 0, 1})
		}, "its count is 0"},
		{"one that was taken over, and seen by the next before", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			all[n-1].count, all[n-1].number = 1, 1
			return append(all, come{n - 1, n, 0, 0})
		}, ""},
		{"one again after its acknowledgement", client.KindStandard, func(_ *History, _ *Publishing, d *consumed, all []come) []come {
			d.settled[0] = grow[bool](nil, 7)
			d.settled[0][7] = true
			return append(all, come{7, 8, 1, 0})
		}, "acknowledged"},
		{"one that nobody published", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all, come{n, n + 1, 0, 0})
		}, "nobody published"},
		{"one that was refused", client.KindStandard, func(_ *History, p *Publishing, _ *consumed, all []come) []come {
			p.outcomes[9] = refused
			return all
		}, "refused"},
		{"one that is unknown", client.KindStandard, func(_ *History, p *Publishing, _ *consumed, all []come) []come {
			p.outcomes[9] = unknown
			return append(all[:9], all[10:]...)
		}, ""},
		{"one stored twice", client.KindStandard, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			return append(all, come{9, n + 1, 1, 0})
		}, "stored twice"},
		{"one id for two", client.KindShared, func(_ *History, _ *Publishing, _ *consumed, all []come) []come {
			all[9].id = 9
			return all
		}, "id 9 of store main is message 9"},
		{"ids that fall", client.KindShared, func(h *History, p *Publishing, _ *consumed, all []come) []come {
			p.ids[3], p.ids[4] = p.ids[4], p.ids[3]
			h.slots["main"][4], h.slots["main"][5] = h.slots["main"][5], h.slots["main"][4]
			all[3].id, all[4].id = all[4].id, all[3].id
			return all
		}, "not above"},
		{"a gap in ids", client.KindShared, func(h *History, p *Publishing, _ *consumed, all []come) []come {
			h.slots["main"][n] = 0
			h.slot("main", n+5, p, 0, "")
			h.problems, p.ids[0] = nil, 1
			return all
		}, "gap"},
		{"an epoch", client.KindShared, func(h *History, p *Publishing, _ *consumed, all []come) []come {
			h.slot("main", message.MakeID(1, 5), p, 5, "confirmation")
			return all
		}, "epoch"},
		{"what another store has", client.KindShared, func(_ *History, p *Publishing, _ *consumed, all []come) []come {
			p.store = "other"
			return all
		}, "published to store other"},
		{"nothing, but a store that is forgotten", client.KindShared, func(h *History, _ *Publishing, _ *consumed, _ []come) []come {
			h.forgotten["main"] = true
			delete(h.durables, "main/audit")
			return nil
		}, ""},
	} {
		h, p, d := fakeHistory(t, tc.kind, n)
		for _, c := range tc.plant(h, p, d, straight(n)) {
			if why := d.note(c.number, 0, c.sequence, c.id, c.count); why != "" {
				h.problem(d.store, "%s", why)
			}
		}
		for _, d := range h.durables {
			if err := d.complete(); err != nil {
				h.problem(d.store, "%v", err)
			}
		}
		h.judge()
		said := strings.Join(h.problems, "\n")
		if tc.want == "" && said != "" || !strings.Contains(said, tc.want) {
			t.Errorf("%s: the history says %q, want %q", tc.name, said, tc.want)
		}
	}
}

// TestBodies shows that any changed byte of a body is seen.
func TestBodies(t *testing.T) {
	for _, size := range []int{0, headLen, 200} {
		b := body(nil, 3, 77, size)
		if publisher, sequence, err := read(b); publisher != 3 || sequence != 77 || err != nil {
			t.Errorf("size %d: %d, %d, %v", size, publisher, sequence, err)
		}
		for at := range b {
			b[at] ^= 0x10
			publisher, sequence, err := read(b)
			if err == nil && publisher == 3 && sequence == 77 {
				t.Errorf("size %d: nobody sees that byte %d is wrong", size, at)
			}
			b[at] ^= 0x10
		}
		if _, _, err := read(b[:len(b)-1]); err == nil {
			t.Errorf("size %d: nobody sees that a byte is missing", size)
		}
	}
}

// TestLogsAreRead shows which lines of a log fail a test.
func TestLogsAreRead(t *testing.T) {
	f := &Fleet{t: t}
	f.Tolerate("disk is on fire")
	for line, want := range map[string]bool{
		`time=x level=INFO msg="all is well"`:                false,
		`time=x level=WARN msg="a connection ended"`:         false,
		`time=x level=ERROR msg="a replica stopped"`:         true,
		`time=x level=ERROR msg="the disk is on fire" x=y`:   false,
		"panic: runtime error: index out of range":           true,
		"fatal error: concurrent map writes":                 true,
		"WARNING: DATA RACE":                                 true,
		fmt.Sprintf("time=x level=INFO msg=%q", "no panic:"): false,
	} {
		if got := f.alarming(line); got != want {
			t.Errorf("%s: alarming %v, want %v", line, got, want)
		}
	}
}
