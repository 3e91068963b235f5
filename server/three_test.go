package server

import (
	"errors"
	"fmt"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
)

const threeRealm = `
realm: test
clusters:
  - name: main
    durability: async
    profile: fast
    services:
      - {name: main-1, server: s1}
      - {name: main-2, server: s2}
      - {name: main-3, server: s3}
    stores:
      - name: flights
        durables:
          - {name: audit, type: standard}
endpoints:
  - {name: flights, store: flights, default_durable: audit}
`

// TestThreeServers walks through what becomes of the streams of a leader: others
// name it, a graceful stop names the next one, and without a majority what was
// on its way is unknown.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	first := leader(t, nodes)
	for _, n := range nodes {
		if n == first {
			continue
		}
		n.until("it knows the leader", func() bool {
			r, err := n.messages.Resolve(n.ctx(), &perdurepb.ResolveRequest{Endpoint: "flights"})
			return err == nil && r.GetLeader().GetServer() == first.config.Name && len(r.Candidates) == 3
		})
		_, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
		if e := wantReason(t, err, perdurepb.Reason_REASON_NOT_LEADER); e.Leader.GetAddress() != first.ClientAddr() {
			t.Errorf("hint %v, want %s", e.Leader, first.ClientAddr())
		}
	}
	p, idle := first.mustPublisher("flights"), first.mustPublisher("flights")
	s := first.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	p.stored(1, 1, bodies("a"))
	s.receive(1)

	go first.stop()
	for what, end := range map[string]func() error{"publisher": p.end, "idle publisher": idle.end, "subscriber": s.end} {
		e := wantReason(t, end(), perdurepb.Reason_REASON_STOPPING)
		if e.Leader == nil || e.Leader.Server == first.config.Name {
			t.Errorf("%s: hint %v", what, e.Leader)
		}
	}
	first.stop() // waits for the other
	var left []*node
	for _, n := range nodes {
		if n != first {
			left = append(left, n)
		}
	}
	second := leader(t, left)
	p, err := second.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: p.opened.Session})
	if err != nil || p.opened.LastSequence != 1 {
		t.Fatalf("resumed %v: %v", p, err)
	}
	s = second.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	s.receive(1)

	// Without the third there is no majority. Somebody is always on the way.
	for _, n := range left {
		if n != second {
			go n.stop()
		}
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := uint64(2); p.stream.Send(&perdurepb.PublishRequest{Sequence: i, Attempt: 1, Batch: bodies("x")}) == nil; i++ {
		}
	}()
	wantReason(t, p.end(), perdurepb.Reason_REASON_OUTCOME_UNKNOWN)
	<-sent
	e := reasonOf(t, s.end())
	if e.Reason != perdurepb.Reason_REASON_NOT_LEADER || e.Leader != nil {
		t.Errorf("subscriber: %v", e)
	}
	for _, n := range left {
		if n != second {
			n.stop()
		}
	}
	_, err = second.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_NO_LEADER)
}

// leader waits until one of nodes leads the only cluster.
func leader(t testing.TB, nodes []*node) (found *node) {
	t.Helper()
	nodes[0].until("somebody leads", func() bool {
		for _, n := range nodes {
			for _, h := range n.reconciler.all() {
				if h.running() && h.group.Leads() {
					found = n
					return true
				}
			}
		}
		return false
	})
	return found
}

// A wiped core server is fenced, and the others go on.
func TestWipedServer(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	leader(t, nodes)
	nodes[2].until("the realm is known", func() bool { return nodes[2].forming() == nil })
	nodes[2].stop()
	config := nodes[2].config
	config.Data = fmt.Sprint(t.TempDir(), "/empty")
	wiped := open(t, config)
	wiped.until("it is fenced", func() bool { return wiped.realm.failure() != nil })
	if err := wiped.realm.failure(); !errors.Is(err, cluster.ErrMayHaveForgotten) {
		t.Errorf("failure %v", err)
	}
	n := leader(t, nodes[:2])
	p := n.mustPublisher("flights")
	p.stored(1, 1, bodies("a"))
}
