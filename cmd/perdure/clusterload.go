package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

// loadOptions is what `cluster load` and `cluster restore` were asked.
type loadOptions struct {
	source  stateSource
	rename  []string
	renamed map[string]string
	dryRun  bool
	replace bool
	abort   bool
}

func (p *program) clusterLoadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load NAME {FILE | --from-server S FILE | --abort}",
		Short: "Make what a file holds the state of a cluster",
		Long: "FILE is on this machine, or with --from-server a file of that server's state directory, which\n" +
			"is called .loaded afterwards. The whole file is checked before anything happens, and nothing\n" +
			"of it is seen before all of it is there. The cluster has been used by nobody, or is suspended\n" +
			"and gives up what it has with --replace; it is suspended afterwards. The command goes on when\n" +
			"the leader changes. If it fails, repeat it: it goes on where it was; --abort ends the load.",
		Example: "  perdure cluster load main main.state --dry-run\n" +
			"  perdure cluster load main main.state --replace\n" +
			"  perdure cluster load main --from-server s1 main.main-1.state --replace -o json\n" +
			"  perdure cluster resume main",
	}
	var o loadOptions
	cmd.Args = o.args
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.replace, "replace", false, "put it in the place of what the cluster has")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say whether it would be loaded")
	cmd.Flags().BoolVar(&o.abort, "abort", false, "end a load that was interrupted, and forget what has come of it")
	p.runLoad(cmd, &o, func(ctx context.Context, c *client.Client, cluster string, view *loadedView) error {
		if o.abort {
			view.Suspended = true // who loads has it suspended, and it stays so
			return c.Admin().AbortLoad(ctx, cluster)
		}
		_, err := p.load(ctx, c, cluster, &o, view)
		return err
	})
	return cmd
}

func (p *program) clusterRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore NAME {FILE | --from-server S FILE}",
		Short: "Load a file into a cluster that nobody has used, and resume it",
		Long: "What perdure cluster load does, and then perdure cluster resume. A cluster that has been used is\n" +
			"refused, whether it is suspended or not: see perdure cluster load --replace.",
		Example: "  perdure cluster restore main main.state\n" +
			"  perdure cluster restore main main.state --map default=orders",
	}
	var o loadOptions
	cmd.Args = o.args
	o.flags(cmd)
	p.runLoad(cmd, &o, func(ctx context.Context, c *client.Client, cluster string, view *loadedView) error {
		if err := p.unusedCluster(ctx, c, cluster, &o); err != nil {
			return err
		}
		if _, err := p.load(ctx, c, cluster, &o, view); err != nil {
			return err
		}
		err := c.Admin().ResumeCluster(ctx, cluster)
		view.Suspended = err != nil
		return err
	})
	return cmd
}

// unusedCluster refuses a cluster that has been used. What counts is decided where
// the state is loaded; this only spares a cluster from being suspended for it. One
// into which this very file was loaded, by a command that was interrupted before it
// resumed it, is none.
func (p *program) unusedCluster(ctx context.Context, c *client.Client, cluster string, o *loadOptions) error {
	status, err := clusterStatusOf(ctx, c, cluster)
	if err != nil {
		return err
	}
	for _, s := range status.Stores {
		if s.LastID != 0 {
			if status.Suspended && p.loadedBefore(ctx, c, cluster, o) {
				return nil
			}
			return failuref("NOT_EMPTY", "store %q of cluster %s has been used; nothing is restored over live data: perdure cluster load --replace loads a state in its place", s.Name, cluster)
		}
	}
	return nil
}

// loadedBefore reports whether the file was loaded last, and nothing has changed since.
func (p *program) loadedBefore(ctx context.Context, c *client.Client, cluster string, o *loadOptions) bool {
	open, err := o.source.opener(ctx, c)
	if err != nil {
		return false // who loads it says why
	}
	meter := p.newStateMeter("checked")
	defer meter.end()
	l, err := c.Admin().LoadCluster(ctx, cluster, client.LoadRequest{Open: open, DryRun: true, Rename: o.renamed, Progress: meter.of("")})
	return err == nil && l.Before
}

func (o *loadOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.source.server, "from-server", "", "FILE is in the state directory of this server")
	cmd.Flags().StringArrayVar(&o.source.stores, "store", nil, "only this store of the file; repeatable (default every store)")
	cmd.Flags().StringArrayVar(&o.rename, "map", nil, "OLD=NEW: load store OLD of the file into store NEW; repeatable")
}

func (o *loadOptions) args(cmd *cobra.Command, args []string) error {
	want := 2
	if o.abort {
		want = 1
	}
	switch {
	case len(args) == 0:
		return usagef(cmd, "no NAME given")
	case len(args) < want:
		return usagef(cmd, "no FILE given")
	case len(args) > want:
		return usagef(cmd, "unknown argument %q", args[want])
	}
	return nil
}

