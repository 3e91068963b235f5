package server

import (
	"io"
	"strings"
	"testing"

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
