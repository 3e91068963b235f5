package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
)

// claimsAtOnce bounds the claims of one call. A server with many new services
// claims them together: each claim by itself would be a call, an entry, a sync
// and a view of the realm on every server.
const claimsAtOnce = 1024

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
// replica. It notes in a service why it cannot start yet, or ever.
func (r *reconciler) claim(ctx context.Context, v *catalog.View, missing []*hosted) {
	ctx, cancel := context.WithTimeout(ctx, r.claimPatience)
	defer cancel()
	for some := range slices.Chunk(missing, claimsAtOnce) {
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
	results, err := r.server.realm.submitAll(ctx, commands)
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

// submitAll carries commands that may be repeated to the realm group's leader
// and returns their results. It goes on until ctx ends.
func (n *realmNode) submitAll(ctx context.Context, commands [][]byte) ([]catalog.Result, error) {
	for i := 0; ; i++ {
		results, err := n.tryAll(ctx, i, commands)
		if err == nil {
			return results, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(realmRetry):
		}
	}
}

func (n *realmNode) tryAll(ctx context.Context, attempt int, commands [][]byte) ([]catalog.Result, error) {
	g, addr, err := n.leader(attempt)
	if err != nil {
		return nil, err
	}
	var answers []answered
	if g != nil {
		if answers, err = proposeAll(ctx, g, commands); err != nil {
			return nil, err
		}
	} else {
		request, err := json.Marshal(commands)
		if err != nil {
			return nil, err
		}
		body, err := n.server.transport.CallAddress(ctx, addr, callCommands, request)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &answers); err != nil {
			return nil, err
		}
	}
	if len(answers) != len(commands) {
		return nil, fmt.Errorf("%d answers to %d commands", len(answers), len(commands))
	}
	results := make([]catalog.Result, len(answers))
	for i, a := range answers {
		if a.Definite != "" {
			return nil, fmt.Errorf("%w: %s", errNoRealmLeader, a.Definite)
		}
		results[i] = a.Result
	}
	return results, nil
}

// proposeAll replicates commands together and waits for all results. An error
// says that some outcome is not known.
func proposeAll(ctx context.Context, g *cluster.Group[catalog.Result], commands [][]byte) ([]answered, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	type done struct {
		i   int
		r   catalog.Result
		err error
	}
	ended := make(chan done, len(commands))
	for i, c := range commands {
		if err := g.Propose(ctx, cluster.Proposal[catalog.Result]{Command: c, Done: func(r catalog.Result, err error) { ended <- done{i, r, err} }}); err != nil {
			return nil, err
		}
	}
	answers := make([]answered, len(commands))
	for range commands {
		select {
		case d := <-ended:
			answers[d.i].Result = d.r
			if errors.Is(d.err, cluster.ErrNotLeader) || errors.Is(d.err, cluster.ErrStopped) {
				answers[d.i].Definite = d.err.Error()
			} else if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", cluster.ErrUnknownOutcome, context.Cause(ctx))
		}
	}
	return answers, nil
}

// onCommands carries out commands for another server if this one leads the
// realm.
func (n *realmNode) onCommands(ctx context.Context, body []byte) ([]byte, error) {
	var commands [][]byte
	if err := json.Unmarshal(body, &commands); err != nil {
		return nil, err
	}
	if len(commands) > claimsAtOnce {
		return nil, fmt.Errorf("%d commands in one call, at most %d", len(commands), claimsAtOnce)
	}
	g := n.group()
	if g == nil || !g.Leads() {
		definite := answered{Definite: "server " + n.server.config.Name + " does not lead the realm"}
		answers := make([]answered, len(commands))
		for i := range answers {
			answers[i] = definite
		}
		return json.Marshal(answers)
	}
	answers, err := proposeAll(ctx, g, commands)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answers)
}
