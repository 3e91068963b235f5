package server

import (
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// TestStopServer asks servers to stop: only the one that is meant is asked, and
// the others say where it is.
func TestStopServer(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	stop := func(at *node, name string) error {
		_, err := at.admin.StopServer(at.ctx(), &perdurepb.StopServerRequest{Server: name})
		return err
	}
	nodes[1].until("it knows the servers", func() bool { return nodes[1].forming() == nil })
	e := wantReason(t, stop(nodes[1], "s1"), perdurepb.Reason_REASON_NOT_LEADER)
	if e.Leader.GetServer() != "s1" || e.Leader.GetAddress() != nodes[0].ClientAddr() {
		t.Errorf("hint %v", e.Leader)
	}
	wantReason(t, stop(nodes[1], "s7"), perdurepb.Reason_REASON_INVALID_ARGUMENT)
	for range 2 { // again, it does no harm
		if err := stop(nodes[0], "s1"); err != nil {
			t.Fatal(err)
		}
	}
	<-nodes[0].StopAsked()
	select {
	case <-nodes[1].StopAsked():
		t.Error("another was asked")
	default:
	}
}
