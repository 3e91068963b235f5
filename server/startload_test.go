package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/store/statefile"
)

// savedThree is three servers with a cluster that is saved in the state directory
// of each, and how their successors are configured.
func savedThree(t *testing.T) (nodes []*node, manifestHash string) {
	t.Helper()
	nodes = three(t)
	nodes[0].apply(replace(t, threeRealm, "durability: async", quickGrace))
	p := leader(t, nodes).mustPublisher("flights")
	p.stored(1, 1, bodies("a", "b", "c"))
	s := leader(t, nodes).mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	s.receive(3)
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 1}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	first := leader(t, nodes)
	first.suspend()
	_, _, manifest := first.save(&perdurepb.SaveClusterRequest{})
	for i, n := range nodes {
		_, saved, m := n.save(&perdurepb.SaveClusterRequest{Service: fmt.Sprintf("main-%d", i+1), ToServer: true, Applied: manifest.Applied})
		if m.StateHash != manifest.StateHash || saved.File != fmt.Sprintf("main.main-%d.state", i+1) {
			t.Fatalf("server %d saved %v, hash %s, want %s", i+1, saved, m.StateHash, manifest.StateHash)
		}
	}
	return nodes, manifest.StateHash
}

// afresh starts the servers again with --load, in place of those that stop. With
// wipe they have nothing but what was saved.
func afresh(t *testing.T, nodes []*node, wipe bool) []*node {
	t.Helper()
	for _, n := range nodes {
		n.stop()
	}
	next := make([]*node, len(nodes))
	for i, n := range nodes {
		c := n.config
		c.Load = true
		if c.StateDir == "" {
			c.StateDir = filepath.Join(c.Data, "state")
		}
		if wipe {
			c.Data = filepath.Join(t.TempDir(), c.Name)
		}
		next[i] = open(t, c)
	}
	return next
}

