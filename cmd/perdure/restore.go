package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

func (p *program) restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Bring back what perdure backup --all has copied",
		Long: "Checks every file of DIR, applies its realm definition to servers that have none, loads the\n" +
			"clusters and lets them go on when all are loaded. Servers that have another definition, and\n" +
			"clusters that have been used, are refused, and nothing is changed. After a failure the same\n" +
			"command goes on where it was interrupted. What somebody has suspended since stays so.",
		Example: "  perdure restore /backups/2026-11-22\n" +
			"  perdure restore /backups/2026-11-22 -o json",
		Args: oneArg("DIR"),
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		dir, err := os.OpenRoot(args[0])
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		defer dir.Close() // it was only read
		set, err := readSet(dir)
		if err != nil {
			return err
		}
		r := &restoration{p: p, dir: dir, set: set}
		if err := r.check(cmd.Context()); err != nil {
			return err
		}
		if err := conn.long(cmd.Context(), "restore", func(ctx context.Context, c *client.Client) error {
			r.client = c
			return r.run(ctx)
		}); err != nil {
			return err
		}
		return p.printSet("restored", args[0], set, r.left, *output)
	}
	return cmd
}

// restoration is a backup on its way back.
type restoration struct {
	p      *program
	dir    *os.Root
	set    *backupSet
	client *client.Client

	document []byte
	realm    *realm.Realm
	left     []string // clusters that have gone on since an earlier restoration
}

// check reads every file to its end, before anything is changed.
func (r *restoration) check(ctx context.Context) error {
	var err error
	if err = r.each(ctx, &r.set.File, func(in io.Reader) (err error) {
		r.document, err = io.ReadAll(io.LimitReader(in, realm.MaxDocument+1))
		if err == nil {
			err = r.set.File.check(bytes.NewReader(r.document), func(int) {})
		}
		return err
	}); err != nil {
		return err
	}
	if r.realm, err = realm.Parse(r.set.File.Name, r.document); err != nil {
		return err
	}
	names := clusterNames(r.realm)
	for i := range r.set.Clusters {
		c := &r.set.Clusters[i]
		if !slices.Contains(names, c.Name) {
			return failuref(reasonFailed, "%s lists cluster %s, which its realm definition does not have", setList, c.Name)
		}
		if err := r.each(ctx, &c.setFile, func(in io.Reader) error { return c.check(in, func(int) {}) }); err != nil {
			return err
		}
	}
	if len(names) != len(r.set.Clusters) {
		return failuref(reasonFailed, "%s lists %s, the realm definition has %d", setList, countOf(len(r.set.Clusters), "cluster"), len(names))
	}
	return nil
}

// each opens a file of the backup.
func (r *restoration) each(ctx context.Context, f *setFile, do func(io.Reader) error) error {
	in, err := r.dir.Open(f.Name)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return errors.Join(do(watched{ctx, in}), in.Close())
}

func (r *restoration) run(ctx context.Context) error {
	if err := r.define(ctx); err != nil {
		return err
	}
	used, err := r.used(ctx)
	if err != nil {
		return err
	}
	for i := range r.set.Clusters {
		if c := &r.set.Clusters[i]; used[c.Name] {
			if _, err := r.load(ctx, c, true); err != nil {
				return fmt.Errorf("cluster %s, nothing is loaded: %w", c.Name, r.overLive(err, c))
			}
		}
	}
	for i := range r.set.Clusters {
		c := &r.set.Clusters[i]
		loaded, err := r.load(ctx, c, false)
		if err != nil {
			return fmt.Errorf("cluster %s; repeat the command to go on: %w", c.Name, err)
		}
		if loaded.Resumed { // whoever has suspended it again resumes it
			r.left = append(r.left, c.Name)
		}
	}
	for _, c := range r.set.Clusters {
		if slices.Contains(r.left, c.Name) {
			continue
		}
		if err := r.client.Admin().ResumeCluster(ctx, c.Name); err != nil {
			return fmt.Errorf("cluster %s is loaded and not resumed; repeat the command: %w", c.Name, err)
		}
	}
	return nil
}

// overLive says what to do where a cluster has been used: this command has nothing
// put in the place of live data.
func (r *restoration) overLive(err error, c *backupCluster) error {
	if !errors.Is(err, client.ErrNotEmpty) && !errors.Is(err, client.ErrNotSuspended) {
		return err
	}
	file := filepath.Join(r.dir.Name(), c.setFile.Name)
	return failuref("NOT_EMPTY", "it has been used, and nothing is restored over live data: restore to servers that have none, or replace it with perdure cluster suspend %[1]s and perdure cluster load %[1]s %[2]s --replace", word(c.Name), word(file))
}

// define makes the definition the realm's, if it has none.
func (r *restoration) define(ctx context.Context) error {
	plan, err := r.client.Admin().PlanRealm(ctx, r.document, r.set.File.Name)
	switch {
	case err != nil:
		return err
	case plan.Revision == 0:
		_, err := r.client.Admin().ApplyRealm(ctx, r.document, r.set.File.Name, client.IfRevision(0))
		return err
	case len(plan.Changes) > 0:
		c := plan.Changes[0]
		return failuref(reasonDifferent, "the realm has another definition than the backup (%s of them, the first: %s %s): restore to servers that have none, or apply %s first",
			countOf(len(plan.Changes), "change"), c.Action, c.Path, r.set.File.Name)
	}
	return nil
}

// used says which clusters have been used.
func (r *restoration) used(ctx context.Context) (map[string]bool, error) {
	s, err := r.client.Admin().Status(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, c := range s.Clusters {
		defined := r.realm.Cluster(c.Name)
		for _, st := range c.Stores {
			d := defined.Store(st.Name)
			if st.LastID != 0 || d == nil || len(st.Durables) > len(d.Durables) {
				used[c.Name] = true
			}
		}
	}
	return used, nil
}

// load loads a cluster, or finds out whether that can be. One that this backup was
// loaded into before is left as it is, and refused if it was used since.
func (r *restoration) load(ctx context.Context, c *backupCluster, dry bool) (*client.LoadedState, error) {
	meter := r.p.newStateMeter("checked")
	defer meter.end()
	loaded, err := r.client.Admin().LoadCluster(ctx, c.Name, client.LoadRequest{
		DryRun: dry, Load: c.loadID(), Progress: meter.of(c.Name),
		Open: func() (io.ReadCloser, error) {
			f, err := r.dir.Open(c.setFile.Name)
			if err != nil {
				return nil, err
			}
			return f, nil
		},
	})
	if err == nil && loaded.StateHash != c.StateHash {
		err = failuref(reasonDifferent, "%s has state hash %s, %s lists %s", c.setFile.Name, loaded.StateHash, setList, c.StateHash)
	}
	return loaded, err
}
