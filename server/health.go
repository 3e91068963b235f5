package server

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// readiness is gRPC's health service: serving is what /readyz calls ready. Check
// looks at this moment; who watches is told when the reconciler has looked,
// which it does when anything changes and once a second.
type readiness struct {
	*health.Server
	server *Server
}

// healthNames are what a client may ask for.
var healthNames = []string{"", perdurepb.Messages_ServiceDesc.ServiceName, perdurepb.Admin_ServiceDesc.ServiceName}

func newReadiness(s *Server) *readiness {
	r := &readiness{health.NewServer(), s}
	r.set(healthpb.HealthCheckResponse_NOT_SERVING)
	return r
}

func (r *readiness) set(status healthpb.HealthCheckResponse_ServingStatus) {
	for _, name := range healthNames {
		r.SetServingStatus(name, status)
	}
}

func (r *readiness) status() healthpb.HealthCheckResponse_ServingStatus {
	if len(r.server.unready()) > 0 {
		return healthpb.HealthCheckResponse_NOT_SERVING
	}
	return healthpb.HealthCheckResponse_SERVING
}

// refresh tells those who watch.
func (r *readiness) refresh() { r.set(r.status()) }

// Check implements healthpb.HealthServer.
func (r *readiness) Check(_ context.Context, m *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	for _, name := range healthNames {
		if name == m.GetService() {
			return &healthpb.HealthCheckResponse{Status: r.status()}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no service %q; ask for perdure.v1.Messages, or for none", m.GetService())
}
