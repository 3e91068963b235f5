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

const benchRealm = `realm: bench
clusters:
  - name: bench
    durability: %s
    services:
      - {name: bench-1, server: s1}
      - {name: bench-2, server: s2}
      - {name: bench-3, server: s3}
    stores:
      - name: bench
        durables:
          - {name: keep, type: standard}
endpoints:
  - {name: bench, store: bench, default_durable: keep}
`

// benchOptions are the flags of `perdure bench publish`.
type benchOptions struct {
	load       bench.Publish
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
	var o benchOptions
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
func (p *program) bench(ctx context.Context, o benchOptions) (r *bench.Result, err error) {
	addresses := o.connect
	if addresses == "" {
		dir, err := os.MkdirTemp(o.dir, "perdure-bench-")
		if err != nil {
			return nil, err
		}
		fleet, stop, err := p.benchServers(ctx, o, dir)
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		defer stop()
		if err != nil {
			return nil, err
		}
		addresses, o.load.CPU = fleet.connect(), fleet.cpu
	}
	o.load.Connect = func(ctx context.Context, name string) (*client.Client, error) {
		return client.Connect(ctx, addresses, client.WithName(name),
			client.WithConnectTimeout(o.timeout), client.WithRetry(o.timeout))
	}
	if isTerminal(p.stderr) {
		fmt.Fprintf(p.stderr, "perdure: publishing %s messages of %d bytes\n", grouped(o.load.Count), o.load.Size)
	}
	return o.load.Run(ctx)
}

// benchServers starts three servers and gives them their realm. stop ends them.
func (p *program) benchServers(ctx context.Context, o benchOptions, dir string) (f *fleet, stop func(), err error) {
	stop = func() {}
	ports, err := freePorts(3)
	if err != nil {
		return nil, stop, err
	}
	f, err = p.newFleet(dir, 3, ports)
	if err != nil {
		return nil, stop, err
	}
	stop = f.kill
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("waited %v", startPatience))
	defer cancel()
	if err := f.startAll(ctx); err != nil {
		return nil, stop, err
	}
	c, err := client.Connect(ctx, f.connect())
	if err != nil {
		return nil, stop, err
	}
	defer closeClient(c)
	_, err = c.Admin().ApplyRealm(ctx, fmt.Appendf(nil, benchRealm, o.durability), "the realm of the bench")
	return f, stop, err
}

// cpu returns the processor time of all servers that run.
func (f *fleet) cpu() (time.Duration, error) {
	var pids []int
	for _, n := range f.nodes {
		if state, pid := n.state(); state != nodeStopped {
			pids = append(pids, pid)
		}
	}
	return bench.ProcessCPU(pids...)
}

func (p *program) printBench(r *bench.Result) {
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
