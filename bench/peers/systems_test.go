package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/perdure/perdure/bench/limit/ours"
	"github.com/perdure/perdure/bench/limit/program"
	"github.com/perdure/perdure/bench/limit/ratio"
)

// small is a load of a scenario for a moment.
func small(s scenario, durability string) comparison {
	l := load{
		Load: ratio.Load{Scenario: s.name, Size: 128, Durability: durability},
		warm: 50 * time.Millisecond, time: 400 * time.Millisecond,
	}
	s.set(&l, true)
	if l.drains() {
		l.backlog = 500
	}
	if l.rate > 0 {
		l.rate = 500
	}
	return comparison{s, l}
}

// check runs a path and wants a figure for each unit of the scenario.
func check(t *testing.T, s system, c comparison, p ratio.Path) {
	t.Helper()
	o := options{Options: program.Options{Progress: io.Discard}}
	f, err := o.tell(c, s, p)(t.Context())
	if err != nil {
		t.Errorf("%s, %s: %v: %v", s.name(), p.Name, c.load.Load, err)
		return
	}
	if rate, ok := f[ratio.MsgsPerSecond]; ok && rate <= 0 {
		t.Errorf("%s, %s: %v: %v", s.name(), p.Name, c.load.Load, f)
	}
}

// TestPeers puts every scenario on each peer, by every path, with real servers.
func TestPeers(t *testing.T) {
	for _, s := range []system{&natsPeer{}, &etcdPeer{}} {
		t.Run(s.name(), func(t *testing.T) {
			defer s.close()
			for _, scenario := range scenarios() {
				durabilities := scenario.peers[s.name()]
				if len(durabilities) == 0 {
					continue
				}
				c := small(scenario, durabilities[0])
				for _, p := range s.paths(c.load) {
					check(t, s, c, p)
				}
			}
		})
	}
}

// TestOurs puts every scenario on perdure, with real servers.
func TestOurs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary, err := ours.Open(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	us := perdure{binary}
	for _, scenario := range scenarios() {
		c := small(scenario, memory)
		check(t, us, c, us.paths(c.load)[0])
	}
}
