package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/wholefile"
	"github.com/perdure/perdure/store/statefile"
)

// saveOptions is what `cluster save` was asked.
type saveOptions struct {
	services []string
	stores   []string
	output   string
	online   bool // the cluster goes on
	all      bool // every cluster of the realm
}

// flags declares what both commands that save take; service says what --service is.
func (o *saveOptions) flags(cmd *cobra.Command, service string) {
	cmd.Flags().StringArrayVar(&o.services, "service", nil, service)
	cmd.Flags().StringArrayVar(&o.stores, "store", nil, "only this store; repeatable (default every store)")
	cmd.Flags().StringVar(&o.output, "output", "", "write the file here, on this machine")
	cmd.Flags().BoolVar(&o.all, "all", false, "every cluster of the realm, one after the other")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "unknown argument %q; one NAME is enough", args[1])
		}
		return nil
	}
}

// check refuses what cannot be meant.
func (o *saveOptions) check(p *program, cmd *cobra.Command, args []string) error {
	switch {
	case o.all == (len(args) == 1):
		return usagef(cmd, "give the NAME of a cluster, or --all%s", p.fromItsVariable(cmd, "all"))
	case o.output == "" && cmd.Flags().Changed("output"):
		return usagef(cmd, "--output is empty: give the name of a file, or leave it out")
	case o.all && (o.output != "" || len(o.services)+len(o.stores) > 0):
		return usagef(cmd, "--all is without --output, --service and --store: they are of one cluster")
	case o.output != "" && len(o.services) > 1:
		return usagef(cmd, "--output takes the file of one service, %d are named", len(o.services))
	}
	return nil
}

// runSave completes a command that saves. save is called for a cluster whose files
// stay where they are.
func (p *program) runSave(cmd *cobra.Command, o *saveOptions, save func(context.Context, *client.Client, string, *saveOptions) ([]savedFile, error)) {
	cmd.ValidArgsFunction = p.completeCluster
	conn := connectionFlags(cmd)
	format := printFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(conn.check(cmd), o.check(p, cmd, args)); err != nil {
			return err
		}
		view := savedView{Files: []savedFile{}}
		if !o.all {
			view.Cluster = args[0]
		}
		err := conn.long(cmd.Context(), "cluster "+cmd.Name(), func(ctx context.Context, c *client.Client) (err error) {
			switch {
			case o.all:
				view.Files, err = saveEach(ctx, c, func(name string) ([]savedFile, error) { return save(ctx, c, name, o) })
			case o.output != "":
				view.Files, err = p.saveHere(ctx, c, args[0], o)
			default:
				view.Files, err = save(ctx, c, args[0], o)
			}
			return err
		})
		if len(view.Files) == 0 && err != nil {
			return err
		}
		return errors.Join(err, p.printSaved(view, *format))
	}
}

// saveEach saves every cluster of the realm. One that fails keeps no other from it.
func saveEach(ctx context.Context, c *client.Client, save func(name string) ([]savedFile, error)) ([]savedFile, error) {
	names, err := realmNames(ctx, c, clusterNames)
	if err != nil {
		return nil, err
	}
	files := []savedFile{}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			break // the last one says so
		}
		saved, err := save(name)
		for _, f := range saved {
			f.Cluster = name
			files = append(files, f)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: %w", name, err))
		}
	}
	return files, errors.Join(errs...)
}

func (p *program) clusterSaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "save {NAME | --all}",
		Short: "Write what a suspended cluster has into files",
		Long: "Each service of the cluster, or of those that --service names, writes a file into the state\n" +
			"directory of its server: CLUSTER.SERVICE.state, whole or not at all. The file that was there\n" +
			"before becomes .backup. With --output one file comes here instead, from the leader, or from the\n" +
			"service that is named. The cluster must be suspended; with --all every one. See perdure state for\n" +
			"looking into files.",
		Example: "  perdure cluster suspend main\n" +
			"  perdure cluster save main\n" +
			"  perdure cluster save --all\n" +
			"  perdure cluster save main --output main.state\n" +
			"  perdure cluster save main --store default --output default.state -o json",
	}
	var o saveOptions
	o.flags(cmd, "only this service; repeatable (default every service)")
	p.runSave(cmd, &o, p.saveThere)
	return cmd
}

// savedView is what `cluster save -o json` prints.
type savedView struct {
	Cluster string      `json:"cluster"` // empty: every cluster
	Files   []savedFile `json:"files"`
}

type savedFile struct {
	Cluster   string `json:"cluster,omitempty"` // where the view has none
	Server    string `json:"server"`
	Service   string `json:"service"`
	File      string `json:"file"`
	Bytes     uint64 `json:"file_bytes"`
	SHA256    string `json:"sha256"`
	Applied   uint64 `json:"applied"`
	StateHash string `json:"state_hash"`
	Stores    int    `json:"stores"`
	Messages  uint64 `json:"messages"`
	Pending   uint64 `json:"pending"`
}

func newSavedFile(s *client.SavedState) (savedFile, error) {
	var m statefile.Manifest
	if err := json.Unmarshal(s.Manifest, &m); err != nil {
		return savedFile{}, fmt.Errorf("the manifest that server %s sent: %w", s.Server, err)
	}
	_, messages, _, pending := m.Totals()
	return savedFile{
		Server: s.Server, Service: s.Service, File: s.File, Bytes: s.Bytes, SHA256: hex.EncodeToString(s.SHA256),
		Applied: m.Applied, StateHash: m.StateHash, Stores: len(m.Stores), Messages: messages, Pending: pending,
	}, nil
}

