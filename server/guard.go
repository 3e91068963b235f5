package server

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// longestCall bounds calls whose client set no deadline.
const longestCall = 2 * time.Minute

// errPanicked is what a goroutine of a stream came to that panicked.
var errPanicked = errors.New("panic in a stream")

// A request that makes its handler panic must not take the server along: it is
// answered with REASON_INTERNAL, and the log has the stack. The group's loop,
// where entries are applied, is not among what is guarded here.

func (s *Server) guardCall(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer s.recovered(info.FullMethod, &err)
	ctx, cancel := context.WithTimeout(ctx, longestCall)
	defer cancel()
	return handle(ctx, request)
}

func (s *Server) guardStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return handle(server, stream)
}

// spawn runs f on a goroutine that Close joins.
func (s *Server) spawn(f func()) {
	s.helpers.Go(func() {
		var err error
		defer s.recovered("stream", &err)
		f()
	})
}

// recovered is deferred: it turns a panic into an error.
func (s *Server) recovered(where string, err *error) {
	if p := recover(); p != nil {
		s.metrics.panics.Add(1)
		s.logger.Error("panic while serving a client", "where", where, "panic", p, "stack", string(debug.Stack()))
		*err = faultf(perdurepb.Reason_REASON_INTERNAL, "internal error; see the server's log")
	}
}
