package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
)

// Many new clusters are claimed together: what the realm writes, and how often
// every server looks at everything, does not grow with their number.
func TestManyClustersAreClaimedTogether(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	const clusters = 60
	var b strings.Builder
	b.WriteString("realm: test\nclusters:\n")
	for i := range clusters {
		fmt.Fprintf(&b, "  - name: c%d\n    durability: memory\n    profile: fast\n    services:\n", i)
		for s := range 3 {
			fmt.Fprintf(&b, "      - {name: c%d-%d, server: s%d}\n", i, s, s+1)
		}
		fmt.Fprintf(&b, "    stores:\n      - {name: store%d}\n", i)
	}
	b.WriteString("endpoints:\n  - {name: first, store: store0}\n")
	nodes[0].until("the realm is founded", func() bool { return nodes[0].forming() == nil })
	before, err := nodes[0].realm.group().Status(nodes[0].ctx())
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].apply(b.String()) // returns when every cluster has it
	after, err := nodes[0].realm.group().Status(nodes[0].ctx())
	if err != nil {
		t.Fatal(err)
	}
	// One for the definition, a few for the claims of each server, and elections.
	if n := after.Applied - before.Applied; n > clusters/2 {
		t.Errorf("%d entries in the realm's log for %d clusters", n, clusters)
	}
	for _, n := range nodes {
		if got := len(n.reconciler.all()); got != clusters {
			t.Errorf("%s has %d services", n.config.Name, got)
		}
	}
}

// Copies of an engine that were not noted, because the process ended in between,
// are noted before they are used; one that is noted and not there is not made
// anew.
func TestCopiesAreNoted(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	e := n.engines
	if err := e.create(realm.Async, newCopy{copyID(catalog.FirstCluster+1, 1), 1, []uint64{1}}, newCopy{copyID(catalog.FirstCluster+2, 1), 1, []uint64{1}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.config.Data, copiesFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []uint64{catalog.FirstCluster, catalog.FirstCluster + 1, catalog.FirstCluster + 2} {
		if !strings.Contains(string(data), fmt.Sprint(copyID(c, 1))) {
			t.Errorf("copy of cluster %d is not noted: %s", c, data)
		}
	}
	if there, err := e.exists(realm.Memory, copyID(catalog.FirstCluster, 1)); err == nil || there {
		t.Errorf("a noted copy in another engine: there %v, %v", there, err)
	}
}

// A server that finds copies which are not noted notes them.
func TestCopiesAreNotedAgain(t *testing.T) {
	t.Parallel()
	config := single(t)
	n := open(t, config)
	n.apply(testRealm)
	n.stop()
	path := filepath.Join(config.Data, copiesFile)
	if err := os.WriteFile(path, fmt.Appendf(nil, "[%d]", copyID(catalog.RealmGroup, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	n = open(t, config)
	n.until("it is ready", func() bool { return len(n.unready()) == 0 })
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), fmt.Sprint(copyID(catalog.FirstCluster, 1))) {
		t.Errorf("noted: %s, %v", data, err)
	}
}