// check reads the flags.
func (o *loadOptions) check(cmd *cobra.Command) error {
	o.renamed = map[string]string{}
	for _, pair := range o.rename {
		from, to, ok := strings.Cut(pair, "=")
		if !ok || from == "" || to == "" {
			return usagef(cmd, "--map %q: want OLD=NEW", pair)
		}
		if other, twice := o.renamed[from]; twice && other != to {
			return usagef(cmd, "--map: store %q is to become %q and %q", from, other, to)
		}
		o.renamed[from] = to
	}
	return nil
}

// loadedView is what `cluster load -o json` and `cluster restore -o json` print.
type loadedView struct {
	Cluster   string        `json:"cluster"`
	Loaded    bool          `json:"loaded"` // false: a dry run, or a load was aborted
	Suspended bool          `json:"suspended"`
	StateHash string        `json:"state_hash"`
	Bytes     uint64        `json:"file_bytes"`
	Messages  uint64        `json:"messages"`
	Renamed   string        `json:"renamed,omitempty"` // what the file on the server is called now
	Stores    []loadedStore `json:"stores"`
}

type loadedStore struct {
	Name     string `json:"name"`
	From     string `json:"from"`
	Messages uint64 `json:"messages"`
	Durables uint64 `json:"durables"`
	Pending  uint64 `json:"pending"`
}

// runLoad completes a command that loads.
func (p *program) runLoad(cmd *cobra.Command, o *loadOptions, do func(ctx context.Context, c *client.Client, cluster string, view *loadedView) error) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 && o.source.server == "" {
			return nil, cobra.ShellCompDirectiveDefault // a file
		}
		return p.completeCluster(cmd, args, prefix)
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(conn.check(cmd), o.check(cmd)); err != nil {
			return err
		}
		if len(args) > 1 {
			o.source.file = args[1]
		}
		view := loadedView{Cluster: args[0], Stores: []loadedStore{}}
		err := conn.long(cmd.Context(), "cluster "+cmd.Name(), func(ctx context.Context, c *client.Client) error { return do(ctx, c, args[0], &view) })
		if !view.Loaded && err != nil {
			return err
		}
		return errors.Join(err, p.printLoaded(view, o, *output))
	}
}

// load loads the file and, if it is a server's, has it renamed.
func (p *program) load(ctx context.Context, c *client.Client, cluster string, o *loadOptions, view *loadedView) (*client.LoadedState, error) {
	open, err := o.source.opener(ctx, c)
	if err != nil {
		return nil, err
	}
	meter := p.newStateMeter("checked")
	defer meter.end()
	l, err := c.Admin().LoadCluster(ctx, cluster, client.LoadRequest{
		Open: open, Replace: o.replace, DryRun: o.dryRun, Rename: o.renamed, Progress: meter.of(""),
	})
	if err != nil {
		return nil, unfinished(err, cluster)
	}
	view.Loaded, view.Suspended, view.StateHash, view.Bytes, view.Messages = !o.dryRun, !o.dryRun, l.StateHash, l.Bytes, l.Messages
	for _, s := range l.Stores {
		view.Stores = append(view.Stores, loadedStore(s))
	}
	if o.source.server == "" || o.dryRun {
		return l, nil
	}
	if view.Renamed, err = c.Admin().MarkLoaded(ctx, o.source.server, o.source.file); err != nil {
		return l, fmt.Errorf("the state is loaded, but its file keeps its name: %w", err)
	}
	return l, nil
}

// unfinished says how to go on, where a load may be under way.
func unfinished(err error, cluster string) error {
	if !errors.Is(err, client.ErrOutcomeUnknown) && !errors.Is(err, context.Canceled) {
		return err
	}
	const how = "repeat the command to go on where it was, or end the load with perdure cluster load"
	if errors.Is(err, client.ErrOutcomeUnknown) {
		return failuref("OUTCOME_UNKNOWN", "%w; %s %s --abort", err, how, cluster)
	}
	return failuref(reasonInterrupted, "interrupted while the file was checked; this command has changed nothing")
}

func (p *program) printLoaded(v loadedView, o *loadOptions, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, v)
	}
	var text bytes.Buffer
	if o.abort {
		fmt.Fprintf(&text, "cluster %s: the load is ended, nothing is changed; still suspended\n", cell(v.Cluster))
		_, err := p.stdout.Write(text.Bytes())
		return err
	}
	var rows [][]any
	for _, s := range v.Stores {
		rows = append(rows, []any{cell(s.From), cell(s.Name), grouped(s.Messages), grouped(s.Durables), grouped(s.Pending)})
	}
	printTable(&text, []string{"saved", "store", "messages", "durables", "pending"}, rows)
	what := "loaded; perdure cluster resume lets it go on"
	switch {
	case !v.Loaded:
		what = "would be loaded; nothing is changed"
	case !v.Suspended:
		what = "loaded, and resumed"
	}
	fmt.Fprintf(&text, "cluster %s: %s in %s %s\n", cell(v.Cluster), countOf(v.Messages, "message"), bytesText(v.Bytes), what)
	if v.Renamed != "" {
		fmt.Fprintf(&text, "the file on server %s is now %s\n", cell(o.source.server), v.Renamed)
	}
	_, err := p.stdout.Write(text.Bytes())
	return err
}
