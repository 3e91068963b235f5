package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
)

// claimPatience bounds the claims of one pass.
const claimPatience = 5 * time.Second

// look divides services into those whose copy is in this directory, which it
// notes, and those that miss theirs and need a claim. One of which it cannot
// tell, and says so, is among the first.
func (r *reconciler) look(fresh []*hosted) (found, missing []*hosted) {
	var copies []uint64
	for _, h := range fresh {
		there, err := r.server.engines.exists(h.durability, h.copy)
		if err == nil && !there {
			missing = append(missing, h)
			continue
		}
		h.err = err
		found = append(found, h)
		if there {
			copies = append(copies, h.copy)
		}
	}
	if err := r.server.engines.note(true, copies...); err != nil {
		for _, h := range fresh {
			h.err = err
		}
		return fresh, nil
	}
	return found, missing
}

// claim makes sure that this directory comes to hold the one copy of each
// replica. It notes in a service why it cannot start yet, or ever. A server with
// many new services claims them together: each claim by itself would be a call,
// an entry, a sync and a view of the realm on every server.
func (r *reconciler) claim(ctx context.Context, v *catalog.View, missing []*hosted) {
	ctx, cancel := context.WithTimeout(ctx, r.claimPatience)
	defer cancel()
	for some := range slices.Chunk(missing, commandsAtOnce) {
		r.claimMissing(ctx, v, some)
	}
}

// claimMissing registers copies with the realm, and makes them.
func (r *reconciler) claimMissing(ctx context.Context, v *catalog.View, missing []*hosted) {
	commands := make([][]byte, len(missing))
	for i, h := range missing {
		commands[i] = catalog.Claim{
			Cluster: h.cluster, Replica: h.replica, Server: r.server.serverID(), Tag: r.server.id.Install,
		}.Encode()
	}
	results, err := r.server.realm.submitAll(ctx, commands, true)
	if err != nil {
		for _, h := range missing {
			h.waiting = fmt.Sprintf("waiting for the realm's leader to register service %s: %v", h.name, err)
		}
		return
	}
	copies := map[*hosted]newCopy{}
	for i, h := range missing {
		if results[i].Code != catalog.OK {
			h.err = fmt.Errorf("%w: %s", cluster.ErrMayHaveForgotten, results[i].Detail)
			continue
		}
		c := newCopy{id: h.copy, replica: h.replica}
		for _, s := range v.ClusterByID(h.cluster).Services {
			c.voters = append(c.voters, s.ReplicaID)
		}
		copies[h] = c
	}
	r.makeCopies(missing, copies)
}

// makeCopies makes those of one mode together, in the order of list.
func (r *reconciler) makeCopies(list []*hosted, copies map[*hosted]newCopy) {
	for d := range engineModes {
		var mine []*hosted
		var wanted []newCopy
		for _, h := range list {
			if c, ok := copies[h]; ok && h.durability == d {
				mine, wanted = append(mine, h), append(wanted, c)
			}
		}
		if len(wanted) == 0 {
			continue
		}
		if err := r.server.engines.create(d, wanted...); err != nil {
			for _, h := range mine {
				h.err = err
			}
		}
	}
}