// saveHere has one service's file sent.
func (p *program) saveHere(ctx context.Context, c *client.Client, cluster string, o *saveOptions) (files []savedFile, err error) {
	dir, err := os.OpenRoot(filepath.Dir(o.output))
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	defer dir.Close() // nothing is written through it
	f, err := wholefile.Create(dir, filepath.Base(o.output))
	if err != nil {
		return nil, fmt.Errorf("--output %s: %w", o.output, err)
	}
	defer func() {
		if e := f.Discard(); e != nil && err == nil { // does nothing once it is committed
			err = e
		}
	}()
	meter := p.newStateMeter("saved")
	defer meter.end()
	request := client.SaveRequest{
		Stores: o.stores, Online: o.online, Progress: meter.of(""),
		Out: func() (io.Writer, error) { return f, f.Restart() },
	}
	if len(o.services) > 0 {
		request.Service = o.services[0]
	}
	saved, err := c.Admin().SaveCluster(ctx, cluster, request)
	if err != nil {
		return nil, err
	}
	if uint64(f.Size()) != saved.Bytes {
		return nil, fmt.Errorf("%d bytes came, the server sent %d", f.Size(), saved.Bytes)
	}
	if err := f.Commit(); err != nil {
		return nil, fmt.Errorf("--output %s: %w", o.output, err)
	}
	file, err := newSavedFile(saved)
	file.File = o.output
	return []savedFile{file}, err
}

// agreeTries is how often services are saved until their files agree.
const agreeTries = 5

// saveThere has services write their files where they are, until all of them hold the
// same. While the cluster is suspended little changes what it has: a publisher that
// comes, and a subscriber that goes. Files that differ because of that are written
// again.
func (p *program) saveThere(ctx context.Context, c *client.Client, cluster string, o *saveOptions) (files []savedFile, err error) {
	for range agreeTries {
		if files, err = p.saveEach(ctx, c, cluster, o); err != nil || agreed(files) {
			return files, err
		}
	}
	return files, failuref("UNAVAILABLE", "the files of cluster %s are not of one state, %d times: publishers come or subscribers go all the time; stop them, and save again", cluster, agreeTries)
}

// agreed reports whether files hold the same.
func agreed(files []savedFile) bool {
	return !slices.ContainsFunc(files, func(f savedFile) bool { return f.StateHash != files[0].StateHash })
}

// saveEach has services write their files: first the leader, which knows when
// everything that was delivered is settled, then the others, at its entry or a later
// one.
func (p *program) saveEach(ctx context.Context, c *client.Client, cluster string, o *saveOptions) ([]savedFile, error) {
	names, leader, applied, err := chosenServices(ctx, c, cluster, o.services)
	if err != nil {
		return nil, err
	}
	meter := p.newStateMeter("saved")
	defer meter.end()
	files, errs := make([]savedFile, len(names)), make([]error, len(names))
	save := func(i int) {
		saved, err := c.Admin().SaveCluster(ctx, cluster, client.SaveRequest{Service: names[i], Stores: o.stores, Applied: applied, Progress: meter.of(names[i])})
		if err == nil {
			files[i], err = newSavedFile(saved)
		}
		if err != nil {
			errs[i] = fmt.Errorf("service %s: %w", names[i], err)
		}
	}
	if leader >= 0 {
		if save(leader); errs[leader] != nil {
			return nil, errs[leader]
		}
		applied = max(applied, files[leader].Applied)
	}
	var wg sync.WaitGroup
	for i := range names {
		if i != leader {
			wg.Go(func() { save(i) })
		}
	}
	wg.Wait()
	done := []savedFile{}
	for i, f := range files {
		if errs[i] == nil {
			done = append(done, f)
		}
	}
	return done, errors.Join(errs...)
}

// chosenServices returns the services of a cluster that were named, all if none
// was, which of them leads (-1: none), and how far the cluster is.
func chosenServices(ctx context.Context, c *client.Client, cluster string, chosen []string) (names []string, leader int, applied uint64, err error) {
	status, err := clusterStatusOf(ctx, c, cluster)
	if err != nil {
		return nil, 0, 0, err
	}
	leader = -1
	for _, s := range status.Services {
		applied = max(applied, s.Applied)
		if len(chosen) > 0 && !slices.Contains(chosen, s.Name) {
			continue
		}
		if s.State == "leader" {
			leader = len(names)
		}
		names = append(names, s.Name)
	}
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return nil, 0, 0, failuref("INVALID_ARGUMENT", "cluster %s has no service %q", cluster, name)
		}
	}
	return names, leader, applied, nil
}

// clusterStatusOf finds a cluster's status.
func clusterStatusOf(ctx context.Context, c *client.Client, cluster string) (*client.ClusterStatus, error) {
	status, err := c.Admin().Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range status.Clusters {
		if status.Clusters[i].Name == cluster {
			return &status.Clusters[i], nil
		}
	}
	return nil, failuref("NO_SUCH_CLUSTER", "no cluster %q in the realm's revision %d", cluster, status.Revision)
}

func (p *program) printSaved(v savedView, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, v)
	}
	var text bytes.Buffer
	header := []string{"server", "service", "file", "size", "messages", "pending", "applied", "state hash"}
	if v.Cluster == "" {
		header = slices.Insert(header, 0, "cluster")
	}
	var rows [][]any
	for _, f := range v.Files {
		row := []any{cell(f.Server), cell(f.Service), f.File, bytesText(f.Bytes), grouped(f.Messages), grouped(f.Pending), grouped(f.Applied), f.StateHash[:min(16, len(f.StateHash))]}
		if v.Cluster == "" {
			row = slices.Insert(row, 0, any(cell(f.Cluster)))
		}
		rows = append(rows, row)
	}
	printTable(&text, header, rows)
	_, err := p.stdout.Write(text.Bytes())
	return err
}
