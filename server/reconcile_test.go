package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
)

// viewOf returns the view of a realm of s1 with clusters of one service each, of
// which the first few are claimed.
func viewOf(t *testing.T, clusters, claimed int) *catalog.View {
	t.Helper()
	var b strings.Builder
	b.WriteString("realm: test\nclusters:\n")
	for i := range clusters {
		fmt.Fprintf(&b, "  - name: c%d\n    durability: memory\n    services:\n      - {name: c%d-1, server: s1}\n", i, i)
		fmt.Fprintf(&b, "    stores:\n      - {name: store%d}\n", i)
	}
	apply, err := catalog.Apply{Document: []byte(b.String()), File: "test.yaml"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := catalog.New()
	run := func(index uint64, command []byte) {
		results, err := m.Apply(index, 1, int64(index), [][]byte{command}, nil)
		if err != nil || results[0].Code != catalog.OK {
			t.Fatalf("command %d: %v, %v", index, results, err)
		}
	}
	run(1, catalog.Found{RealmID: [16]byte{1}, Core: []catalog.CoreServer{{Name: "s1", Peer: "127.0.0.1:1"}}}.Encode())
	run(2, catalog.Register{Server: catalog.Server{Name: "s1", Client: "127.0.0.1:2", Peer: "127.0.0.1:1", Ops: "127.0.0.1:3"}}.Encode())
	run(3, apply)
	for i, c := range m.View().Clusters[:claimed] {
		run(uint64(4+i), catalog.Claim{Cluster: c.ID, Replica: c.Services[0].ReplicaID, Server: 1, Tag: 1}.Encode())
	}
	return m.View()
}

// A server that comes back while the realm has no leader starts what it has, and
// does not wait until it knows that it can claim nothing.
func TestWhatIsHereStartsBeforeClaims(t *testing.T) {
	t.Parallel()
	n := open(t, single(t))
	n.until("the realm is formed", func() bool { return n.forming() == nil })
	v := viewOf(t, 2, 1)
	here, absent := &v.Clusters[0], &v.Clusters[1]
	replica := here.Services[0].ReplicaID
	if err := n.engines.create(realm.Memory, newCopy{copyID(here.ID, replica), replica, []uint64{replica}}); err != nil {
		t.Fatal(err)
	}
	n.realm.mu.Lock()
	g := n.realm.mu.group // without it there is no leader to be found
	n.realm.mu.group = nil
	n.realm.mu.Unlock()
	defer func() {
		n.realm.mu.Lock()
		n.realm.mu.group = g
		n.realm.mu.Unlock()
	}()

	r := newReconciler(n.Server)
	r.claimPatience = 2 * patience
	started := errors.New("the test saw what it waited for")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.reconcile(ctx, v)
	}()
	defer func() {
		cancel(started)
		<-done
		for _, h := range r.all() {
			if h.group != nil {
				if err := h.group.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	n.until("the service whose copy is here runs", func() bool {
		h := r.find(here.ID, replica)
		return h != nil && h.running()
	})
	cancel(started)
	<-done
	h := r.find(absent.ID, absent.Services[0].ReplicaID)
	if h == nil || h.running() || !strings.Contains(h.waiting, started.Error()) {
		t.Errorf("the service without a claim: %+v", h)
	}
}

// All claims of a pass have one deadline, however many calls they need.
func TestClaimsOfAPassHaveOneDeadline(t *testing.T) {
	v := viewOf(t, 1, 0)
	synctest.Test(t, func(t *testing.T) {
		s := &Server{config: Config{Name: "s1"}, id: &identity{Install: 1}}
		s.realm = &realmNode{server: s, core: []CoreServer{{Name: "s1", ID: 1}}} // leads nothing
		r := newReconciler(s)
		c := &v.Clusters[0]
		missing := slices.Repeat([]*hosted{{cluster: c.ID, replica: c.Services[0].ReplicaID}}, 3*commandsAtOnce)
		began := time.Now()
		r.claim(t.Context(), v, missing)
		if took := time.Since(began); took != claimPatience {
			t.Errorf("claims gave up after %v of the bubble's time, want %v", took, claimPatience)
		}
		if w := missing[len(missing)-1].waiting; !strings.Contains(w, errNoRealmLeader.Error()) {
			t.Errorf("waiting for %q", w)
		}
	})
}
