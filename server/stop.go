package server

import (
	"context"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// StopServer implements perdurepb.AdminServer. It answers before anything is
// stopped: an answer that came after would not arrive.
func (s *Server) StopServer(_ context.Context, m *perdurepb.StopServerRequest) (*perdurepb.StopServerResponse, error) {
	name := m.GetServer()
	if name != s.config.Name {
		if err := s.forming(); err != nil {
			return nil, asFault(err)
		}
		return nil, s.notServer(name)
	}
	s.asking.Do(func() {
		s.logger.Info("a client asks the server to stop")
		close(s.asked)
	})
	return &perdurepb.StopServerResponse{}, nil
}

// notServer names the server that was meant, if the realm knows it.
func (s *Server) notServer(name string) *fault {
	v := s.realm.view()
	var names []string
	for _, srv := range v.Servers {
		names = append(names, srv.Name)
		if srv.Name == name && srv.Client != "" {
			f := faultf(perdurepb.Reason_REASON_NOT_LEADER, "this is server %s, not %s", s.config.Name, name)
			f.leader = &perdurepb.Leader{Server: srv.Name, Address: srv.Client}
			return f
		}
	}
	return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "no server %q has registered with the realm%s", name, suggest(name, names))
}
