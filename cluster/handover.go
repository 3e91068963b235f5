package cluster

import (
	"context"
	"fmt"

	"go.etcd.io/raft/v3"
)

// HandOver moves leadership to the replica in weights that has most of the log,
// the heaviest among equals, and waits until this replica does not lead or ctx
// ends. Proposals wait meanwhile.
func (g *Group[R]) HandOver(ctx context.Context, weights map[uint64]int) error {
	changed := make(chan struct{})
	err := g.Do(ctx, func(now Now) {
		if to := g.replica.successor(weights, now); to != 0 {
			g.onFollow = append(g.onFollow, func() { close(changed) })
			g.replica.Transfer(to)
		} else {
			close(changed)
		}
	})
	if err != nil {
		return err
	}
	select {
	case <-changed:
		return nil
	case <-g.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cluster: group %s: leadership was not handed over: %w", g.cfg.Name, context.Cause(ctx))
	}
}

// successor is the best of the replicas in weights to lead next, 0 if none is
// there.
func (r *Replica[R]) successor(weights map[uint64]int, now Now) (best uint64) {
	if r.role != raft.StateLeader || len(r.confState.GetVotersOutgoing()) > 0 {
		return 0
	}
	var match uint64
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr trackerProgress) {
		w, ok := weights[id]
		// Raft's own RecentActive is false for a moment after each check of the quorum.
		if !ok || !r.hears(id, now) {
			return
		}
		if best == 0 || pr.Match > match || pr.Match == match && (w > weights[best] || w == weights[best] && id < best) {
			best, match = id, pr.Match
		}
	})
	return best
}
