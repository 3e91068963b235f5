package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

func (p *program) clusterBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup NAME",
		Short: "Copy what a cluster has while it goes on",
		Long: "The leader, or the service that --service names, writes a file of what it has at one entry of\n" +
			"the cluster's log. Clients go on meanwhile, and it takes a quarter of one processor at most. The\n" +
			"file goes into the state directory of the server as CLUSTER.SERVICE.state, where the one that\n" +
			"was there becomes .backup; with --output it comes here instead. See perdure cluster restore.",
		Example: "  perdure cluster backup main\n" +
			"  perdure cluster backup main --output main.state\n" +
			"  perdure cluster backup main --store default --output default.state -o json",
		Args: oneArg("NAME"),
	}
	cmd.ValidArgsFunction = p.completeCluster
	o := saveOptions{online: true}
	service := cmd.Flags().String("service", "", "the service that writes it (default the leader)")
	cmd.Flags().StringArrayVar(&o.stores, "store", nil, "only this store; repeatable (default every store)")
	cmd.Flags().StringVar(&o.output, "output", "", "write the file here, on this machine")
	conn := connectionFlags(cmd)
	format := printFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		if *service != "" {
			o.services = []string{*service}
		}
		view := savedView{Cluster: args[0]}
		if err := conn.long(cmd.Context(), "cluster backup", func(ctx context.Context, c *client.Client) (err error) {
			if o.output != "" {
				view.Files, err = p.saveHere(ctx, c, args[0], &o)
			} else {
				view.Files, err = p.backUpThere(ctx, c, args[0], *service, &o)
			}
			return err
		}); err != nil {
			return err
		}
		return p.printSaved(view, *format)
	}
	return cmd
}

// backUpThere has one service write its file where it is.
func (p *program) backUpThere(ctx context.Context, c *client.Client, cluster, service string, o *saveOptions) ([]savedFile, error) {
	meter := p.newStateMeter("saved")
	defer meter.end()
	saved, err := c.Admin().SaveCluster(ctx, cluster, client.SaveRequest{Service: service, Stores: o.stores, Online: true, Progress: meter.of("")})
	if err != nil {
		return nil, err
	}
	file, err := newSavedFile(saved)
	return []savedFile{file}, err
}
