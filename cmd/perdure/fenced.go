package main

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

// whatNow says what fencing means to somebody who runs dev.
func (d *dev) whatNow() string {
	return fmt.Sprintf("this is final, as when a cluster in memory loses its process; to start anew remove %s, or choose another --data", d.dir)
}

// tolerate decides whether a dev goes on with servers that are fenced: if most
// are not, or if some cluster has a leader all the same.
func (d *dev) tolerate(ctx context.Context, e *fleet.FencedServers) error {
	if e.Most && !d.anyLeader(ctx) {
		return failuref("MAY_HAVE_FORGOTTEN", "%w; no cluster has a majority left: %s", e, d.whatNow())
	}
	for _, f := range e.Fenced {
		d.say("warning: %v; the cluster goes on with the others; %s", f, d.whatNow())
	}
	return nil
}

// anyLeader asks the servers, once each, whether some cluster has a leader.
func (d *dev) anyLeader(ctx context.Context) bool {
	c, err := client.Connect(ctx, d.fleet.Connect(), client.WithName("perdure dev"))
	if err != nil {
		return false
	}
	defer closeClient(c)
	for _, n := range d.fleet.Nodes {
		s, err := c.Admin().StatusAt(ctx, n.Client)
		if err != nil {
			continue // another may know
		}
		for _, cluster := range s.Clusters {
			if cluster.Leader != "" {
				return true
			}
		}
	}
	return false
}
