package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

func (p *program) clusterCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "cluster",
		Short: "Suspend, save, load, resume and back up clusters",
		Long:  "What is done to a cluster as a whole, while it runs.",
		Example: "  perdure cluster suspend main\n" +
			"  perdure cluster save main\n" +
			"  perdure cluster backup main\n" +
			"  perdure cluster resume main",
	})
	cmd.AddCommand(
		p.clusterVerb(&cobra.Command{
			Use:   "suspend {NAME | --all}",
			Short: "Let a cluster keep what it has, and take and deliver nothing",
			Long: "Publishers and new subscribers wait, or get SUSPENDED, until the cluster is resumed; nothing\n" +
				"expires. What was delivered may be acknowledged for the cluster's suspend_grace; the rest is\n" +
				"taken back and does not count as delivered. The command returns then. It may be repeated, also\n" +
				"where the grace is longer than --timeout.",
			Example: "  perdure cluster suspend main --timeout 30s\n" +
				"  perdure cluster suspend --all -o json",
		}, suspendCluster),
		p.clusterVerb(&cobra.Command{
			Use:   "resume {NAME | --all}",
			Short: "Let a suspended cluster go on",
			Long:  "Publishers and subscribers that wait go on by themselves. The command may be repeated.",
			Example: "  perdure cluster resume main\n" +
				"  perdure cluster resume --all",
		}, resumeCluster),
		p.clusterSaveCommand(), p.clusterBackupCommand(), p.clusterLoadCommand(), p.clusterRestoreCommand(),
	)
	return cmd
}

// clusterDone is what became of a cluster; its JSON is a promise.
type clusterDone struct {
	Name      string `json:"name"`
	Suspended bool   `json:"suspended"`
	Recalled  uint64 `json:"recalled"`
}

func (d clusterDone) String() string {
	switch {
	case !d.Suspended:
		return "resumed"
	case d.Recalled > 0:
		return "suspended; " + countOf(d.Recalled, "message") + " taken back from subscribers"
	}
	return "suspended"
}

func suspendCluster(ctx context.Context, c *client.Client, name string) (clusterDone, error) {
	s, err := c.Admin().SuspendCluster(ctx, name)
	if errors.Is(err, context.DeadlineExceeded) {
		err = suspending(ctx, c, name, err)
	}
	if err != nil {
		return clusterDone{}, err
	}
	return clusterDone{Name: name, Suspended: true, Recalled: s.Recalled}, nil
}

// lastLook is how long it takes at most to find out why the time was not enough.
const lastLook = 2 * time.Second

// suspending says that a cluster is suspended, where all that took too long is its
// grace; else it returns err.
func suspending(ctx context.Context, c *client.Client, name string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	status, failed := clusterStatusOf(ctx, c, name)
	if failed != nil || !status.Suspended {
		return err
	}
	found, failed := c.Admin().GetRealm(ctx, 0)
	if failed != nil {
		return err
	}
	r, failed := realm.Parse("", found.Document)
	if failed != nil || r.Cluster(name) == nil {
		return err
	}
	grace := r.Cluster(name).Tuning.SuspendGrace
	return fmt.Errorf("cluster %s takes nothing any more, and waits for what it has delivered; its suspend_grace is %v: repeat the command, or give it --timeout %v: %w",
		name, grace, grace+defaultTimeout, context.DeadlineExceeded)
}

func resumeCluster(ctx context.Context, c *client.Client, name string) (clusterDone, error) {
	return clusterDone{Name: name}, c.Admin().ResumeCluster(ctx, name)
}

// clustersAtOnce bounds the clusters of --all that are asked at a time: to suspend
// one may take its grace.
const clustersAtOnce = 32

// clusterVerb completes a command that does something to one cluster or to all.
func (p *program) clusterVerb(cmd *cobra.Command, do func(context.Context, *client.Client, string) (clusterDone, error)) *cobra.Command {
	all := false
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "unknown argument %q; one NAME is enough", args[1])
		}
		return nil
	}
	cmd.ValidArgsFunction = p.completeCluster
	cmd.Flags().BoolVar(&all, "all", false, "every cluster of the realm")
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return usagef(cmd, "give the NAME of a cluster, or --all%s", p.fromItsVariable(cmd, "all"))
		}
		if err := conn.check(cmd); err != nil {
			return err
		}
		var done []clusterDone
		failed := conn.call(cmd.Context(), "cluster "+cmd.Name(), func(ctx context.Context, c *client.Client) error {
			names := args
			if all {
				var err error
				if names, err = realmNames(ctx, c, clusterNames); err != nil {
					return err
				}
			}
			var err error
			done, err = eachCluster(names, func(name string) (clusterDone, error) { return do(ctx, c, name) })
			return err
		})
		if len(done) == 0 && failed != nil {
			return failed
		}
		return errors.Join(failed, p.printClusters(done, *output))
	}
	return cmd
}

// eachCluster does something to clusters, several at a time. It returns what was
// done, in order, also where some failed.
func eachCluster(names []string, do func(name string) (clusterDone, error)) ([]clusterDone, error) {
	results, errs := make([]clusterDone, len(names)), make([]error, len(names))
	slots := make(chan struct{}, clustersAtOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if results[i], err = do(name); err != nil {
				errs[i] = fmt.Errorf("cluster %s: %w", name, err)
			}
		})
	}
	wg.Wait()
	done := []clusterDone{}
	for i, d := range results {
		if errs[i] == nil {
			done = append(done, d)
		}
	}
	return done, errors.Join(errs...)
}

// clustersView is what `cluster suspend -o json` and `cluster resume -o json` print.
type clustersView struct {
	Clusters []clusterDone `json:"clusters"`
}

func (p *program) printClusters(done []clusterDone, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, clustersView{done})
	}
	var text bytes.Buffer
	for _, d := range done {
		fmt.Fprintf(&text, "cluster %s: %v\n", cell(d.Name), d)
	}
	_, err := p.stdout.Write(text.Bytes())
	return err
}

func clusterNames(r *realm.Realm) []string {
	var names []string
	for _, c := range r.Clusters {
		names = append(names, c.Name)
	}
	return names
}
