package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

func (p *program) clusterBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup {NAME | --all}",
		Short: "Copy what a cluster has while it goes on",
		Long: "The leader, or each service that --service names, writes a file of what it has at one entry of\n" +
			"the cluster's log. Clients go on meanwhile, and it takes a quarter of one processor at most. The\n" +
			"file goes into the state directory of the server as CLUSTER.SERVICE.state, where the one that\n" +
			"was there becomes .backup; with --output it comes here instead. See perdure cluster restore.\n" +
			"With --all every cluster, each as it is when its turn comes; perdure backup --all copies the\n" +
			"realm definition as well, and has everything come here.",
		Example: "  perdure cluster backup main\n" +
			"  perdure cluster backup --all\n" +
			"  perdure cluster backup main --output main.state\n" +
			"  perdure cluster backup main --store default --output default.state -o json",
	}
	o := saveOptions{online: true}
	o.flags(cmd, "the service that writes it; repeatable (default the leader)")
	p.runSave(cmd, &o, p.backUpThere)
	return cmd
}

// backUpThere has the leader, or services, write files where they are.
func (p *program) backUpThere(ctx context.Context, c *client.Client, cluster string, o *saveOptions) ([]savedFile, error) {
	services := o.services
	if len(services) == 0 {
		services = []string{""} // the leader
	}
	meter := p.newStateMeter("saved")
	defer meter.end()
	files := []savedFile{}
	var errs []error
	for _, service := range services {
		saved, err := c.Admin().SaveCluster(ctx, cluster, client.SaveRequest{Service: service, Stores: o.stores, Online: true, Progress: meter.of(service)})
		if err == nil {
			var file savedFile
			file, err = newSavedFile(saved)
			files = append(files, file)
		}
		if err != nil && service != "" {
			err = fmt.Errorf("service %s: %w", service, err)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return files, errors.Join(errs...)
}
