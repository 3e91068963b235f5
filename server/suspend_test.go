package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/store"
)

// suspend suspends cluster main, and returns how many messages were taken back.
func (n *node) suspend() uint64 {
	n.t.Helper()
	r, err := n.admin.SuspendCluster(n.ctx(), &perdurepb.SuspendClusterRequest{Cluster: "main"})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Recalled
}

func (n *node) resume() {
	n.t.Helper()
	if _, err := n.admin.ResumeCluster(n.ctx(), &perdurepb.ResumeClusterRequest{Cluster: "main"}); err != nil {
		n.t.Fatal(err)
	}
}

// wantSuspended compares what every way of asking says.
func (n *node) wantSuspended(want bool) {
	n.t.Helper()
	r, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{})
	if err != nil || len(r.Clusters) != 1 || r.Clusters[0].Suspended != want {
		n.t.Errorf("status %v (%v), want suspended %v", r.GetClusters(), err, want)
	}
	health := healthpb.HealthCheckResponse_SERVING
	if want {
		health = healthpb.HealthCheckResponse_NOT_SERVING
	}
	n.wantHealth(health)
	if _, body := n.get("/readyz"); strings.Contains(body, "cluster main is suspended; perdure cluster resume") != want {
		n.t.Errorf("readyz says %q", body)
	}
	if code, _ := n.get("/livez"); code != 200 {
		n.t.Errorf("livez: %d", code)
	}
}

const quickGrace = "durability: async\n    suspend_grace: 20ms"

// TestSuspended walks through what a suspended cluster does to streams: nothing
// ends, publishers are refused, subscribers wait, and both go on afterwards.
func TestSuspended(t *testing.T) {
	t.Parallel()
	n := start(t, replace(t, testRealm, "durability: async", quickGrace))
	p, loose := n.mustPublisher("flights"), n.mustPublisher("loose")
	audit := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Process: 1})
	worker := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "delays"})
	p.stored(1, 1, bodies("a", "b"))
	audit.receive(2)
	worker.receive(2)
	if err := audit.settle(&perdurepb.Settle{Acks: []uint64{1, 1}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	n.wantSuspended(false)
	if recalled := n.suspend(); recalled != 3 {
		t.Errorf("%d messages taken back, want one of audit and two of delays", recalled)
	}
	if recalled := n.suspend(); recalled != 3 {
		t.Errorf("again: %d messages taken back", recalled)
	}
	n.wantSuspended(true)

	large := bodies(strings.Repeat("x", 60<<10))
	if e := p.refused(2, 1, large, perdurepb.Reason_REASON_SUSPENDED); !strings.Contains(e.Message, "main") || !e.Retryable {
		t.Errorf("refused: %v", e)
	}
	log := n.reconciler.all()[0].group.Log()
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := log.Command(last); err != nil || len(data) > 1000 {
		t.Errorf("a batch that is refused has %d bytes in the log (%v)", len(data), err)
	}
	p.refused(3, 1, bodies("behind it"), perdurepb.Reason_REASON_ABORTED)
	if o := p.publish(1, 1, bodies("a", "b")); o.Error != nil || !o.Duplicate || o.FirstId != 1 {
		t.Errorf("a batch that was stored before: %v", o)
	}
	p.refused(2, 2, []byte("no batch"), perdurepb.Reason_REASON_BATCH_CORRUPT)
	other := n.mustPublisher("flights") // it has a session, and waits
	other.refused(1, 1, bodies("c"), perdurepb.Reason_REASON_SUSPENDED)
	loose.send(0, 0, bodies("gone"))
	wantReason(t, loose.end(), perdurepb.Reason_REASON_SUSPENDED)
	_, err = n.publisher(&perdurepb.PublishOpen{Endpoint: "loose"})
	wantReason(t, err, perdurepb.Reason_REASON_SUSPENDED)
	for _, open := range []*perdurepb.SubscribeOpen{{Durable: "audit"}, {Durable: "delays"}, {Durable: "new", Kind: perdurepb.Kind_KIND_SHARED}} {
		open.Endpoint, open.Process = "flights", 9
		_, err := n.subscriber(open)
		wantReason(t, err, perdurepb.Reason_REASON_SUSPENDED)
	}
	// Who has a copy of what was taken back may acknowledge it.
	if err := worker.settle(&perdurepb.Settle{Acks: []uint64{2, 2}, Token: 1}); err != nil {
		t.Fatal(err)
	}

	n.resume()
	n.resume()
	n.wantSuspended(false)
	p.stored(2, 3, large)
	for name, s := range map[string]*subscribing{"audit": audit, "delays": worker} {
		d := s.frame().GetDelivery()
		again := map[string]uint64{"audit": 2, "delays": 1}[name]
		if d == nil || d.Ids[0] != again || len(d.Counted) != 0 {
			t.Errorf("%s gets %v, want %d again and uncounted", name, d, again)
		}
		s.receive(1)
	}
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "new", Kind: perdurepb.Kind_KIND_SHARED})
	n.mustPublisher("loose")
}

