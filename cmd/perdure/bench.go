package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/client"
)

// benchOptions are the flags of `perdure bench publish`.
type benchOptions struct {
	load       bench.Load
	durability string
	connect    string
	timeout    time.Duration
	dir        string
}

func (p *program) benchCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:     "bench",
		Short:   "Measure how fast a cluster is",
		Example: "  perdure bench publish",
	})
	cmd.AddCommand(p.benchPublishCommand())
	return cmd
}

func (p *program) benchPublishCommand() *cobra.Command {
	o := benchOptions{load: bench.Load{Scenario: "publish"}}
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Publish equal messages as fast as they are confirmed",
		Long: "Starts three servers on this machine with a store that one durable keeps, publishes, and\n" +
			"prints messages a second, the time from call to confirmation, and the processor time of all\n" +
			"servers for a million messages. With --connect it uses an endpoint of a running cluster, and\n" +
			"knows nothing of its processor time. PERDURE_CONNECT, which other commands read, is not\n" +
			"meant for it.\n\n" +
			"Before the clock runs it publishes 5 % of --count, at least one message, to warm up: a running\n" +
			"cluster stores these, too.\n\n" +
			"A window is what a publisher has sent and not yet seen confirmed.",
		Example: "  perdure bench publish\n" +
			"  perdure bench publish --durability async --size 128 --count 2000000 -o json\n" +
			"  perdure bench publish --sync --count 5000\n" +
			"  perdure bench publish --connect 127.0.0.1:7400 --endpoint default",
		Args: noArgs,
	}
	output := outputFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&o.load.Size, "size", 128, "bytes of a body")
	f.IntVar(&o.load.Count, "count", 1_000_000, "messages that are measured; 5 % more warm up")
	f.IntVar(&o.load.Publishers, "publishers", 1, "publishers, each with a connection")
	f.IntVar(&o.load.Window, "window", client.DefaultWindowBatches, "batches of a publisher in its window")
	f.IntVar(&o.load.Batch, "batch", client.DefaultBatchTarget, "bytes at which a batch is sent")
	f.BoolVar(&o.load.Sync, "sync", false, "wait for each message before the next")
	f.StringVar(&o.durability, "durability", "async", "of the store: memory, async or sync")
	f.StringVar(&o.connect, "connect", "", "addresses of servers of a running cluster")
	f.StringVar(&o.load.Endpoint, "endpoint", "bench", "endpoint of the running cluster")
	f.StringVar(&o.dir, "data", "", "where to put the servers' files; the system's temporary directory unless given")
	timeoutFlag(cmd, &o.timeout)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"memory", "async", "sync"}, o.durability) {
			return usagef(cmd, "--durability %q: it must be memory, async or sync", o.durability)
		}
		if o.connect == "" && cmd.Flags().Changed("endpoint") {
			return usagef(cmd, "--endpoint goes with --connect")
		}
		if err := checkAddresses(cmd, o.connect); err != nil {
			return err
		}
		if err := o.load.Validate(); err != nil {
			return usagef(cmd, "%w", err)
		}
		r, err := p.bench(cmd.Context(), o)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return p.writeJSON(p.stdout, r)
		}
		p.printBench(r)
		return nil
	}
	return cmd
}

// bench runs the load, on servers of its own unless there are some.
func (p *program) bench(ctx context.Context, o benchOptions) (f *bench.Figures, err error) {
	o.load.Connect = func(ctx context.Context, name string) (*client.Client, error) {
		return client.Connect(ctx, o.connect, client.WithName(name),
			client.WithConnectTimeout(o.timeout), client.WithRetry(o.timeout))
	}
	if o.connect == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		servers, err := bench.StartServers(ctx, self, 3, o.durability, bench.ServerOptions{Dir: o.dir})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, servers.Stop()) }()
		o.load.Connect, o.load.Usage, o.load.Servers = servers.Connect, servers.Usage, servers
	}
	if isTerminal(p.stderr) {
		fmt.Fprintf(p.stderr, "perdure: publishing %s messages of %d bytes\n", grouped(o.load.Count), o.load.Size)
	}
	return bench.Run(ctx, o.load)
}

func (p *program) printBench(r *bench.Figures) {
	cpu := "-"
	if r.ServersCPU > 0 {
		cpu = fmt.Sprintf("%.2f s", r.ServersCPU)
	}
	printTable(p.stdout, []string{"messages/s", "MB/s", "p50", "p99", "server CPU per million"}, [][]any{{
		grouped(int64(r.MsgsPerSec)), fmt.Sprintf("%.1f", r.MBPerSec),
		grouped(r.P50) + " us", grouped(r.P99) + " us", cpu,
	}})
	if !r.Interested {
		fmt.Fprintln(p.stderr, "perdure: no durable is interested, so nothing was kept")
	}
}
