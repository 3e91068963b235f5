package server

import (
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// A server counts what its process does; who asks for that alone is not told of
// clusters.
func TestProcessStatus(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	ask := func() *perdurepb.ProcessStatus {
		t.Helper()
		r, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{ProcessOnly: true})
		if err != nil || len(r.Servers) != 1 || len(r.Clusters) != 0 || r.Process == nil {
			t.Fatalf("%v, %v", r, err)
		}
		return r.Process
	}
	before := ask()
	if before.Incarnation == 0 || before.Goroutines == 0 || before.AllocatedObjects == 0 {
		t.Errorf("%v", before)
	}
	n.apply(testRealm + "  - {name: another, store: flights}\n") // the realm group syncs it
	after := ask()
	if after.Incarnation != before.Incarnation || after.UptimeMs < before.UptimeMs || after.Fsyncs <= before.Fsyncs ||
		after.AllocatedObjects <= before.AllocatedObjects || after.AllocatedBytes <= before.AllocatedBytes || after.GcCycles < before.GcCycles {
		t.Errorf("first\n%v\nand then\n%v", before, after)
	}
	if r, err := n.admin.Status(n.ctx(), &perdurepb.StatusRequest{}); err != nil || r.Process == nil || len(r.Clusters) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}