// states are the files in a server's state directory.
func (n *node) states() []string {
	n.t.Helper()
	entries, err := os.ReadDir(n.stateDir())
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantStates waits until the state directory holds these files.
func (n *node) wantStates(want ...string) {
	n.t.Helper()
	n.until(fmt.Sprintf("its state directory holds %q", want), func() bool { return slices.Equal(n.states(), want) })
}

// wantFlights finds the two messages that are pending, under their ids.
func wantFlights(t *testing.T, nodes []*node) {
	t.Helper()
	if ids := served(t, nodes).mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(2); ids[0] != 2 || ids[1] != 3 {
		t.Errorf("received %v", ids)
	}
}

// served waits until a leader takes clients.
func served(t *testing.T, nodes []*node) (n *node) {
	t.Helper()
	nodes[0].until("somebody serves clients", func() bool {
		n = leader(t, nodes)
		p, err := n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
		return err == nil && !p.opened.Noconfirm && !suspendedHere(n)
	})
	return n
}

func suspendedHere(n *node) bool {
	return slices.ContainsFunc(n.reconciler.all(), func(h *hosted) bool { return h.suspended.Load() })
}

// logs counts a text in the logs of servers.
func logs(nodes []*node, text string) (n int) {
	for _, one := range nodes {
		n += strings.Count(one.log.String(), text)
	}
	return n
}

// TestStartLoad starts three servers at once with --load: one of them loads, all
// rename their files, and clients find what was saved.
func TestStartLoad(t *testing.T) {
	t.Parallel()
	nodes, hash := savedThree(t)
	nodes = afresh(t, nodes, true)
	nodes[0].apply(threeRealm)
	wantFlights(t, nodes)
	for i, n := range nodes {
		n.wantStates(fmt.Sprintf("main.main-%d.state.loaded", i+1))
	}
	if n := logs(nodes, `msg="state loaded"`); n != 1 || logs(nodes, hash) == 0 {
		t.Errorf("it was loaded %d times", n)
	}
	p := leader(t, nodes).mustPublisher("flights")
	if o := p.stored(1, 1, bodies("d")); o.FirstId != 4 {
		t.Errorf("id %d follows 3", o.FirstId)
	}

	// What holds something is left as it is, also by who leads next.
	leader(t, nodes).stop()
	var left []*node
	for _, n := range nodes {
		if !n.stopping() {
			left = append(left, n)
		}
	}
	p = served(t, left).mustPublisher("flights")
	p.stored(1, 1, bodies("e"))
	if n := logs(left, "the cluster is left as it is: it holds something, and there is no saved state of it here"); n != 1 {
		t.Errorf("said %d times that it is left", n)
	}
}

// TestStartLoadElsewhere has the state on one server only, which comes to lead.
func TestStartLoadElsewhere(t *testing.T) {
	t.Parallel()
	nodes, _ := savedThree(t)
	for i, n := range nodes[:2] {
		if err := os.Remove(filepath.Join(n.stateDir(), fmt.Sprintf("main.main-%d.state", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	nodes = afresh(t, nodes, true)
	nodes[0].apply(threeRealm)
	wantFlights(t, nodes)
	nodes[2].wantStates("main.main-3.state.loaded")
	if n := logs(nodes[2:], `msg="state loaded"`); n != 1 {
		t.Errorf("s3 loaded %d times", n)
	}
}

// TestStartLoadInPlace restarts servers that still have what was saved when they
// were shut down: nothing is loaded, and the cluster is resumed.
func TestStartLoadInPlace(t *testing.T) {
	t.Parallel()
	nodes, _ := savedThree(t)
	nodes = afresh(t, nodes, false)
	wantFlights(t, nodes)
	for i, n := range nodes {
		n.wantStates(fmt.Sprintf("main.main-%d.state.loaded", i+1))
	}
	if n := logs(nodes, `msg="state loaded"`); n != 0 {
		t.Errorf("it was loaded %d times", n)
	}
}

// TestStartLoadLeaves finds that a cluster with other content stays as it is, and
// that the file of a load whose server ended too early is renamed.
func TestStartLoadLeaves(t *testing.T) {
	t.Parallel()
	nodes, _ := savedThree(t)
	state, err := os.ReadFile(filepath.Join(nodes[0].stateDir(), "main.main-1.state"))
	if err != nil {
		t.Fatal(err)
	}
	one := replace(t, replace(t, threeRealm, "      - {name: main-2, server: s2}\n", ""), "      - {name: main-3, server: s3}\n", "")
	n := start(t, one)
	n.mustPublisher("flights").stored(1, 1, bodies("other"))
	n.stop()
	put := func(c Config) Config {
		c.Load = true
		dir := filepath.Join(c.Data, "state")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "anything.state"), state, 0o600); err != nil {
			t.Fatal(err)
		}
		return c
	}
	n = open(t, put(n.config))
	n.until("it is left", func() bool {
		return strings.Contains(n.log.String(), "the cluster is left as it is: it holds something, and not the saved state")
	})
	n.wantStates("anything.state")
	if ids := served(t, []*node{n}).mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(1); ids[0] != 1 {
		t.Errorf("received %v", ids)
	}

	loaded := start(t, one)
	if _, err := loaded.load(&perdurepb.LoadOpen{}, state); err != nil {
		t.Fatal(err)
	}
	loaded.resume()
	loaded.mustPublisher("flights").stored(1, 1, bodies("d"))
	loaded.stop()
	loaded = open(t, put(loaded.config))
	loaded.wantStates("anything.state.loaded")
	if ids := served(t, []*node{loaded}).mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(3); !slices.Equal(ids, []uint64{2, 3, 4}) {
		t.Errorf("received %v", ids)
	}
}

// TestStartLoadDamaged finds that nothing is published where a state belongs that
// cannot be loaded, until somebody decides.
func TestStartLoadDamaged(t *testing.T) {
	t.Parallel()
	nodes, _ := savedThree(t)
	for i, n := range nodes {
		name := filepath.Join(n.stateDir(), fmt.Sprintf("main.main-%d.state", i+1))
		state, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		state[len(state)-1] ^= 1
		if err := os.WriteFile(name, state, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nodes = afresh(t, nodes, true)
	nodes[0].until("the realm is formed", func() bool { return nodes[0].forming() == nil })
	if _, err := nodes[0].admin.ApplyRealm(nodes[0].ctx(), &perdurepb.ApplyRealmRequest{Document: []byte(threeRealm), File: "test.yaml"}); err != nil {
		t.Fatal(err)
	}
	nodes[0].until("it is said", func() bool {
		return logs(nodes, "saved state not loaded; the cluster is suspended: load another with perdure cluster load, or let it begin empty with perdure cluster resume") > 0
	})
	n := leader(t, nodes)
	why := "its saved state was not loaded: no server has one that can be loaded: file main.main-"
	n.until("it says that it is not ready, and why", func() bool { return strings.Contains(strings.Join(n.unready(), "\n"), why) })
	status, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{})
	if err != nil || !strings.Contains(fmt.Sprint(status.Clusters[0].Warnings), why) {
		t.Errorf("status %v, %v", status, err)
	}
	var p *publishing
	n.until("it takes publishers", func() (ok bool) {
		var err error
		p, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "flights"})
		return err == nil
	})
	if o := p.publish(1, 1, bodies("a")); o.GetError().GetReason() != perdurepb.Reason_REASON_SUSPENDED {
		t.Errorf("publish: %v", o)
	}
	n.resume()
	p.stored(1, 2, bodies("a"))
}

// TestStartLoadOfNothing begins empty, and refuses nobody afterwards.
func TestStartLoadOfNothing(t *testing.T) {
	t.Parallel()
	c := single(t)
	c.Load = true
	n := open(t, c)
	n.apply(testRealm)
	n.until("it is decided", func() bool {
		return strings.Contains(n.log.String(), "the cluster begins empty: there is no saved state of it")
	})
	served(t, []*node{n}).mustPublisher("flights").stored(1, 1, bodies("a"))
}

// TestStartLoadWhatIsGood: a file that was cut off is passed over for one that is not,
// wherever that is, and so is one of only some stores.
func TestStartLoadWhatIsGood(t *testing.T) {
	t.Parallel()
	nodes, hash := savedThree(t)
	for _, n := range nodes[:2] {
		name := filepath.Join(n.stateDir(), n.states()[0])
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, info.Size()-40); err != nil {
			t.Fatal(err)
		}
	}
	nodes = afresh(t, nodes, true)
	nodes[0].apply(threeRealm)
	wantFlights(t, nodes)
	if logs(nodes, "cluster resumed with its saved state") != 1 || logs(nodes, hash) == 0 {
		t.Error("the state that is good was not loaded")
	}
	for i, n := range nodes {
		n.wantStates(fmt.Sprintf("main.main-%d.state.loaded", i+1))
	}
}

// TestStartLoadForgetsOlder: with a state those that are older are done with, on all
// servers.
func TestStartLoadForgetsOlder(t *testing.T) {
	t.Parallel()
	nodes, _ := savedThree(t)
	first := leader(t, nodes)
	first.resume()
	first.mustPublisher("flights").stored(1, 1, bodies("d"))
	first.suspend()
	_, _, manifest := first.save(&perdurepb.SaveClusterRequest{})
	for i, n := range nodes[1:] { // the first was down
		n.save(&perdurepb.SaveClusterRequest{Service: fmt.Sprintf("main-%d", i+2), ToServer: true, Applied: manifest.Applied})
	}
	nodes = afresh(t, nodes, true)
	nodes[0].apply(threeRealm)
	served(t, nodes).mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"}).receive(3)
	nodes[0].wantStates("main.main-1.state.loaded")
}

// TestMissingStores finds that a file was saved without a store.
func TestMissingStores(t *testing.T) {
	t.Parallel()
	f := &savedState{name: "x", manifest: &statefile.Manifest{Cluster: "main", Definition: testRealm}}
	if got := f.missing(); !slices.Contains(got, "flights") {
		t.Errorf("missing %q", got)
	}
	for _, name := range f.missing() {
		f.manifest.Stores = append(f.manifest.Stores, statefile.StoreSummary{Name: name})
	}
	if got := f.missing(); len(got) != 0 {
		t.Errorf("missing %q of a whole file", got)
	}
}
