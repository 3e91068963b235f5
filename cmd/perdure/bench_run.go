package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/client"
)

// benchPoint is one load and the servers that it wants.
type benchPoint struct {
	load       bench.Load
	durability string
	servers    int
}

// points returns one load for each combination of values.
func (o *benchOptions) points() []benchPoint {
	points := []benchPoint{{load: o.load}}
	points = spread(points, o.servers, func(p *benchPoint, n int) { p.servers = n })
	points = spread(points, o.durability, func(p *benchPoint, d string) { p.durability = d })
	points = spread(points, o.sizes, func(p *benchPoint, n int) { p.load.Size = n })
	points = spread(points, o.publishers, func(p *benchPoint, n int) { p.load.Publishers = n })
	points = spread(points, o.workers, func(p *benchPoint, n int) { p.load.Workers = n })
	points = spread(points, o.durables, func(p *benchPoint, n int) { p.load.Durables = n })
	points = spread(points, o.matchers, func(p *benchPoint, n int) { p.load.Matchers = n })
	points = spread(points, o.clusters, func(p *benchPoint, n int) { p.load.Clusters = n })
	return spread(points, o.backlogs, func(p *benchPoint, n int) { p.load.Backlog = n })
}

// spread takes each point once for each value; no values change nothing.
func spread[T any](points []benchPoint, values []T, set func(*benchPoint, T)) []benchPoint {
	if len(values) == 0 {
		return points
	}
	var all []benchPoint
	for _, p := range points {
		for _, v := range values {
			q := p
			set(&q, v)
			all = append(all, q)
		}
	}
	return all
}

// bench runs all loads, in turns, and prints what they measured.
func (p *program) bench(cmd *cobra.Command, o *benchOptions) (err error) {
	points := o.points()
	if o.connect != "" {
		var t *benchTarget
		if t, err = p.benchTargetOf(cmd, o, points); err != nil {
			return err
		}
		defer func() { p.tellLeft(cmd.Context(), o, t, points, err != nil) }()
	}
	results := make([][]*bench.Figures, len(points))
	for run := range o.runs {
		for i, pt := range points {
			title := o.scenario
			if o.runs > 1 {
				title += fmt.Sprintf(", run %d of %d", run+1, o.runs)
			}
			if len(points) > 1 {
				title += fmt.Sprintf(", load %d of %d", i+1, len(points))
			}
			f, err := p.benchOnce(cmd.Context(), o, pt, title)
			if err != nil {
				return err
			}
			results[i] = append(results[i], f)
		}
	}
	version := readVersion()
	var list []*bench.Summary
	for _, figures := range results {
		list = append(list, bench.Summarize(version.Version+" ("+version.Revision+")", figures))
	}
	if err := o.writeFiles(list); err != nil {
		return err
	}
	return p.printBench(o, list)
}

// benchOnce runs one load, on servers of its own unless there are some.
func (p *program) benchOnce(ctx context.Context, o *benchOptions, pt benchPoint, title string) (f *bench.Figures, err error) {
	addresses := o.connect
	if addresses == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		realm := pt.load.Realm(pt.durability, pt.servers)
		servers, err := bench.StartServers(ctx, self, pt.servers, pt.durability, bench.ServerOptions{
			Dir: o.dir, Realm: realm.Document(), Environ: p.environ,
		})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, servers.Stop()) }()
		addresses, pt.load.Usage, pt.load.Servers = servers.Addresses(), servers.Usage, servers
	}
	pt.load.Connect = func(ctx context.Context, name string) (*client.Client, error) {
		return client.Connect(ctx, addresses, client.WithName(name),
			client.WithConnectTimeout(o.timeout), client.WithRetry(o.timeout))
	}
	if isTerminal(p.stderr) {
		pt.load.Progress = func(now bench.Progress) { showProgress(p.stderr, title, now) }
		defer fmt.Fprint(p.stderr, clearLine)
	}
	return bench.Run(ctx, pt.load)
}

// clearLine takes back what stands on the line of a terminal.
const clearLine = "\r\x1b[K"

// showProgress writes over the line before.
func showProgress(w io.Writer, title string, now bench.Progress) {
	fmt.Fprintf(w, "%s%s: %s %s", clearLine, title, now.Phase, now.Elapsed.Round(time.Second))
	if now.Messages > 0 {
		fmt.Fprintf(w, ", %s messages, %s/s", grouped(now.Messages), grouped(int64(now.MsgsPerSec)))
	}
}

// writeFiles writes --hgrm and --report.
func (o *benchOptions) writeFiles(list []*bench.Summary) error {
	if o.hgrm != "" {
		s := list[0]
		if s.Times != nil {
			if err := writeTo(o.hgrm, func(w io.Writer) error { return bench.WriteHGRM(w, s.Times) }); err != nil {
				return err
			}
		}
		if s.ReceiveTimes != nil {
			end := filepath.Ext(o.hgrm)
			name := strings.TrimSuffix(o.hgrm, end) + "-receive" + end
			if err := writeTo(name, func(w io.Writer) error { return bench.WriteHGRM(w, s.ReceiveTimes) }); err != nil {
				return err
			}
		}
	}
	if o.report != "" {
		return writeTo(o.report, func(w io.Writer) error { return bench.WriteReport(w, list, time.Now()) })
	}
	return nil
}

// writeTo writes a file.
func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
