package cluster

import "context"

// Waiting is how much waits for the group's loop.
func (g *Group[R]) Waiting() int {
	g.in.Lock()
	defer g.in.Unlock()
	return len(g.in.calls) + len(g.in.proposals) + len(g.in.snapshots) + len(g.in.messages)
}

// Retain sets the retention on the loop.
func (g *Group[R]) Retain(ctx context.Context, k Retention) error {
	return g.Do(ctx, func(Now) { g.replica.SetRetention(k) })
}
