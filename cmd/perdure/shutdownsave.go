package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/client"
)

// saveServers suspends every cluster that has a service on one of the servers, and
// saves these services there. If it fails it resumes what it has suspended.
func (p *program) saveServers(ctx context.Context, c *client.Client, status *client.Status, servers []client.ServerStatus) (saved []savedView, err error) {
	var suspended []string
	defer func() {
		if err != nil {
			err = errors.Join(err, resumeAgain(ctx, c, suspended))
		}
	}()
	type part struct {
		cluster  string
		services []string
	}
	var parts []part
	for i := range status.Clusters {
		cluster := &status.Clusters[i]
		services, err := servicesOn(cluster, servers)
		if err != nil {
			return nil, err
		}
		if len(services) == 0 {
			continue
		}
		parts = append(parts, part{cluster.Name, services})
		if !cluster.Suspended {
			suspended = append(suspended, cluster.Name)
		}
		if _, err := c.Admin().SuspendCluster(ctx, cluster.Name); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", cluster.Name, err)
		}
	}
	// Everything is suspended before the first is saved: what is saved is of one time,
	// as far as there is one.
	for _, one := range parts {
		files, err := p.saveThere(ctx, c, one.cluster, &saveOptions{services: one.services})
		if err != nil {
			return nil, fmt.Errorf("cluster %s was not saved, and no server is stopped: %w", one.cluster, err)
		}
		saved = append(saved, savedView{Cluster: one.cluster, Files: files})
	}
	return saved, nil
}

// servicesOn returns the services of a cluster that are on servers. One that does
// not run cannot be saved.
func servicesOn(cluster *client.ClusterStatus, servers []client.ServerStatus) (names []string, err error) {
	for _, s := range cluster.Services {
		if !slices.ContainsFunc(servers, func(server client.ServerStatus) bool { return server.Name == s.Server }) {
			continue
		}
		switch s.State {
		case "leader", "follower", "candidate":
			names = append(names, s.Name)
		default:
			return nil, failuref("UNAVAILABLE", "cluster %s cannot be saved, and no server is stopped: service %s on server %s is %s", cluster.Name, s.Name, s.Server, s.State)
		}
	}
	return names, nil
}

// undoPatience is how long it is tried to resume clusters after a failure.
const undoPatience = 10 * time.Second

// resumeAgain resumes the clusters that were suspended to be saved, also where ctx
// has ended.
func resumeAgain(ctx context.Context, c *client.Client, clusters []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	var errs []error
	for _, name := range clusters {
		if err := c.Admin().ResumeCluster(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("cluster %s may still be suspended; perdure cluster resume %s: %w", name, name, err))
		}
	}
	return errors.Join(errs...)
}
