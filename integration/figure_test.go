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
// work at once. Each server is killed in turn: clients of clusters that it did
// not lead see nothing of it, and all five go on.
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
	led := map[string]int{}
	for _, c := range f.Clusters(names...) {
		led[c.Leader]++
	}
	for server, n := range led {
		if n > 2 {
			t.Errorf("server %s leads %d clusters after the start; leaders do not spread: %v", server, n, led)
		}
	}
	h := harness.NewHistory(t)
	for _, name := range names {
		h.Subscribe(f.Client(), name)
		h.Subscribe(f.Client(), name, client.SubscriberName(harness.Worker))
	}
	for _, victim := range f.Nodes {
		loseServer(t, f, h, victim, names)
	}
	h.Finish() // any error of a publisher or subscriber is a problem of the history
	for _, name := range names {
		f.AwaitPending(name, harness.Standard, 0)
		f.AwaitIdentical(name)
	}
}

// loseServer kills a server while clients publish through all clusters. Those of
// clusters that it does not lead try nothing twice: the least trouble is a
// failure for them.
func loseServer(t *testing.T, f *harness.Fleet, h *harness.History, victim *harness.Node, names []string) {
	t.Helper()
	before := f.Clusters(names...)
	var publishers []*harness.Publishing
	for _, name := range names {
		retry := client.RetryNever
		if before[name].Leader == victim.Name {
			retry = client.RetryForever
		}
		publishers = append(publishers, h.Publish(f.Client(), name, harness.Load{Rate: 200, Size: 200}, client.WithRetry(retry)))
	}
	h.AwaitProgress(30 * time.Second)
	victim.Kill()
	h.AwaitProgress(30 * time.Second)
	for name, now := range f.Clusters(names...) {
		switch was := before[name]; {
		case now.Leader == victim.Name:
			t.Errorf("%s was killed, and leads cluster %s", victim.Name, name)
		case was.Leader != victim.Name && (now.Leader != was.Leader || now.Term != was.Term):
			t.Errorf("%s was killed, and cluster %s went from %s, term %d, to %s, term %d",
				victim.Name, name, was.Leader, was.Term, now.Leader, now.Term)
		}
	}
	victim.Start()
	victim.Ready()
	h.AwaitProgress(30 * time.Second)
	for i, p := range publishers {
		if err := p.Stop(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s killed: %s, led by %s, waited at most %v", victim.Name, names[i], before[names[i]].Leader, p.Longest().Round(time.Millisecond))
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
	h.AwaitProgress(30 * time.Second)
	f.Node("s1").Kill() // no majority is left
	f.Node("s1").Start()
	f.Node("s1").Ready()
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}
