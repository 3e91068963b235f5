package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/message"
)

// TestRealmChangesLive adds a store, an endpoint and a durable while clients
// work, and deletes a durable and a store again: who has to do with none of it
// notices nothing.
func TestRealmChangesLive(t *testing.T) {
	t.Parallel()
	first := harness.Definition(harness.Cluster{Name: "main"})
	f := harness.Start(t, 3, first)
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)

	// A store with its endpoint and durables, and a durable in the old store.
	second := strings.Replace(harness.Definition(harness.Cluster{Name: "main", Stores: []string{"more"}}),
		"{name: work, type: shared}\n", "{name: work, type: shared}\n          - {name: late, type: standard}\n", 1)
	plan := f.Apply(second)
	t.Logf("added: %+v", plan.Changes)
	load(f, h, "more")
	late := f.Client()
	s, err := late.Subscribe(within(t, 10*time.Second), "main", client.Durable("late"))
	if err != nil {
		t.Fatalf("subscribe the durable that was added: %v", err)
	}
	if s.Created() {
		t.Error("durable late was created by subscribing: apply returned before it existed")
	}
	if _, err := s.Receive(within(t, 10*time.Second)); err != nil {
		t.Errorf("the durable that was added delivers nothing: %v", err)
	}
	h.AwaitProgress(30 * time.Second)

	// Back to the first definition: the durable and the store go.
	p, err := f.Client().Publisher(within(t, 10*time.Second), "more")
	if err != nil {
		t.Fatal(err)
	}
	h.Forget("more")
	plan, err = f.Client().Admin().PlanRealm(within(t, 10*time.Second), []byte(first), "realm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	destroys := 0
	for _, c := range plan.Changes {
		if c.Destroys {
			destroys++
		}
	}
	if destroys < 2 {
		t.Errorf("the plan that deletes a durable and a store with messages says so of %d changes: %+v", destroys, plan.Changes)
	}
	f.Apply(first)
	harness.Await(t, 10*time.Second, "the subscription of the deleted durable to end", func(context.Context) error {
		_, err := s.Receive(within(t, 10*time.Second))
		switch {
		case errors.Is(err, client.ErrDurableDeleted):
			return nil
		case err == nil:
			return errors.New("it still delivers what it had")
		}
		return err
	})
	if _, err := f.Client().Publisher(within(t, 10*time.Second), "more"); !errors.Is(err, client.ErrNoSuchEndpoint) {
		t.Errorf("publisher to a deleted endpoint: %v", err)
	}
	if _, err := p.Publish(within(t, 10*time.Second), &message.Message{Body: []byte("late")}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("an open publisher to a deleted endpoint: %v", err)
	}
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
	status, err := f.Status(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	c, err := harness.ClusterIn(status, "main")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Stores) != 1 || len(c.Stores[0].Durables) != 2 {
		t.Errorf("after the deletion there is %+v", c.Stores)
	}
}

// TestConcurrentApply lets two administrators change the same revision: one
// wins, the other is told.
func TestConcurrentApply(t *testing.T) {
	t.Parallel()
	f := harness.Start(t, 3, harness.Definition(harness.Cluster{Name: "main"}))
	admin := f.Client().Admin()
	realm, err := admin.GetRealm(within(t, 10*time.Second), 0)
	if err != nil {
		t.Fatal(err)
	}
	more := []byte(harness.Definition(harness.Cluster{Name: "main", Stores: []string{"more"}}))
	if _, err := admin.ApplyRealm(within(t, 30*time.Second), more, "a.yaml", client.IfRevision(realm.Revision)); err != nil {
		t.Fatal(err)
	}
	other := []byte(harness.Definition(harness.Cluster{Name: "main", Stores: []string{"other"}}))
	if _, err := admin.ApplyRealm(within(t, 30*time.Second), other, "b.yaml", client.IfRevision(realm.Revision)); !errors.Is(err, client.ErrRevisionConflict) {
		t.Errorf("applied on a revision that was not the newest: %v", err)
	}
}

// TestClusterDeletedAndMadeAgain deletes a cluster with its data, one of its
// services being fenced, and makes one of the same name: that is new, and has
// nothing of the old.
func TestClusterDeletedAndMadeAgain(t *testing.T) {
	t.Parallel()
	keep := harness.Cluster{Name: "keep"}
	both := harness.Definition(keep, harness.Cluster{Name: "gone", Durability: "memory"})
	f := harness.Start(t, 3, both)
	f.Tolerate(fenced)
	old := harness.NewHistory(t)
	p := old.Publish(f.Client(), "gone", harness.Load{Limit: 1000, Size: 1000})
	if err := p.Wait(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	h := harness.NewHistory(t)
	load(f, h, "keep")
	victim := f.Leader("gone")
	victim.Kill()
	victim.Start()
	f.AwaitState("gone", victim, "fenced")
	f.Apply(harness.Definition(keep))
	f.Apply(both)
	f.AwaitPending("gone", harness.Standard, 0)
	again := harness.NewHistory(t) // its ids begin at 1
	load(f, again, "gone")
	again.AwaitProgress(30 * time.Second)
	h.AwaitProgress(30 * time.Second)
	again.Finish()
	h.Finish()
	f.AwaitIdentical("gone") // three services again: the fenced one went with its cluster
	f.AwaitIdentical("keep")
}
