package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// TestFigure is the figure of FTL's concept guide: three servers, five clusters
// of three services each, with stores of different names. Clients of all five
// work at once, and clients of clusters that a killed server did not lead see
// nothing of it.
func TestFigure(t *testing.T) {
	var clusters []harness.Cluster
	var names []string
	for i := range 5 {
		c := harness.Cluster{Name: fmt.Sprintf("cluster-%c", 'a'+i)}
		if i%2 == 1 {
			c.Durability = "async"
		}
		clusters, names = append(clusters, c), append(names, c.Name)
	}
	f := harness.Start(t, 3, harness.Definition(clusters...))
	leaders := map[string]string{}
	led := map[string]int{}
	for name, c := range f.Clusters(names...) {
		leaders[name] = c.Leader
		led[c.Leader]++
	}
	for server, n := range led {
		if n > 2 {
			t.Errorf("server %s leads %d clusters after the start; leaders do not spread: %v", server, n, leaders)
		}
	}
	h := harness.NewHistory(t)
	publishers := map[string]*harness.Publishing{}
	for _, c := range clusters {
		h.Subscribe(f.Client(), c.Name)
		h.Subscribe(f.Client(), c.Name, client.SubscriberName(harness.Worker))
		// A client that did not retry would see the least error.
		calm := f.Client(client.WithRetry(client.RetryNever))
		publishers[c.Name] = h.Publish(calm, c.Name, harness.Load{Rate: 200, Size: 200})
	}
	h.AwaitProgress(30 * time.Second)
	victim := f.Node(leaders["cluster-a"])
	// What the server leads is published to by others from here on: those are to
	// fail over, not to be calm.
	for _, c := range clusters {
		if leaders[c.Name] == victim.Name {
			if err := publishers[c.Name].Stop(within(t, 30*time.Second)); err != nil {
				t.Fatal(err)
			}
			publishers[c.Name] = h.Publish(f.Client(), c.Name, harness.Load{Rate: 200, Size: 200})
		}
	}
	victim.Kill()
	h.AwaitProgress(30 * time.Second)
	for name, c := range f.Clusters(names...) {
		if c.Leader == victim.Name || leaders[name] != victim.Name && c.Leader != leaders[name] {
			t.Errorf("cluster %s was led by %s, now by %s; killed was %s", name, leaders[name], c.Leader, victim.Name)
		}
	}
	victim.Start()
	victim.Ready()
	h.AwaitProgress(30 * time.Second)
	h.Finish() // any error of a publisher or subscriber is a problem of the history
	for _, c := range clusters {
		f.AwaitIdentical(c.Name)
		f.AwaitPending(c.Name, harness.Standard, 0)
		if leaders[c.Name] != victim.Name {
			t.Logf("%s, not led by the killed server: longest wait %v", c.Name, publishers[c.Name].Longest())
		}
	}
}

// TestTwoServicesOnOneServer puts two of three services on one server: that is
// allowed and warned of, by plan and by status, and it works.
func TestTwoServicesOnOneServer(t *testing.T) {
	t.Parallel()
	f := harness.New(t, 3)
	f.StartAll()
	definition := harness.Definition(harness.Cluster{Name: "main", Servers: []string{"s1", "s1", "s2"}})
	plan, err := f.Client().Admin().PlanRealm(within(t, 10*time.Second), []byte(definition), "realm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(fmt.Sprint(plan.Warnings), "s1") {
		t.Errorf("plan warns of %+v; want the two services on s1", plan.Warnings)
	}
	f.Apply(definition)
	if c := f.Cluster("main"); !strings.Contains(strings.Join(c.Warnings, " "), "s1") {
		t.Errorf("status warns of %q; want the two services on s1", c.Warnings)
	}
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	f.Node("s2").Kill() // two of three services are left, both on s1
	h.AwaitProgress(30 * time.Second)
	f.Node("s2").Start()
	f.Node("s2").Ready()
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}
