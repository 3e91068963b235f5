package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

const lossesRealm = `
realm: r
clusters:
  - name: main
    services: [{name: main-1, server: s1}]
    stores:
      - name: orders
        durables: [{name: billing, type: standard}]
      - name: notes
`

func lossesStatus() *client.Status {
	return &client.Status{Clusters: []client.ClusterStatus{{
		Name: "main", Leader: "s1",
		Services: []client.ServiceStatus{{Name: "main-1", Server: "s1", State: "leader", StateHash: "ab"}},
		Stores: []client.StoreStatus{
			{Name: "orders", Messages: 5000, Durables: []client.DurableStatus{{Name: "billing", Pending: 4000}, {Name: "x", Pending: 30}, {Name: "y"}}},
			{Name: "notes"},
		},
	}}}
}

func TestHoldings(t *testing.T) {
	old, err := realm.Parse("old", []byte(lossesRealm))
	if err != nil {
		t.Fatal(err)
	}
	const store, durable = "clusters[main].stores[orders]", "clusters[main].stores[orders].durables[billing]"
	for _, tc := range []struct {
		name  string
		spoil func(*client.ClusterStatus)
		want  map[string]string
	}{
		{"all is well", func(*client.ClusterStatus) {}, map[string]string{
			"clusters[main]":               "deletes 5,000 messages, 4,030 pending",
			store:                          "deletes 5,000 messages, 4,030 pending; with it the dynamic durables x (30 pending), y (0 pending)",
			durable:                        "deletes 4,000 pending",
			"clusters[main].stores[notes]": "holds no messages",
		}},
		{"no leader", func(c *client.ClusterStatus) { c.Leader = "" }, map[string]string{
			"clusters[main]": "deletes what cannot be looked up: cluster main has no leader",
			durable:          "deletes what cannot be looked up: cluster main has no leader",
		}},
		{"a follower answers", func(c *client.ClusterStatus) { c.Services[0].State = "follower" }, map[string]string{
			store: "deletes what cannot be looked up: the leader of cluster main, s1, does not answer",
		}},
		{"the leader does not answer", func(c *client.ClusterStatus) { c.Services[0].StateHash = "" }, map[string]string{
			store: "deletes what cannot be looked up: the leader of cluster main, s1, does not answer",
		}},
		{"a store is on its way", func(c *client.ClusterStatus) { c.Stores = c.Stores[1:] }, map[string]string{
			"clusters[main]": "deletes what cannot be looked up: the leader, s1, does not list it",
			store:            "deletes what cannot be looked up: the leader, s1, does not list it",
			durable:          "deletes what cannot be looked up: the leader, s1, does not list it",
		}},
		{"a durable is on its way", func(c *client.ClusterStatus) { c.Stores[0].Durables = c.Stores[0].Durables[1:] }, map[string]string{
			durable: "deletes what cannot be looked up: the leader, s1, does not list it",
		}},
		{"another cluster", func(c *client.ClusterStatus) { c.Name = "other" }, map[string]string{
			store: "deletes what cannot be looked up: the servers do not list cluster main",
		}},
	} {
		s := lossesStatus()
		tc.spoil(&s.Clusters[0])
		found := holdings(old, s)
		for path, want := range tc.want {
			if got := found[path].String(); got != want {
				t.Errorf("%s: %s: %s, want %s", tc.name, path, got, want)
			}
			if found[path].any() != strings.HasPrefix(want, "deletes") {
				t.Errorf("%s: %s: any is %v", tc.name, path, found[path].any())
			}
		}
	}
}

func TestRefusal(t *testing.T) {
	gone := client.Change{Action: "delete", Path: "clusters[main].stores[orders]", Destroys: true}
	o := &outlook{&client.Plan{Changes: []client.Change{{Action: "create", Path: "x"}, gone}}, map[string]holding{gone.Path: {}}}
	if err := o.refusal("f"); err != nil {
		t.Errorf("nothing is lost: %v", err)
	}
	o.holds[gone.Path] = holding{Pending: 1}
	if c := describe(o.refusal("f")); c.Reason != "WOULD_DELETE" || c.Retryable || len(c.Deletes) != 1 || c.Deletes[0].Pending != 1 {
		t.Errorf("%+v", c)
	}
	// What a plan destroys and nobody has heard of is not taken for empty.
	old, err := realm.Parse("old", []byte(lossesRealm))
	if err != nil {
		t.Fatal(err)
	}
	o.plan.Changes[1].Path = "clusters[elsewhere]"
	if o.read(old, lossesStatus()) {
		t.Error("what is not listed was found")
	}
	var refused *wouldDelete
	if err := o.refusal("f"); !errors.As(err, &refused) || !describe(err).Retryable || !strings.Contains(err.Error(), "nobody can look into") {
		t.Errorf("%v", err)
	}
}
