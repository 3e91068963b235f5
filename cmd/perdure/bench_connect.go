package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

// benchTarget is a cluster that runs, as it was before the first load.
type benchTarget struct {
	realm  *realm.Realm
	before *client.Status
}

// benchTargetOf asks a running cluster what it holds. Nothing is done to it if a
// load would harm somebody, or be harmed.
func (p *program) benchTargetOf(cmd *cobra.Command, o *benchOptions, points []benchPoint) (*benchTarget, error) {
	t := &benchTarget{}
	conn := &connection{addresses: o.connect, timeout: o.timeout}
	err := conn.call(cmd.Context(), "bench", func(ctx context.Context, c *client.Client) error {
		r, err := c.Admin().GetRealm(ctx, 0)
		if err != nil {
			return err
		}
		if t.realm, err = realm.Parse("the realm", r.Document); err != nil {
			return err
		}
		t.before, err = c.Admin().Status(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, pt := range points {
		durability := "" // whatever it is
		if cmd.Flags().Changed("durability") {
			durability = pt.durability
		}
		if err := t.refuse(pt, durability); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// endpoint returns an endpoint of the realm, or nil.
func (t *benchTarget) endpoint(name string) *realm.Endpoint {
	for i := range t.realm.Endpoints {
		if t.realm.Endpoints[i].Name == name {
			return &t.realm.Endpoints[i]
		}
	}
	return nil
}

// refuse says why a load cannot be put on the cluster.
func (t *benchTarget) refuse(pt benchPoint, durability string) error {
	wanted := pt.load.Endpoints()
	for _, name := range wanted {
		e := t.endpoint(name)
		if e == nil {
			var there []string
			for _, e := range t.realm.Endpoints {
				there = append(there, e.Name)
			}
			return failuref("NO_SUCH_ENDPOINT", "no endpoint %q in realm %s: the load publishes to %s; --endpoint says to which, there are: %s",
				name, t.realm.Name, strings.Join(wanted, ", "), strings.Join(there, ", "))
		}
		cluster, _ := t.realm.Store(e.Store)
		if is := cluster.Durability.String(); durability != "" && durability != is {
			return fmt.Errorf("--durability %s: cluster %s, which holds endpoint %s, is %s; leave --durability away", durability, cluster.Name, name, is)
		}
		for _, durable := range pt.load.Consumes() {
			if err := t.refuseDurable(e, durable); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseDurable says why a durable, the endpoint's default if it has no name,
// cannot be consumed.
func (t *benchTarget) refuseDurable(e *realm.Endpoint, name string) error {
	if name == "" {
		name = e.DefaultDurable
	}
	if name == "" {
		return failuref("NO_SUCH_DURABLE", "endpoint %s has no default_durable, which the load consumes; give it one, or use another --endpoint", e.Name)
	}
	held := storeStatus(t.before, e.Store)
	if held == nil {
		return failuref("UNAVAILABLE", "nobody says what pends in store %s, whose cluster has no leader; try again when perdure status shows one", e.Store)
	}
	i := slices.IndexFunc(held.Durables, func(d client.DurableStatus) bool { return d.Name == name })
	if i < 0 {
		return failuref("NO_SUCH_DURABLE", "no durable %s in store %s, which the load consumes; add it to the realm, or leave --durables away", name, e.Store)
	}
	d := held.Durables[i]
	switch {
	case d.Pending > 0:
		return fmt.Errorf("durable %s of store %s has %s pending, which the load would take from whoever wants them; "+
			"use an endpoint with a durable of its own, or, if nobody wants them, remove them: %s",
			name, e.Store, countOf(d.Pending, "message"), removal(e.Name, name))
	case d.Subscribers > 0:
		return fmt.Errorf("durable %s of store %s has %s, who would be given what the load publishes; "+
			"use an endpoint with a durable of its own", name, e.Store, countOf(d.Subscribers, "subscriber"))
	}
	return nil
}

// removal is a command that takes everything from a durable.
func removal(endpoint, durable string) string {
	return fmt.Sprintf("perdure sub %s --durable %s --ack --idle-timeout 1s >/dev/null", endpoint, durable)
}

// leftBehind says for which durables more pends than before the loads.
func (t *benchTarget) leftBehind(now *client.Status, points []benchPoint) []string {
	var lines []string
	seen := map[string]bool{}
	for _, pt := range points {
		for _, name := range pt.load.Endpoints() {
			e := t.endpoint(name)
			is := storeStatus(now, e.Store)
			if seen[e.Store] || is == nil {
				continue
			}
			seen[e.Store] = true
			before := map[string]uint64{}
			if was := storeStatus(t.before, e.Store); was != nil {
				for _, d := range was.Durables {
					before[d.Name] = d.Pending
				}
			}
			for _, d := range is.Durables {
				if was := before[d.Name]; d.Pending > was {
					text := fmt.Sprintf("durable %s of store %s has %s pending", d.Name, e.Store, countOf(d.Pending, "message"))
					if was > 0 {
						text += fmt.Sprintf(", %s of them from before", grouped(was))
					}
					lines = append(lines, text+"; to remove all: "+removal(name, d.Name))
				}
			}
		}
	}
	return lines
}

// tellLeft says what the loads have left in the cluster, however they ended. If
// they failed, and it cannot be asked, what they failed of is what matters.
func (p *program) tellLeft(ctx context.Context, o *benchOptions, t *benchTarget, points []benchPoint, failed bool) {
	conn := &connection{addresses: o.connect, timeout: o.timeout}
	err := conn.call(context.WithoutCancel(ctx), "bench", func(ctx context.Context, c *client.Client) error {
		now, err := c.Admin().Status(ctx)
		if err != nil {
			return err
		}
		for _, line := range t.leftBehind(now, points) {
			fmt.Fprintf(p.stderr, "perdure: %s\n", line)
		}
		return nil
	})
	switch {
	case err != nil && failed:
		fmt.Fprintf(p.stderr, "perdure: what the load left in the cluster is not known, since it does not answer: perdure status -o json says it when it does\n")
	case err != nil:
		fmt.Fprintf(p.stderr, "perdure: what stays in the cluster is not known: %v\n", err)
	}
}

// storeStatus finds a store that somebody describes.
func storeStatus(s *client.Status, name string) *client.StoreStatus {
	for _, c := range s.Clusters {
		for i := range c.Stores {
			if c.Stores[i].Name == name {
				return &c.Stores[i]
			}
		}
	}
	return nil
}
