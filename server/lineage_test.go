package server

import (
	"slices"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// lineage returns what a subscriber is told of a durable.
func (n *node) lineage(durable string) uint64 {
	n.t.Helper()
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: durable})
	s.say(&perdurepb.SubscribeRequest{Close: true})
	return s.opened.GetLineage()
}

// A lineage is that of one durable, of one realm, between two loads: what was delivered
// in another one cannot be acknowledged.
func TestLineage(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, _ := n.save(&perdurepb.SaveClusterRequest{})
	n.resume()
	all := []uint64{n.lineage("delays"), n.lineage("audit")}
	if again := n.lineage("delays"); again != all[0] {
		t.Errorf("lineage %016x, then %016x", all[0], again)
	}
	for range 2 { // realms of the same definition
		other := start(t, testRealm)
		all = append(all, other.lineage("delays"))
		if _, err := other.load(&perdurepb.LoadOpen{}, file); err != nil {
			t.Fatal(err)
		}
		other.resume()
		all = append(all, other.lineage("delays"), other.lineage("audit"))
	}
	n.suspend()
	if _, err := n.load(&perdurepb.LoadOpen{Replace: true}, file); err != nil {
		t.Fatal(err)
	}
	n.resume()
	all = append(all, n.lineage("delays"))
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) || all[0] == 0 {
		t.Errorf("lineages %016x: want them all different, and none 0", all)
	}
}

// Another leader says the same.
func TestLineageOfServers(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	first := leader(t, nodes)
	want := first.lineage("audit")
	first.stop()
	second := leader(t, slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == first }))
	if got := second.lineage("audit"); got != want {
		t.Errorf("server %s says %016x, %s said %016x", second.config.Name, got, first.config.Name, want)
	}
}
