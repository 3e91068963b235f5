package server

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/cluster"
)

// handOverTime bounds the moving of one group's leadership.
const handOverTime = 2 * time.Second

// leading is a group that can give its leadership away.
type leading interface {
	Leads() bool
	Leader() (server, term uint64)
	HandOver(ctx context.Context, weights map[uint64]int) error
	Done() <-chan struct{}
}

// handOver moves the leadership of every group led here to another server.
func (s *Server) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	v := s.realm.view()
	var wg sync.WaitGroup
	move := func(g leading, weights map[uint64]int) {
		if g.Leads() {
			wg.Go(func() {
				if err := g.HandOver(ctx, weights); err != nil {
					s.logger.Warn("leadership not handed over", "err", err)
				}
			})
		}
	}
	for _, h := range s.reconciler.all() {
		if !h.running() {
			continue
		}
		weights := map[uint64]int{}
		if v != nil {
			if c := v.ClusterByID(h.cluster); c != nil {
				for _, svc := range c.Services {
					if svc.ServerID != s.serverID() {
						weights[svc.ReplicaID] = svc.Weight
					}
				}
			}
		}
		move(h.group, weights)
	}
	if g := s.realm.group(); g != nil {
		weights := map[uint64]int{}
		for _, c := range s.realm.core {
			if c.ID != s.serverID() {
				weights[c.ID] = 1
			}
		}
		move(g, weights)
	}
	wg.Wait()
}

var _ leading = (*cluster.Group[int])(nil)
