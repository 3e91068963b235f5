package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

// printChanges prints a plan, or what an apply did.
func (p *program) printChanges(file, what string, plan *client.Plan, output format) error {
	if output == formatJSON {
		result := *plan
		if result.Changes == nil {
			result.Changes = []client.Change{}
		}
		if result.Warnings == nil {
			result.Warnings = []client.Problem{}
		}
		return p.writeJSON(p.stdout, result)
	}
	for _, w := range plan.Warnings {
		fmt.Fprintln(p.stderr, problemLine(file, w))
	}
	var text bytes.Buffer
	var rows [][]any
	destroys := 0
	for _, c := range plan.Changes {
		mark := ""
		if c.Destroys {
			mark = "messages are lost"
			destroys++
		}
		rows = append(rows, []any{c.Action, c.Path, c.Detail, mark})
	}
	if len(rows) > 0 {
		printTable(&text, []string{"action", "path", "detail", "effect"}, rows)
	}
	fmt.Fprintf(&text, "%s revision %d: %s\n", what, plan.Revision, countOf(len(rows), "change"))
	if _, err := p.stdout.Write(text.Bytes()); err != nil {
		return err
	}
	if destroys > 0 {
		verb := "delete"
		if destroys == 1 {
			verb = "deletes"
		}
		fmt.Fprintf(p.stderr, "perdure: %s above %s stored messages\n", countOf(destroys, "change"), verb)
	}
	return nil
}

func countOf(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// completionPatience is how long a shell may wait for names.
const completionPatience = 500 * time.Millisecond

// completeEndpoint offers the names of endpoints, if a cluster answers at once.
func (p *program) completeEndpoint(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || p.fromEnvironment(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	addresses, _ := cmd.Flags().GetString("connect")
	conn := connection{addresses: addresses, timeout: completionPatience}
	var names []string
	_ = conn.call(cmd.Context(), "completion", func(ctx context.Context, c *client.Client) error {
		found, err := c.Admin().GetRealm(ctx, 0)
		if err != nil {
			return err
		}
		r, err := realm.Parse("", found.Document)
		if err != nil {
			return err
		}
		for _, e := range r.Endpoints {
			if strings.HasPrefix(e.Name, prefix) {
				names = append(names, e.Name)
			}
		}
		return nil
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
