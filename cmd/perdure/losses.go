package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

const (
	// leaderPatience is how long a leader may take to say what its stores hold:
	// longer than an election.
	leaderPatience = 3 * time.Second
	// applyTries bounds how often a plan is made anew because somebody else
	// applied meanwhile.
	applyTries = 5
)

// allowDeleteFlag declares the flag without which no message is deleted.
func allowDeleteFlag(cmd *cobra.Command, allow *bool) {
	cmd.Flags().BoolVar(allow, "allow-delete", false, "delete stores, durables and clusters also where they hold messages")
}

// heldDurable is a durable that subscribers made, in a store that goes.
type heldDurable struct {
	Name    string `json:"name"`
	Pending uint64 `json:"pending"`
}

// holding is what goes with something that is deleted.
type holding struct {
	Messages uint64        `json:"messages"` // in stores
	Pending  uint64        `json:"pending"`  // on durables
	Dynamic  []heldDurable `json:"dynamic_durables,omitempty"`
	Unknown  string        `json:"unknown,omitempty"` // why nobody can say
}

func (h holding) any() bool { return h.Unknown != "" || h.Messages > 0 || h.Pending > 0 }

// String is for people: the effect of the deletion.
func (h holding) String() string {
	if h.Unknown != "" {
		return "deletes what cannot be looked up: " + h.Unknown
	}
	var parts []string
	if h.Messages > 0 {
		parts = append(parts, countOf(h.Messages, "message"))
	}
	if h.Pending > 0 {
		parts = append(parts, grouped(h.Pending)+" pending")
	}
	text := "holds no messages"
	if len(parts) > 0 {
		text = "deletes " + strings.Join(parts, ", ")
	}
	if len(h.Dynamic) > 0 {
		names := make([]string, len(h.Dynamic))
		for i, d := range h.Dynamic {
			names[i] = fmt.Sprintf("%s (%s pending)", printable([]byte(d.Name)), grouped(d.Pending))
		}
		text += "; with it the dynamic " + plural(len(names), "durable") + " " + strings.Join(names, ", ")
	}
	return text
}

// outlook is a plan and what goes with each deletion in it, by path.
type outlook struct {
	plan  *client.Plan
	holds map[string]holding
}

// deletion is one change that deletes messages, or may.
type deletion struct {
	Path string `json:"path"`
	holding
}

// wouldDelete says that a definition was not applied for what it deletes.
type wouldDelete struct {
	file    string
	deletes []deletion
}

func (e *wouldDelete) Error() string {
	what := "delete messages"
	if e.unknown() {
		what = "delete what nobody can look into"
	}
	return fmt.Sprintf("%s would %s, so nothing was applied; keep in the definition what is to stay, or say --allow-delete", e.file, what)
}

// unknown reports whether a later try may find that nothing would be deleted.
func (e *wouldDelete) unknown() bool {
	return !slices.ContainsFunc(e.deletes, func(d deletion) bool { return d.Unknown == "" })
}

// refusal is a *wouldDelete if the plan deletes messages, or may.
func (o *outlook) refusal(file string) error {
	e := &wouldDelete{file: file}
	for _, c := range o.plan.Changes {
		if h, deletes := o.holds[c.Path]; deletes && h.any() {
			e.deletes = append(e.deletes, deletion{c.Path, h})
		}
	}
	if len(e.deletes) == 0 {
		return nil
	}
	return e
}

// foresee plans a definition and looks up what goes with what it deletes. Where
// that cannot be looked up, the outlook says why.
func foresee(ctx context.Context, c *client.Client, f *realmFile) (*outlook, error) {
	plan, err := c.Admin().PlanRealm(ctx, f.data, f.name)
	if err != nil {
		return nil, err
	}
	o := &outlook{plan, map[string]holding{}}
	if !slices.ContainsFunc(plan.Changes, func(c client.Change) bool { return c.Destroys }) {
		return o, nil
	}
	old, err := currentRealm(ctx, c, plan.Revision)
	if err != nil {
		o.unknown("the present definition cannot be read: " + describe(err).Message)
		return o, nil
	}
	patience := leaderPatience
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)/2) // the rest is for what comes after
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s, err := c.Admin().Status(ctx)
		if err == nil && o.read(old, s) || o.sleep(ctx) != nil {
			if len(o.holds) == 0 {
				o.unknown("no status: " + describe(err).Message)
			}
			return o, nil
		}
	}
}

func currentRealm(ctx context.Context, c *client.Client, revision uint64) (*realm.Realm, error) {
	found, err := c.Admin().GetRealm(ctx, revision)
	if err != nil {
		return nil, err
	}
	return realm.Parse("the present definition", found.Document)
}

// sleep waits between two looks at the status.
func (o *outlook) sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(readyPoll):
		return nil
	}
}

