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
	if s.realm.self != nil {
		g := s.realm.group()
		if g == nil {
			return []string{"realm: the replica of this core server starts"}
		}
		if leader, _ := g.Leader(); leader == 0 {
			return []string{"realm: no leader"}
		}
	}
	var problems []string
	for i := range v.Clusters {
		c := &v.Clusters[i]
		suspended := false
		for _, svc := range c.Services {
			if svc.ServerName == s.config.Name {
				h := s.reconciler.find(c.ID, svc.ReplicaID)
				if why := unreadyService(h); why != "" {
					problems = append(problems, fmt.Sprintf("service %s of cluster %s: %s", svc.Name, c.Name, why))
				}
				suspended = suspended || h != nil && h.suspended.Load()
			}
		}
		if suspended {
			why := suspendedText(c.Name)
			if failed := s.startLoads.why(c.ID); failed != "" {
				why = "cluster " + c.Name + " is suspended: " + failed
			}
			problems = append(problems, why)
		}
	}
	return problems
}

// unreadyService says why a service is not ready; "" when it is.
func unreadyService(h *hosted) string {
	switch {
	case h == nil:
		return "is about to start"
	case h.err != nil:
		return h.err.Error()
	case h.group == nil:
		return "does not run yet; " + h.waiting
	case !h.running():
		return h.group.Err().Error()
	}
	if leader, _ := h.group.Leader(); leader == 0 {
		return "no leader"
	}
	return ""
}
