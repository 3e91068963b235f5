package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

const (
	// successionPatience is how long a cluster may take to find another leader.
	successionPatience = 5 * time.Second
	// leadPoll is how often servers are asked who leads.
	leadPoll = 20 * time.Millisecond
	// askPatience bounds one round of asking: a paused server says nothing.
	askPatience = 500 * time.Millisecond
)

// leadership is who leads a cluster, and in which term.
type leadership struct {
	server string
	term   uint64
}

// succession is who leads a cluster after its leader was killed or restarted.
type succession struct {
	Cluster string `json:"cluster"`
	Server  string `json:"server"`   // "" where none was found in time
	After   int64  `json:"after_ms"` // since the leader was told to end
}

func (s succession) String() string {
	if s.Server == "" {
		return fmt.Sprintf("nobody leads %s yet, after %d ms", cell(s.Cluster), s.After)
	}
	return fmt.Sprintf("%s leads %s now, after %d ms", s.Server, cell(s.Cluster), s.After)
}

// whyNoLeader says what to do where a cluster has no leader.
func whyNoLeader(state devState) string {
	var down []string
	for _, s := range state.Servers {
		if s.State != fleet.Running {
			down = append(down, s.Name)
		}
	}
	if 2*len(down) < len(state.Servers) {
		return "perdure status shows when somebody does"
	}
	return fmt.Sprintf("%d of %d servers do not run, and to lead takes a majority: perdure dev restart %s", len(down), len(state.Servers), down[0])
}

// reported is what servers say.
type reported struct {
	leaders   map[string]leadership // by cluster
	processes map[string]uint64     // incarnation, by server that answered
}

// leaders asks the servers at addresses, all at once, who leads which cluster.
func leaders(ctx context.Context, c *client.Client, addresses []string) reported {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	answers := make([]*client.Status, len(addresses))
	var asking sync.WaitGroup
	for i, address := range addresses {
		asking.Go(func() {
			if s, err := c.Admin().StatusAt(ctx, address); err == nil {
				answers[i] = s // who does not answer says nothing
			}
		})
	}
	asking.Wait()
	all := reported{map[string]leadership{}, map[string]uint64{}}
	for _, s := range answers {
		if s == nil {
			continue
		}
		if s.Process != nil {
			all.processes[s.Server] = s.Process.Incarnation
		}
		for _, v := range s.Clusters {
			if now, known := all.leaders[v.Name]; !known || v.Term > now.term || v.Term == now.term && now.server == "" {
				all.leaders[v.Name] = leadership{v.Leader, v.Term}
			}
		}
	}
	return all
}

// heirs watches the clusters that a server leads.
type heirs struct {
	c         *client.Client
	server    string
	process   uint64 // its incarnation
	addresses []string
	began     time.Time

	mu       sync.Mutex            // guards the rest while watch runs
	clusters map[string]leadership // that it led, as they were
	ended    bool                  // it does not lead in those terms any more
	found    map[string]succession
}

// watchHeirs notes what server leads now. It is nil where that is nothing, or
// nobody says.
func (p *program) watchHeirs(cmd *cobra.Command, state devState, server string) *heirs {
	c, err := client.Connect(cmd.Context(), state.Connect, client.WithName("perdure dev"), client.WithConnectTimeout(askPatience))
	if err != nil {
		return nil
	}
	h := &heirs{c: c, server: server, clusters: map[string]leadership{}, found: map[string]succession{}}
	for _, s := range state.Servers {
		h.addresses = append(h.addresses, s.Client)
	}
	now := leaders(cmd.Context(), c, h.addresses)
	h.process = now.processes[server]
	for name, l := range now.leaders {
		if l.server == server {
			h.clusters[name] = l
		}
	}
	if len(h.clusters) == 0 {
		closeClient(c)
		return nil
	}
	h.began = time.Now()
	return h
}

// watch looks for new leaders until all are found or ctx ends. It asks each
// server on its own: a dead one keeps nobody waiting for what the others know.
func (h *heirs) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asking sync.WaitGroup
	for _, address := range h.addresses {
		asking.Go(func() {
			tick := time.NewTicker(leadPoll)
			defer tick.Stop()
			for ctx.Err() == nil {
				if h.note(leaders(ctx, h.c, []string{address})) {
					cancel()
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	asking.Wait()
}

// note enters what a server says, and reports whether all clusters are led.
func (h *heirs) note(s reported) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if process, answered := s.processes[h.server]; answered && process != h.process {
		h.ended = true // it is back, and may lead again
	}
	for name, now := range s.leaders {
		before, watched := h.clusters[name]
		_, done := h.found[name]
		if watched && !h.ended && now.server == h.server {
			// Nobody had told of this term when it was asked to end.
			h.clusters[name] = leadership{now.server, max(now.term, before.term)}
			continue
		}
		if watched && !done && now.server != "" && now.term > before.term {
			h.found[name] = succession{name, now.server, time.Since(h.began).Milliseconds()}
		}
	}
	return len(h.found) == len(h.clusters)
}

// result says who leads now, by name of cluster.
func (h *heirs) result() []succession {
	var list []succession
	for name := range h.clusters {
		s, ok := h.found[name]
		if !ok {
			s = succession{Cluster: name, After: time.Since(h.began).Milliseconds()}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b succession) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return list
}

// askAndWatch asks for a verb and says who leads what the server led.
func (p *program) askAndWatch(cmd *cobra.Command, dir string, v devVerb, server string) (devResponse, []succession, error) {
	request := devRequest{Verb: v.name, Server: server}
	var h *heirs
	if v.succeeds {
		before, err := askControl(cmd.Context(), dir, devRequest{Verb: "ls"})
		if err != nil {
			return devResponse{}, nil, err
		}
		h = p.watchHeirs(cmd, before.State, server)
	}
	if h == nil {
		r, err := askControl(cmd.Context(), dir, request)
		return r, nil, err
	}
	defer closeClient(h.c)
	watching, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		h.watch(watching)
	}()
	r, err := askControl(cmd.Context(), dir, request)
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	if err == nil && slices.ContainsFunc(r.State.Servers, func(s devServer) bool { return s.State == fleet.Running }) {
		patience := time.NewTimer(successionPatience)
		defer patience.Stop()
		select {
		case <-watched:
		case <-patience.C:
		}
	}
	cancel()
	<-watched
	return r, h.result(), err
}
