package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/wholefile"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/store/statefile"
)

func (p *program) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup --all DIR",
		Short: "Copy the realm definition and what every cluster has",
		Long: "Writes the realm definition, and a state file of each cluster as its leader has it at one\n" +
			"entry of its log, into DIR, which must be new or empty, or hold a backup that was not\n" +
			"completed. Clients go on meanwhile. The list of the files with their sums is written last:\n" +
			"without it, DIR is no backup. perdure restore takes it.",
		Example: "  perdure backup --all /backups/2026-11-22\n" +
			"  perdure backup --all /backups/2026-11-22 -o json",
		Args: oneArg("DIR"),
	}
	all := cmd.Flags().Bool("all", false, "the realm and every cluster")
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*all {
			return usagef(cmd, "give --all; perdure cluster backup NAME copies one cluster")
		}
		if err := conn.check(cmd); err != nil {
			return err
		}
		dir, err := newSetDir(args[0])
		if err != nil {
			return err
		}
		defer dir.Close() // what was written to it is synced
		var set *backupSet
		if err := conn.long(cmd.Context(), "backup", func(ctx context.Context, c *client.Client) (err error) {
			set, err = p.backUp(ctx, c, dir)
			return err
		}); err != nil {
			return err
		}
		return p.printSet("backed up", args[0], set, nil, *output)
	}
	return cmd
}

// newSetDir makes the directory of a backup, or opens one that has none.
func newSetDir(path string) (*os.Root, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("backup: %w", err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	entries, err := fs.ReadDir(dir.FS(), ".")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	switch {
	case err != nil:
		err = fmt.Errorf("backup: %w", err)
	case slices.Contains(names, setList):
		err = failuref(reasonFailed, "%s holds a backup; give another directory", path)
	case len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return n == setRealm || n == "."+setRealm+".new" || n == "."+setList+".new" }):
		err = failuref(reasonFailed, "%s holds something else (%s); give a new directory", path, names[0])
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// backUp writes a backup of everything into dir. Its list is begun first, so that nobody
// else writes there meanwhile, and ended last.
func (p *program) backUp(ctx context.Context, c *client.Client, dir *os.Root) (set *backupSet, err error) {
	list, err := wholefile.Create(dir, setList)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", setList, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, list.Discard())
		}
	}()
	if _, err := dir.Lstat(setList); err == nil {
		return nil, failuref(reasonFailed, "%s holds a backup, which another command has just made", dir.Name())
	}
	err = steady(func() (uint64, error) {
		last := set
		set, err = p.copyAll(ctx, c, dir)
		if last != nil && set != nil {
			err = errors.Join(err, set.removeOthers(dir, last))
		}
		if set == nil {
			return 0, err
		}
		return set.Revision, err
	}, func() (uint64, error) {
		found, err := c.Admin().GetRealm(ctx, 0)
		if err != nil {
			return 0, err
		}
		return found.Revision, nil
	})
	if err != nil {
		return nil, err
	}
	text, err := set.encode()
	if err == nil {
		_, err = list.Write(text)
	}
	if err == nil {
		err = list.Commit()
	}
	return set, err
}

// steadyTries is how often a backup is begun because the definition has changed.
const steadyTries = 5

// steady calls do until the realm has the same revision when that is done as it said
// that it began with: what was copied by another definition could not be restored. An
// error of do counts only then, since the cluster that it names may be gone.
func steady(do, revision func() (uint64, error)) error {
	for range steadyTries {
		began, err := do()
		if began == 0 && err != nil {
			return err
		}
		ended, failed := revision()
		switch {
		case failed != nil:
			return errors.Join(err, failed)
		case ended == began:
			return err
		}
	}
	return failuref(reasonFailed, "somebody applied another realm definition each of the %d times that the backup was begun: repeat it when nobody does", steadyTries)
}

// removeOthers removes the files of clusters that an earlier try wrote, and this did not.
func (s *backupSet) removeOthers(dir *os.Root, last *backupSet) error {
	for _, old := range last.Clusters {
		if slices.ContainsFunc(s.Clusters, func(c backupCluster) bool { return c.setFile.Name == old.setFile.Name }) {
			continue
		}
		if err := dir.Remove(old.setFile.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("backup: %w", err)
		}
	}
	return nil
}

