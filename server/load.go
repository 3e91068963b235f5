package server

import (
	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// LoadCluster implements perdurepb.AdminServer.
func (s *Server) LoadCluster(stream grpc.BidiStreamingServer[perdurepb.LoadClusterRequest, perdurepb.LoadClusterResponse]) error {
	m, err := stream.Recv()
	if err != nil {
		return receiveFault(err)
	}
	t, err := s.clusterTarget(m.GetOpen().GetCluster())
	if err != nil {
		return asFault(err)
	}
	return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "server %s cannot load into cluster %s yet", s.config.Name, t.cluster.Name)
}
