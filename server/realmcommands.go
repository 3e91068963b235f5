package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
)

// commandsAtOnce bounds the commands of one call.
const commandsAtOnce = 1024

// errNoRealmLeader means that nothing happened: no core server leads the realm.
var errNoRealmLeader = errors.New("the realm group has no leader")

// submit carries a command to the realm group's leader and returns its result.
// It goes on until ctx ends while nothing happened. Commands other than Apply
// may be repeated; for Apply an unknown outcome is returned as such.
func (n *realmNode) submit(ctx context.Context, command []byte, repeatable bool) (catalog.Result, error) {
	results, err := n.submitAll(ctx, [][]byte{command}, repeatable)
	if err != nil {
		return catalog.Result{}, err
	}
	return results[0], nil
}

// submitAll is submit for commands that travel together. An error may be that of
// only some of them, so several must be repeatable.
func (n *realmNode) submitAll(ctx context.Context, commands [][]byte, repeatable bool) ([]catalog.Result, error) {
	for i := 0; ; i++ {
		results, err := n.try(ctx, i, commands)
		if err == nil || !repeatable && !nothingHappened(err) {
			return results, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(realmRetry):
		}
	}
}

// nothingHappened says of the error of a command that it had no effect, and will
// have none.
func nothingHappened(err error) bool {
	return errors.Is(err, cluster.ErrNotLeader) || errors.Is(err, errNoRealmLeader) || errors.Is(err, cluster.ErrStopped)
}

// try submits once: here, at the leader that this server knows, or at one core
// server after the other.
func (n *realmNode) try(ctx context.Context, attempt int, commands [][]byte) ([]catalog.Result, error) {
	g, addr, err := n.leader(attempt)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return n.remote(ctx, addr, commands)
	}
	results := make([]catalog.Result, len(commands))
	for i, o := range proposeAll(ctx, g, commands) {
		if o.err != nil {
			return nil, o.err
		}
		results[i] = o.result
	}
	return results, nil
}

// leader returns the realm group if this server leads it, or where to ask.
func (n *realmNode) leader(attempt int) (g *cluster.Group[catalog.Result], addr string, err error) {
	if g := n.group(); g != nil {
		if g.Leads() {
			return g, "", nil
		}
		leader, _ := g.Leader()
		if leader == 0 || leader == n.self.ID {
			return nil, "", errNoRealmLeader
		}
		return nil, n.core[leader-1].Addr, nil
	}
	c := n.core[attempt%len(n.core)]
	if c.Name == n.server.config.Name {
		return nil, "", errNoRealmLeader
	}
	return nil, c.Addr, nil
}

// answered is a result on its way between servers.
type answered struct {
	Result   catalog.Result `json:"result"`
	Definite string         `json:"definite,omitempty"` // nothing happened, and why
}

func (n *realmNode) remote(ctx context.Context, addr string, commands [][]byte) ([]catalog.Result, error) {
	request, err := json.Marshal(commands)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	body, err := n.server.transport.CallAddress(ctx, addr, callCommands, request)
	if err != nil {
		return nil, err
	}
	var answers []answered
	if err := json.Unmarshal(body, &answers); err != nil {
		return nil, err
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

// onCommands carries out commands for another server if this one leads the
// realm.
func (n *realmNode) onCommands(ctx context.Context, body []byte) ([]byte, error) {
	var commands [][]byte
	if err := json.Unmarshal(body, &commands); err != nil {
		return nil, err
	}
	if len(commands) > commandsAtOnce {
		return nil, fmt.Errorf("%d commands in one call, at most %d", len(commands), commandsAtOnce)
	}
	answers := make([]answered, len(commands))
	g := n.group()
	if g == nil || !g.Leads() {
		for i := range answers {
			answers[i].Definite = "server " + n.server.config.Name + " does not lead the realm"
		}
		return json.Marshal(answers)
	}
	for i, o := range proposeAll(ctx, g, commands) {
		switch {
		case o.err == nil:
			answers[i].Result = o.result
		case nothingHappened(o.err):
			answers[i].Definite = o.err.Error()
		default:
			return nil, o.err
		}
	}
	return json.Marshal(answers)
}

// realmFault translates what a realm command came to.
func realmFault(r catalog.Result) *fault {
	f := &fault{text: r.Detail}
	switch r.Code {
	case catalog.Conflict:
		f.reason = perdurepb.Reason_REASON_REVISION_CONFLICT
	case catalog.Invalid:
		f.reason = perdurepb.Reason_REASON_REALM_INVALID
		f.problems = problemsProto(r.Problems)
		if f.text == "" {
			f.text = fmt.Sprintf("the realm definition has %d problems; nothing was changed", len(r.Problems))
		}
	default:
		f.reason = perdurepb.Reason_REASON_INVALID_ARGUMENT
	}
	return f
}