// copyAll writes the definition and every cluster. With an error it returns what it began
// with, if it came so far.
func (p *program) copyAll(ctx context.Context, c *client.Client, dir *os.Root) (*backupSet, error) {
	found, err := c.Admin().GetRealm(ctx, 0)
	if err != nil {
		return nil, err
	}
	r, err := realm.Parse(setRealm, found.Document)
	if err != nil {
		return nil, err
	}
	set := &backupSet{Format: setFormat, Version: readVersion().Version, Made: time.Now().UTC().Truncate(time.Second), Realm: r.Name, Revision: found.Revision}
	if set.File, err = writeSetFile(dir, setRealm, content(found.Document)); err != nil {
		return nil, err
	}
	names := clusterNames(r)
	files := clusterFiles(names)
	for i, name := range names {
		b := backupCluster{Name: name}
		if b.setFile, err = writeSetFile(dir, files[i], func(f *wholefile.File, sum hash.Hash) error { return p.saveInto(ctx, c, &b, f, sum) }); err != nil {
			return set, fmt.Errorf("cluster %s: %w", name, err)
		}
		set.Clusters = append(set.Clusters, b)
	}
	return set, nil
}

// writeSetFile writes a file of a backup, whole or not at all. What an earlier try has
// left is of no use any more.
func writeSetFile(dir *os.Root, name string, write func(*wholefile.File, hash.Hash) error) (setFile, error) {
	if err := dir.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return setFile{}, fmt.Errorf("backup: %w", err)
	}
	f, err := wholefile.Create(dir, name)
	if err != nil {
		return setFile{}, fmt.Errorf("backup: %s: %w", name, err)
	}
	sum := sha256.New()
	if err := write(f, sum); err != nil {
		return setFile{}, errors.Join(err, f.Discard())
	}
	if err := f.Commit(); err != nil {
		return setFile{}, fmt.Errorf("backup: %s: %w", name, err)
	}
	return setFile{Name: name, Bytes: uint64(f.Size()), SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// content writes a file that is in memory.
func content(b []byte) func(*wholefile.File, hash.Hash) error {
	return func(f *wholefile.File, sum hash.Hash) error {
		_, err := io.MultiWriter(f, sum).Write(b)
		return err
	}
}

// saveInto saves a cluster that goes on into out, and notes in b what that was.
func (p *program) saveInto(ctx context.Context, c *client.Client, b *backupCluster, f *wholefile.File, sum hash.Hash) error {
	meter := p.newStateMeter("saved")
	defer meter.end()
	saved, err := c.Admin().SaveCluster(ctx, b.Name, client.SaveRequest{
		Online: true, Progress: meter.of(b.Name),
		Out: func() (io.Writer, error) {
			sum.Reset()
			return io.MultiWriter(f, sum), f.Restart()
		},
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(saved.SHA256, sum.Sum(nil)) {
		return failuref(reasonFailed, "what came is not what the server sent: the sums differ")
	}
	var m statefile.Manifest
	if err := json.Unmarshal(saved.Manifest, &m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	_, b.Messages, _, _ = m.Totals()
	b.Applied, b.StateHash = m.Applied, m.StateHash
	return nil
}

// setDone is what `backup -o json` and `restore -o json` print.
type setDone struct {
	Dir string `json:"dir"`
	*backupSet
	Left []string `json:"left_as_is,omitempty"`
}

// printSet prints what was backed up or restored, and which clusters were not.
func (p *program) printSet(what, dir string, set *backupSet, left []string, output format) error {
	if output == formatJSON {
		return p.writeJSON(p.stdout, setDone{dir, set, left})
	}
	var rows [][]any
	for _, c := range set.Clusters {
		rows = append(rows, []any{c.Name, c.setFile.Name, bytesText(c.Bytes), grouped(c.Messages), grouped(c.Applied), c.StateHash[:min(16, len(c.StateHash))]})
	}
	var text bytes.Buffer
	if len(rows) > 0 {
		printTable(&text, []string{"cluster", "file", "size", "messages", "entry", "state hash"}, rows)
	}
	for _, name := range left {
		fmt.Fprintf(&text, "cluster %s: was %s before and has gone on since; it is left as it is\n", cell(name), what)
	}
	if done := len(set.Clusters) - len(left); done > 0 || len(left) == 0 {
		fmt.Fprintf(&text, "%s: realm %s, revision %d, and %s: %s\n", dir, cell(set.Realm), set.Revision, countOf(done, "cluster"), what)
	} else {
		fmt.Fprintf(&text, "%s: nothing is %s\n", dir, what)
	}
	_, err := p.stdout.Write(text.Bytes())
	return err
}