// unknown says of every deletion that nobody knows what it deletes.
func (o *outlook) unknown(why string) {
	for _, c := range o.plan.Changes {
		if c.Destroys {
			o.holds[c.Path] = holding{Unknown: why}
		}
	}
}

// read looks up the deletions in the status of servers that serve old. It
// reports whether it found all.
func (o *outlook) read(old *realm.Realm, s *client.Status) bool {
	found := holdings(old, s)
	all := true
	for _, c := range o.plan.Changes {
		if !c.Destroys {
			continue
		}
		h, known := found[c.Path]
		if !known {
			h.Unknown = "the servers do not list it"
		}
		o.holds[c.Path] = h
		all = all && h.Unknown == ""
	}
	return all
}

// holdings returns what everything in a definition holds, by path.
func holdings(old *realm.Realm, s *client.Status) map[string]holding {
	found := map[string]holding{}
	for i := range old.Clusters {
		c := &old.Clusters[i]
		path := fmt.Sprintf("clusters[%s]", c.Name)
		status, why := ledStatus(s, c.Name)
		sum := holding{Unknown: why}
		for j := range c.Stores {
			h := storeHoldings(found, path, &c.Stores[j], status, why)
			sum.Messages, sum.Pending = sum.Messages+h.Messages, sum.Pending+h.Pending
			if sum.Unknown == "" {
				sum.Unknown = h.Unknown
			}
		}
		found[path] = sum
	}
	return found
}

// storeHoldings enters a store and its durables.
func storeHoldings(found map[string]holding, path string, store *realm.Store, c *client.ClusterStatus, why string) holding {
	path += fmt.Sprintf(".stores[%s]", store.Name)
	h := holding{Unknown: why}
	pending := map[string]uint64{}
	if why == "" {
		i := slices.IndexFunc(c.Stores, func(s client.StoreStatus) bool { return s.Name == store.Name })
		if i < 0 {
			// Its definition may be on its way to the leader.
			h.Unknown = "the leader, " + c.Leader + ", does not list it"
		} else {
			h.Messages = c.Stores[i].Messages
			for _, d := range c.Stores[i].Durables {
				h.Pending += d.Pending
				pending[d.Name] = d.Pending
				if store.Durable(d.Name) == nil {
					h.Dynamic = append(h.Dynamic, heldDurable{d.Name, d.Pending})
				}
			}
		}
	}
	found[path] = h
	for _, d := range store.Durables {
		one := holding{Pending: pending[d.Name], Unknown: h.Unknown}
		if _, listed := pending[d.Name]; !listed && one.Unknown == "" {
			one.Unknown = "the leader, " + c.Leader + ", does not list it"
		}
		found[fmt.Sprintf("%s.durables[%s]", path, d.Name)] = one
	}
	return h
}

// ledStatus returns a cluster's status if it is its leader that said what the
// stores hold, else why nobody can say: a follower may be behind.
func ledStatus(s *client.Status, name string) (*client.ClusterStatus, string) {
	for i := range s.Clusters {
		c := &s.Clusters[i]
		if c.Name != name {
			continue
		}
		leads := func(v client.ServiceStatus) bool {
			return v.Server == c.Leader && v.State == "leader" && v.StateHash != ""
		}
		switch {
		case c.Leader == "":
			return nil, "cluster " + name + " has no leader"
		case !slices.ContainsFunc(c.Services, leads):
			return nil, "the leader of cluster " + name + ", " + c.Leader + ", does not answer"
		}
		return c, ""
	}
	return nil, "the servers do not list cluster " + name
}

// application is how a definition is to be applied.
type application struct {
	allow    bool // messages may be deleted
	revision *uint64
	noWait   bool
}

// apply applies a definition unless that deletes messages and must not. What was
// looked at is what is changed: if somebody else applies meanwhile it looks again.
func (a application) apply(ctx context.Context, c *client.Client, f *realmFile) (*outlook, error) {
	for try := 1; ; try++ {
		seen, err := foresee(ctx, c, f)
		if err != nil {
			return nil, err
		}
		if err := seen.refusal(f.name); err != nil && !a.allow {
			return nil, err
		}
		applied, err := c.Admin().ApplyRealm(ctx, f.data, f.name, a.options(seen.plan.Revision)...)
		if err == nil {
			return &outlook{applied, seen.holds}, nil
		}
		overtaken := errors.Is(err, client.ErrRevisionConflict) || errors.Is(err, client.ErrOutcomeUnknown)
		if !overtaken || a.revision != nil || a.allow || try == applyTries || seen.sleep(ctx) != nil {
			return nil, err
		}
	}
}

func (a application) options(planned uint64) []client.ApplyOption {
	var list []client.ApplyOption
	switch {
	case a.revision != nil:
		list = append(list, client.IfRevision(*a.revision))
	case !a.allow:
		list = append(list, client.IfRevision(planned))
	}
	if a.noWait {
		list = append(list, client.NoWait())
	}
	return list
}
