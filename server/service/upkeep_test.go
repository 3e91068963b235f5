package service

import (
	"errors"
	"slices"
	"strings"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
)

// kinds names the commands among own.
func kinds(own [][]byte) (out []string) {
	for _, c := range own {
		name, _, _ := strings.Cut(store.Command(c), " ")
		out = append(out, name)
	}
	return out
}

func TestChecksumAfterTrafficOnly(t *testing.T) {
	r := newRig(t) // which deployed: that is traffic
	r.mono += checksumEvery
	if d := r.s.Deadline(); d == 0 || d > r.mono {
		t.Fatalf("deadline %d at %d", d, r.mono)
	}
	own := r.seal()
	if got := kinds(own); !slices.Equal(got, []string{"Checksum"}) {
		t.Fatalf("commands %v", got)
	}
	r.commit()
	// The checksum itself is no traffic: an idle cluster writes nothing.
	for range 5 {
		r.mono += checksumEvery
		if own := r.seal(); len(own) != 0 {
			t.Fatalf("without traffic: %v", kinds(own))
		}
	}
	r.publish(1) // so long after the last one, the next follows at once
	if at, _ := r.s.Checksum(); at != r.index {
		t.Fatalf("checked at %d, want %d", at, r.index)
	}
}

func TestChecksumAfterManyEntries(t *testing.T) {
	r := newRig(t)
	sums := 0
	for range 2*checksumEntries + 10 {
		own := r.seal(publish(1))
		sums += len(own)
		r.commit()
	}
	if sums != 2 {
		t.Fatalf("%d checksums", sums)
	}
}

// A replica whose state differs stops, before it confirms anything else.
func TestDivergedStopsTheReplica(t *testing.T) {
	r := newRig(t)
	r.publish(1)
	check := func(index, hash uint64) error {
		r.index++
		_, err := r.s.Apply(cluster.Entry{
			Index: r.index, Term: r.term, Stamp: 2e18, Commands: [][]byte{store.AppendChecksum(nil, index, hash)}, Offsets: []uint32{20},
		}, nil)
		return err
	}
	r.s.Unlead()
	if err := check(0, 0); err != nil {
		t.Fatal(err)
	}
	at, hash := r.s.Checksum()
	if err := check(at, hash); err != nil {
		t.Fatal(err)
	}
	at, hash = r.s.Checksum()
	if err := check(at, hash+1); !errors.Is(err, ErrDiverged) {
		t.Fatalf("a state that differs: %v", err)
	}
}

// Sessions of publishers that are there do not expire, however idle; others do.
func TestTicksKeepSessions(t *testing.T) {
	r := newRig(t)
	kept := r.run(store.AppendOpenSession(nil, flights, 0, 0)).Session
	idle := r.run(store.AppendOpenSession(nil, flights, 0, 0)).Session
	if err := r.s.Keep(&Publisher{ID: 1, Session: kept, Ended: func(perdurepb.Reason) {}}); err != nil {
		t.Fatal(err)
	}
	for range 62 {
		r.pass(tickEvery)
	}
	if _, ok := r.s.Session(kept); !ok {
		t.Error("the session of a connected publisher expired")
	}
	if _, ok := r.s.Session(idle); ok {
		t.Error("a session that nobody used for an hour is still there")
	}
}

func TestNoTicksWithoutSessions(t *testing.T) {
	r := newRig(t)
	r.pass(checksumEvery)
	for range 3 {
		r.mono += tickEvery
		if d := r.s.Deadline(); d == 0 || d > r.mono {
			t.Fatalf("deadline %d at %d", d, r.mono)
		}
		if own := r.seal(); len(own) != 0 {
			t.Fatalf("commands %v", kinds(own))
		}
	}
}

// A follower keeps nothing of what only a leader needs.
func TestFollowersGatherNothing(t *testing.T) {
	r := newRig(t)
	r.unlead()
	for range 100 {
		r.index++
		r.apply(cluster.Entry{Index: r.index, Term: r.term, Stamp: 2e18, Commands: [][]byte{publish(3)}, Offsets: []uint32{20}})
	}
	if got := r.s.Touched(); len(got) != 0 {
		t.Errorf("touched %v", got)
	}
	if len(r.s.hot)+len(r.s.durables)+len(r.s.entries.items)+r.s.upkeep.entries > 1 {
		t.Errorf("left behind: %d %d %d %d", len(r.s.hot), len(r.s.durables), len(r.s.entries.items), r.s.upkeep.entries)
	}
	r.lead()
	if s := r.subscribe(delays, 1, 500); len(s.ids()) != 300 {
		t.Errorf("%d delivered by the next leader", len(s.ids()))
	}
}
