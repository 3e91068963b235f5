package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

// changeView is a change as JSON shows it: with what goes with it.
type changeView struct {
	client.Change
	Holds *holding `json:"holds,omitempty"`
}

// printChanges prints a plan, or what an apply did.
func (p *program) printChanges(file, what string, o *outlook, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, o.view())
	}
	plan := o.plan
	for _, w := range plan.Warnings {
		fmt.Fprintln(p.stderr, problemLine(file, w))
	}
	var text bytes.Buffer
	var rows [][]any
	for _, c := range plan.Changes {
		effect := ""
		if h, deletes := o.holds[c.Path]; deletes && c.Destroys {
			effect = h.String()
		}
		rows = append(rows, []any{c.Action, c.Path, c.Detail, effect})
	}
	if len(rows) > 0 {
		printTable(&text, []string{"action", "path", "detail", "effect"}, rows)
	}
	fmt.Fprintf(&text, "%s revision %d: %s\n", what, plan.Revision, countOf(len(rows), "change"))
	_, err := p.stdout.Write(text.Bytes())
	return err
}

// planView is what `realm plan -o json` and `realm apply -o json` print.
type planView struct {
	Revision uint64           `json:"revision"`
	Changes  []changeView     `json:"changes"`
	Warnings []client.Problem `json:"warnings"`
}

func (o *outlook) view() planView {
	v := planView{Revision: o.plan.Revision, Changes: []changeView{}, Warnings: []client.Problem{}}
	for _, c := range o.plan.Changes {
		view := changeView{Change: c}
		if h, deletes := o.holds[c.Path]; deletes && c.Destroys {
			view.Holds = &h
		}
		v.Changes = append(v.Changes, view)
	}
	v.Warnings = append(v.Warnings, o.plan.Warnings...)
	return v
}

func countOf[T ~int | ~uint64](n T, noun string) string {
	if n == 0 {
		return "no " + plural(0, noun)
	}
	return grouped(n) + " " + plural(int(n), noun)
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// completionPatience is how long a shell may wait for names.
const completionPatience = 500 * time.Millisecond

// completeEndpoint offers the names of endpoints, if a server answers at once.
func (p *program) completeEndpoint(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, prefix, func(r *realm.Realm) (names []string) {
		for _, e := range r.Endpoints {
			names = append(names, e.Name)
		}
		return names
	})
}

// completeCluster offers the names of clusters.
func (p *program) completeCluster(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, prefix, clusterNames)
}

func (p *program) complete(cmd *cobra.Command, args []string, prefix string, of func(*realm.Realm) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || p.fromEnvironment(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	addresses, _ := cmd.Flags().GetString("connect")
	conn := connection{addresses: addresses, timeout: completionPatience}
	var names []string
	_ = conn.call(cmd.Context(), "completion", func(ctx context.Context, c *client.Client) error {
		found, err := realmNames(ctx, c, of)
		names = slices.DeleteFunc(found, func(name string) bool { return !strings.HasPrefix(name, prefix) })
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// realmNames returns names of the newest definition.
func realmNames(ctx context.Context, c *client.Client, of func(*realm.Realm) []string) ([]string, error) {
	found, err := c.Admin().GetRealm(ctx, 0)
	if err != nil {
		return nil, err
	}
	r, err := realm.Parse("", found.Document)
	if err != nil {
		return nil, err
	}
	return of(r), nil
}
