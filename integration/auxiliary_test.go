package integration

import (
	"context"
	"testing"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
)

// TestAuxiliaryServers runs a cluster on servers that do not keep the realm, and
// takes the realm's majority away: the cluster goes on, also when its servers are
// killed and start again. Only the realm cannot change meanwhile.
func TestAuxiliaryServers(t *testing.T) {
	t.Parallel()
	f := harness.New(t, 3)
	f.StartAll()
	a, b := f.Auxiliary("a"), f.Auxiliary("b")
	f.Apply(harness.Definition(harness.Cluster{Name: "main", Servers: []string{"s1", "a", "b"}}))
	h := harness.NewHistory(t)
	load(f, h, "main")
	h.AwaitProgress(30 * time.Second)
	f.Node("s2").Kill()
	f.Node("s3").Kill()
	h.AwaitProgress(30 * time.Second)
	for _, n := range []*harness.Node{a, b} {
		n.Kill()
		h.AwaitProgress(30 * time.Second)
		n.Start()
		n.Ready() // from its own copy of the realm
		h.AwaitProgress(30 * time.Second)
	}
	// s1 keeps the realm, and hosts a service. It starts again without the others.
	f.Node("s1").Kill()
	h.AwaitProgress(30 * time.Second)
	f.Node("s1").Start()
	f.AwaitState("main", f.Node("s1"), "follower")

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	more := []byte(harness.Definition(harness.Cluster{Name: "main", Servers: []string{"s1", "a", "b"}, Stores: []string{"more"}}))
	if _, err := f.Client(client.WithRetry(time.Second)).Admin().ApplyRealm(ctx, more, "realm.yaml"); err == nil {
		t.Error("the realm was changed without a majority of those who keep it")
	}
	f.Node("s2").Start()
	f.Node("s2").Ready()
	f.Apply(string(more))
	h.AwaitProgress(30 * time.Second)
	h.Finish()
	f.AwaitPending("main", harness.Standard, 0)
	f.AwaitIdentical("main")
}