// What the edge refuses is in the log without its bytes. If it turns out to be stored
// there already, nobody may be told that it is not.
func TestRefusedAndStored(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code store.Code
		last uint64
		want perdurepb.Reason
	}{
		{store.Corrupt, 4, perdurepb.Reason_REASON_SUSPENDED},
		{store.Corrupt, 5, perdurepb.Reason_REASON_OUTCOME_UNKNOWN},
		{store.Aborted, 4, perdurepb.Reason_REASON_ABORTED},
		{store.SequenceGap, 3, perdurepb.Reason_REASON_SEQUENCE_GAP},
	} {
		p := published{sequence: 5, refused: faultf(perdurepb.Reason_REASON_SUSPENDED, "x"), result: store.Result{Code: tc.code, Last: tc.last}}
		var o perdurepb.PublishOutcome
		if p.outcome(&o); o.GetError().GetReason() != tc.want || o.Error.LastSequence != tc.last {
			t.Errorf("%v after sequence %d: %v", tc.code, tc.last, o.Error)
		}
	}
}

func TestSuspendWhatIsNotThere(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	_, err := n.admin.SuspendCluster(n.ctx(), &perdurepb.SuspendClusterRequest{Cluster: "mains"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_CLUSTER); !strings.Contains(e.Message, `"main"`) {
		t.Errorf("no suggestion: %s", e.Message)
	}
	_, err = n.admin.ResumeCluster(n.ctx(), &perdurepb.ResumeClusterRequest{})
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_CLUSTER)
}

// A server that hosts no service of a cluster names one that does.
func TestSuspendElsewhere(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(strings.Replace(testRealm, "server: s1", "server: s3", 1))
	nodes[2].until("it leads", func() bool { _, err := nodes[2].clusterTarget("main"); return err == nil })
	for _, n := range nodes[:2] {
		n.until("it has heard of the cluster, and of the server", func() bool {
			v := n.realm.view()
			if v == nil || v.Cluster("main") == nil {
				return false
			}
			srv, _ := v.ServerByID(v.Cluster("main").Services[0].ServerID)
			return srv.Client != ""
		})
		_, err := n.admin.SuspendCluster(n.ctx(), &perdurepb.SuspendClusterRequest{Cluster: "main"})
		if e := wantReason(t, err, perdurepb.Reason_REASON_NOT_LEADER); e.Leader.GetAddress() != nodes[2].ClientAddr() {
			t.Errorf("%s names %v", n.config.Name, e.Leader)
		}
	}
	nodes[2].suspend()
	nodes[2].wantSuspended(true)
	for _, n := range nodes[:2] {
		n.until("it is ready: it hosts nothing that is suspended", func() bool { return len(n.unready()) == 0 })
	}
}

// Somebody who resumes a cluster while another waits for it to be settled wins.
func TestResumedMeanwhile(t *testing.T) {
	t.Parallel()
	n := start(t, replace(t, testRealm, "durability: async", "durability: async\n    suspend_grace: 10m"))
	p, s := n.mustPublisher("flights"), n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	p.stored(1, 1, bodies("a"))
	s.receive(1)
	ended := make(chan error, 1)
	go func() {
		_, err := n.admin.SuspendCluster(n.ctx(), &perdurepb.SuspendClusterRequest{Cluster: "main"})
		ended <- err
	}()
	n.until("it is suspended", func() bool { return n.reconciler.all()[0].suspended.Load() })
	n.until("it is resumed, and who waits was told", func() bool {
		n.resume()
		select {
		case err := <-ended:
			wantReason(t, err, perdurepb.Reason_REASON_REVISION_CONFLICT)
			return true
		default:
			return false
		}
	})
}

