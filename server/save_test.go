package server

import (
	"io"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// saving asks for a state file and reads all that comes.
func (n *node) saving(m *perdurepb.SaveClusterRequest) (file []byte, saved *perdurepb.StateSaved, err error) {
	n.t.Helper()
	stream, err := n.admin.SaveCluster(n.ctx(), m)
	if err != nil {
		return nil, nil, err
	}
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return file, saved, nil
		} else if err != nil {
			return nil, nil, err
		}
		file = append(file, r.Chunk...)
		if r.Saved != nil {
			saved = r.Saved
		}
	}
}

func TestSaveRefused(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	for _, tc := range []struct {
		request *perdurepb.SaveClusterRequest
		want    perdurepb.Reason
		says    string
	}{
		{&perdurepb.SaveClusterRequest{Cluster: "main"}, perdurepb.Reason_REASON_NOT_SUSPENDED, "perdure cluster suspend main"},
		{&perdurepb.SaveClusterRequest{Cluster: "main", Service: "main-1"}, perdurepb.Reason_REASON_NOT_SUSPENDED, "perdure cluster suspend main"},
		{&perdurepb.SaveClusterRequest{Cluster: "mains"}, perdurepb.Reason_REASON_NO_SUCH_CLUSTER, `"main"`},
		{&perdurepb.SaveClusterRequest{Cluster: "mains", Service: "main-1"}, perdurepb.Reason_REASON_NO_SUCH_CLUSTER, `"main"`},
		{&perdurepb.SaveClusterRequest{Cluster: "main", Service: "main-2"}, perdurepb.Reason_REASON_INVALID_ARGUMENT, `"main-1"`},
	} {
		_, _, err := n.saving(tc.request)
		if e := wantReason(t, err, tc.want); !strings.Contains(e.Message, tc.says) {
			t.Errorf("%v: %s", tc.request, e.Message)
		}
	}
}

// A server does not load more at a time than its memory stands.
func TestLoadsAreBounded(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.suspend()
	var open []*loadStream
	for range maxLoads {
		open = append(open, n.loading(&perdurepb.LoadOpen{Cluster: "main"}))
	}
	n.until("all are open", func() bool { return len(n.loads) == maxLoads })
	_, err := n.loading(&perdurepb.LoadOpen{Cluster: "main"}).next()
	wantReason(t, err, perdurepb.Reason_REASON_OVERLOADED)
	_, err = n.loading(&perdurepb.LoadOpen{Cluster: "main", Abort: true}).next() // it is what ends loads
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_LOAD)
	for _, l := range open {
		if err := l.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		_, err := l.next()
		wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	}
	n.until("all are over", func() bool { return len(n.loads) == 0 })
}

// A client that opens a load and sends nothing does not keep others from loading.
func TestLoadIsNotSent(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.sendPatience = 100 * time.Millisecond
	_, err := n.loading(&perdurepb.LoadOpen{Cluster: "main"}).next()
	wantReason(t, err, perdurepb.Reason_REASON_CLIENT_TIMEOUT)
	n.until("it is over", func() bool { return len(n.loads) == 0 })
}

// A server that stops ends what clients save and load, and says so.
func TestStateCallsEnd(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.suspend()
	l := n.loading(&perdurepb.LoadOpen{Cluster: "main"})
	n.until("it is open", func() bool { return len(n.loads) == 1 })
	go n.stop()
	_, err := l.next()
	wantReason(t, err, perdurepb.Reason_REASON_STOPPING)
	n.stop()
}
