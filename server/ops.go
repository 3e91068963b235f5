package server

import (
	"fmt"
	"net/http"
	"strings"
)

// opsHandler serves operators. /livez says that the process works; /readyz that
// it serves what the realm wants of it, and if not, why.
func (s *Server) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, nil)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, s.unready())
	})
	return mux
}

func reply(w http.ResponseWriter, problems []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(problems) == 0 {
		_, _ = fmt.Fprintln(w, "ok") // the client has gone: nobody to tell
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, strings.Join(problems, "\n"))
}

// unready lists why this server is not ready; empty when it is.
func (s *Server) unready() []string {
	if s.stopping() {
		return []string{"the server is stopping"}
	}
	if err := s.realm.failure(); err != nil {
		return []string{"realm: " + err.Error()}
	}
	v := s.realm.view()
	if v == nil || !v.Founded {
		return []string{"realm: waiting for " + s.realm.waitingFor()}
	}
	if s.serverID() == 0 {
		return []string{"realm: this server is not registered yet"}
	}
	if g := s.realm.group(); g != nil {
		if leader, _ := g.Leader(); leader == 0 {
			return []string{"realm: no leader"}
		}
	}
	var problems []string
	for _, h := range s.reconciler.all() {
		c := v.ClusterByID(h.cluster)
		if c == nil {
			continue
		}
		switch {
		case h.err != nil:
			problems = append(problems, fmt.Sprintf("service %s of cluster %s: %v", h.name, c.Name, h.err))
		case !h.running():
			problems = append(problems, fmt.Sprintf("service %s of cluster %s does not run yet; %s", h.name, c.Name, h.waiting))
		default:
			if leader, _ := h.group.Leader(); leader == 0 {
				problems = append(problems, fmt.Sprintf("service %s of cluster %s: no leader", h.name, c.Name))
			}
		}
	}
	return problems
}