// A definition that deletes something waits until the cluster is resumed; one that
// does not is taken.
func TestSuspendedRealm(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	h := n.reconciler.all()[0]
	n.suspend()
	more := replace(t, testRealm, "          - {name: delays, type: shared}\n", "          - {name: delays, type: shared}\n          - {name: more, type: shared}\n")
	if _, err := n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: []byte(more)}); err != nil {
		t.Fatal(err)
	}
	less := replace(t, more, "          - {name: delays, type: shared}\n", "")
	less = replace(t, less, ", subscribers: {worker: delays}", "")
	r, err := n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: []byte(less), NoWait: true})
	if err != nil {
		t.Fatal(err)
	}
	n.reconciler.again()
	durables := func() string {
		var names []string
		for _, d := range n.stores(n.ctx(), h)[0].Durables {
			names = append(names, d.Name)
		}
		return fmt.Sprint(names)
	}
	if got := durables(); got != "[audit delays vegas more]" || h.revision.Load() != r.Revision-1 {
		t.Errorf("revision %d has durables %s", h.revision.Load(), got)
	}
	_, err = n.admin.ApplyRealm(n.ctx(), &perdurepb.ApplyRealmRequest{Document: []byte("realm: test\n")})
	if e := wantReason(t, err, perdurepb.Reason_REASON_SUSPENDED); !strings.Contains(e.Message, "main") {
		t.Errorf("a definition without the cluster: %s", e.Message)
	}
	n.resume()
	n.until("the definition is deployed", func() bool { return h.revision.Load() == r.Revision })
	if got := durables(); got != "[audit vegas more]" {
		t.Errorf("durables %s", got)
	}
}

// A cluster stays suspended when its leader goes, and when all its servers were
// stopped. What was confirmed before is there afterwards.
func TestSuspendedThreeServers(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	first := leader(t, nodes)
	p, s := first.mustPublisher("flights"), first.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	p.stored(1, 1, bodies("a", "b"))
	s.receive(2)
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 1}, Nacks: []*perdurepb.Nack{{First: 2, Last: 2, DelayMs: 60_000}}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n != first {
			n.until("it knows the leader", func() bool {
				_, err := n.admin.SuspendCluster(n.ctx(), &perdurepb.SuspendClusterRequest{Cluster: "main"})
				return wantReason(t, err, perdurepb.Reason_REASON_NOT_LEADER).Leader.GetAddress() == first.ClientAddr()
			})
		}
	}
	if recalled := first.suspend(); recalled != 0 {
		t.Errorf("%d messages taken back", recalled)
	}
	for _, n := range nodes {
		n.until("it has heard", func() bool { return len(n.unready()) > 0 })
		n.wantSuspended(true)
	}
	session := p.opened.Session
	first.stop()
	second := leader(t, slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == first }))
	if p, err := second.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: session}); err != nil {
		t.Fatal(err)
	} else {
		p.refused(2, 1, bodies("c"), perdurepb.Reason_REASON_SUSPENDED)
	}
	_, err := second.subscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	wantReason(t, err, perdurepb.Reason_REASON_SUSPENDED)
	if recalled := second.suspend(); recalled != 0 {
		t.Errorf("again: %d messages taken back", recalled)
	}

	for _, n := range nodes {
		n.stop()
	}
	for i, n := range nodes {
		nodes[i] = open(t, n.config)
	}
	third := leader(t, nodes)
	for _, n := range nodes {
		n.until("it is suspended", func() bool { return strings.Contains(fmt.Sprint(n.unready()), "is suspended") })
	}
	third.resume()
	p, err = third.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: session})
	if err != nil {
		t.Fatal(err)
	}
	if o := p.publish(1, 1, bodies("a", "b")); !o.Duplicate || o.Error != nil {
		t.Errorf("a batch from before: %v", o)
	}
	p.stored(2, p.opened.Attempt, bodies("c"))
	s = third.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights"})
	if got := s.receive(2); fmt.Sprint(got) != "[2 3]" {
		t.Errorf("received %v", got)
	}
}
