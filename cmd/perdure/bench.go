package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/client"
)

// reportRuns is how often a load of a report is run unless it is said: a single
// run says nothing about chance.
const reportRuns = 3

// benchVerb is one scenario on the command line.
type benchVerb struct {
	name     string
	aliases  []string
	flags    []string // that only some have
	lacks    []string // of the flags that most have: what does nothing here
	timeless bool     // measures no times of messages
	counts   bool     // ends by --count unless a duration is given
	long     string
	example  string
}

// benchVerbs are all scenarios that have a command.
var benchVerbs = []benchVerb{{
	name: "publish", flags: []string{"count", "together", "sync"}, counts: true,
	long: "Before the clock runs it publishes 5 % of --count, at least one message, to warm up: a running\n" +
		"cluster stores these, too. With --duration it goes by time.",
	example: "  perdure bench publish\n" +
		"  perdure bench publish --durability async --size 128 --count 2000000 -o json\n" +
		"  perdure bench publish --sync --count 5000\n" +
		"  perdure bench publish --size 128,1024,16384 --publishers 4 --duration 5s --runs 3 --report publish.html\n" +
		"  perdure bench publish --connect 127.0.0.1:7400 --endpoint default",
}, {
	name: "stream", flags: []string{"sync", "workers", "durables", "prefetch", "backlog"},
	long: "Publishers wait while more than --backlog messages, 100,000 unless given, are not consumed and\n" +
		"acknowledged. Messages a second are those acknowledged.",
	example: "  perdure bench stream --size 128 --publishers 4\n" +
		"  perdure bench stream --workers 4 -o json",
}, {
	name: "latency", flags: []string{"rate", "workers", "durables", "prefetch"},
	long: "Open loop: messages are published at --rate whatever happens, and every time is from when the\n" +
		"message was meant to go, so that a stall counts for all that had to wait behind it.",
	example: "  perdure bench latency --rate 20000 --hgrm latency.hgrm\n" +
		"  perdure bench latency --rate 1000 --durability sync --report latency.html",
}, {
	name: "subscribe", timeless: true, aliases: []string{"drain"}, flags: []string{"workers", "durables", "prefetch", "backlog"},
	lacks: []string{"warmup", "duration"},
	long: "Publishes a backlog of --backlog messages, a million or 256 MiB unless given, then subscribes,\n" +
		"and measures until every acknowledgement is confirmed. With --workers they share a durable.",
	example: "  perdure bench subscribe --durables 1,4\n" +
		"  perdure bench subscribe --workers 1,4,16 --runs 3",
}, {
	name: "fanout", flags: []string{"durables", "prefetch", "backlog"},
	long:    "Closed loop, as stream: every durable has a subscriber that acknowledges all messages.",
	example: "  perdure bench fanout --durables 1,8,64",
}, {
	name: "match", flags: []string{"matchers", "together"},
	long:    "Each message has a field with one of --matchers values, and each durable wants one of them.\nNobody is attached.",
	example: "  perdure bench match --matchers 1,10,100,1000",
}, {
	name: "clusters", flags: []string{"clusters"},
	long:    "Each cluster has publishers of its own, and a member on every server. Nobody is attached.",
	example: "  perdure bench clusters --clusters 1,16,64",
}, {
	name: "idle", timeless: true, flags: []string{"clusters"}, lacks: []string{"size", "publishers", "window", "batch"},
	long: "Measures how much of a processor a server with --clusters clusters uses when nothing happens.\n" +
		"New clusters have 20 ms each, at most 20 s, besides --warmup to come to rest.",
	example: "  perdure bench idle --clusters 1000",
}, {
	name: "backlog", flags: []string{"backlog"},
	long: "Publishes --backlog messages that stay pending, and then measures how fast more can be published.\n" +
		"They need disk: three times their bytes, and more.",
	example: "  perdure bench backlog --backlog 0,1000000,10000000",
}, {
	name: "backup", flags: []string{"rate", "backlog"},
	long: "Publishes --backlog messages that stay pending, a million or 256 MiB unless given, and then at\n" +
		"--rate, in turns without and with backups that somebody makes one after the other. A rate that\n" +
		"is not reached shows what backups cost of all that can be published.",
	example: "  perdure bench backup --size 128,1024 --duration 30s\n" +
		"  perdure bench backup --rate 10000000 --backlog 2000000",
}, {
	name: "failover", flags: []string{"clusters", "kills", "fast"}, lacks: []string{"window", "batch", "duration"},
	long: "Publishes one by one and consumes; kills the server that leads with SIGKILL, --kills times, and\n" +
		"starts it again. A gap is from the last confirmation before to the first after a kill. Then it\n" +
		"counts what was lost, stored twice and delivered again.",
	example: "  perdure bench failover --kills 20\n" +
		"  perdure bench failover --kills 20 --fast --durability sync",
}, {
	name: "recover", timeless: true, flags: []string{"backlog"}, lacks: []string{"warmup", "duration"},
	long: "Publishes --backlog messages, kills all servers, and measures until they are ready again. Then it\n" +
		"kills a follower, publishes as many again, and measures how fast the follower catches up.",
	example: "  perdure bench recover --backlog 1000000",
}, {
	name: "replicate",
	long: "Publishes as fast as is confirmed, and looks how far followers are behind their leader. Then it pauses\n" +
		"a follower while it publishes more, and measures how fast the follower catches up.",
	example: "  perdure bench replicate --servers 1,3,5 --durability memory,async,sync",
}}

// benchOptions are the flags of a scenario. Lists are one load for each value.
type benchOptions struct {
	load       bench.Load
	scenario   string
	sizes      numbers
	publishers numbers
	servers    numbers
	durability []string
	workers    numbers
	durables   numbers
	matchers   numbers
	clusters   numbers
	backlogs   numbers
	runs       int
	connect    string
	timeout    time.Duration
	dir        string
	hgrm       string
	report     string
	output     benchFormat
}

func (p *program) benchCommand() *cobra.Command {
	cmd := p.group(&cobra.Command{
		Use:   "bench",
		Short: "Measure how fast a cluster is",
		Example: "  perdure bench publish\n" +
			"  perdure bench stream --runs 3 --report stream.html",
	})
	for _, v := range benchVerbs {
		cmd.AddCommand(p.benchScenarioCommand(v))
	}
	cmd.AddCommand(p.benchCompareCommand())
	return cmd
}

func (p *program) benchScenarioCommand(v benchVerb) *cobra.Command {
	o := &benchOptions{scenario: v.name, load: bench.Load{Scenario: v.name}}
	cmd := &cobra.Command{
		Use: v.name, Aliases: v.aliases, Short: bench.About(v.name), Args: noArgs, Example: v.example,
		Long: bench.About(v.name) + ".\n\n" + v.long + "\n\n" + benchLong(v.name),
	}
	o.flags(cmd, v)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd, v); err != nil {
			return err
		}
		return p.bench(cmd, o)
	}
	return cmd
}

// benchLong says what all scenarios have in common.
func benchLong(name string) string {
	text := "It starts servers on this machine, each a process with files in --data, and removes them in the\n" +
		"end. Flags that take several values, as in --size 128,1024, make one load of each; with --runs\n" +
		"every load is run so often, in turns, on new servers, and the medians are printed.\n\n"
	if !bench.NeedsServers(name) {
		text += "With --connect it uses an endpoint of a running cluster, and knows nothing of what its servers\n" +
			"use. PERDURE_CONNECT, which other commands read, is not meant for it.\n\n"
	}
	return text + "A window is what a publisher has sent and not yet seen confirmed."
}

// flags declares the flags of a scenario.
func (o *benchOptions) flags(cmd *cobra.Command, v benchVerb) {
	f := cmd.Flags()
	f.VarP(&o.output, "output", "o", "how to print")
	o.output = benchTable
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	o.loadFlags(v).VisitAll(func(flag *pflag.Flag) {
		if !slices.Contains(v.lacks, flag.Name) {
			f.AddFlag(flag)
		}
	})
	o.ownFlags(f, v)
	f.IntVar(&o.runs, "runs", 1, "how often each load is run; the medians are printed; 3 with --report unless given")
	numbersFlag(f, &o.servers, "servers", 3, "servers to start: 1, 3, 5 or 7")
	f.StringVar(&o.connect, "connect", "", "addresses of servers of a running cluster")
	f.StringVar(&o.load.Endpoint, "endpoint", "", "endpoint of the running cluster; bench unless given")
	f.StringVar(&o.dir, "data", "", "where to put the servers' files; the system's temporary directory unless given")
	f.StringVar(&o.hgrm, "hgrm", "", "file for the times in HDR histogram format")
	f.StringVar(&o.report, "report", "", "file for a page with charts")
	f.DurationVar(&o.timeout, "timeout", bench.Patience, "how long clients wait for servers before the run fails")
	// What check refuses is not shown.
	for name, hidden := range map[string]bool{"connect": bench.NeedsServers(v.name), "endpoint": bench.NeedsServers(v.name), "hgrm": v.timeless} {
		f.Lookup(name).Hidden = hidden
	}
}

// loadFlags returns the flags that most loads have.
func (o *benchOptions) loadFlags(v benchVerb) *pflag.FlagSet {
	f := pflag.NewFlagSet(v.name, pflag.ContinueOnError)
	f.SortFlags = false
	numbersFlag(f, &o.sizes, "size", 128, "bytes of a body")
	numbersFlag(f, &o.publishers, "publishers", 1, "publishers, each with a connection")
	f.IntVar(&o.load.Window, "window", client.DefaultWindowBatches, "batches of a publisher in its window")
	f.IntVar(&o.load.Batch, "batch", client.DefaultBatchTarget, "bytes at which a batch is sent")
	f.StringSliceVar(&o.durability, "durability", []string{"async"}, "of the store: memory, async or sync")
	duration := "how long is measured"
	if v.counts {
		f.IntVar(&o.load.Count, "count", bench.DefaultCount, "messages that are measured; 5 % more warm up")
		duration += ", in place of --count"
	}
	f.DurationVar(&o.load.Warmup, "warmup", bench.DefaultWarmup, "how long the load runs before the clock does")
	f.DurationVar(&o.load.Duration, "duration", bench.DefaultDuration, duration)
	return f
}

// ownFlags declares what only some scenarios have.
func (o *benchOptions) ownFlags(f *pflag.FlagSet, v benchVerb) {
	for _, name := range v.flags {
		switch name {
		case "sync":
			f.BoolVar(&o.load.Sync, name, false, "wait for each message before the next")
		case "together":
			f.IntVar(&o.load.Together, name, 0, "messages that one call publishes and waits for; 0 for each by itself")
		case "rate":
			rate := bench.DefaultRate
			if v.name == "backup" {
				rate = bench.DefaultBackupRate
			}
			f.IntVar(&o.load.Rate, name, rate, "messages a second, of all publishers")
		case "workers":
			numbersFlag(f, &o.workers, name, 0, "subscribers that share a durable; 0 for one of a standard durable")
		case "durables":
			numbersFlag(f, &o.durables, name, 1, "durables that consume, each with a subscriber")
		case "prefetch":
			f.IntVar(&o.load.Prefetch, name, 0, "messages that a subscriber holds unacknowledged; 0 for the durable's limit")
		case "matchers":
			numbersFlag(f, &o.matchers, name, 100, "durables that share the messages out")
		case "clusters":
			numbersFlag(f, &o.clusters, name, 1, "clusters, each with a member on every server")
		case "backlog":
			numbersFlag(f, &o.backlogs, name, 0, "messages that wait to be consumed")
		case "kills":
			f.IntVar(&o.load.Kills, name, 3, "how often a leader is killed")
		case "fast":
			f.BoolVar(&o.load.Fast, name, false, "use the profile that elects leaders soon")
		}
	}
}

// check refuses flags that cannot be meant. Nothing is started before.
func (o *benchOptions) check(cmd *cobra.Command, v benchVerb) error {
	if err := o.checkZeros(cmd, v); err != nil {
		return err
	}
	timed := cmd.Flags().Changed("duration") || cmd.Flags().Changed("warmup")
	switch {
	case v.counts && timed && cmd.Flags().Changed("count"):
		return usagef(cmd, "--count is a load of so many messages, --duration and --warmup go by time: give one or the other")
	case timed:
		o.load.Count = 0
	}
	if o.timeout <= 0 {
		return usagef(cmd, "--timeout %v: it must be positive", o.timeout)
	}
	if err := o.checkLists(cmd, v); err != nil {
		return err
	}
	if o.report != "" && !cmd.Flags().Changed("runs") {
		o.runs = reportRuns
	}
	if o.runs < 1 || o.runs > 1000 {
		return usagef(cmd, "--runs %d: it must be 1 to 1000", o.runs)
	}
	if err := o.checkConnect(cmd); err != nil {
		return err
	}
	points := o.points()
	for _, pt := range points {
		if err := pt.load.Validate(); err != nil {
			return usagef(cmd, "--%s", strings.ReplaceAll(err.Error(), "\n", "\n--")) // lines begin with the flag
		}
	}
	switch {
	case o.hgrm != "" && v.timeless:
		return usagef(cmd, "--hgrm: %s measures no times of messages", v.name)
	case o.hgrm != "" && len(points) > 1:
		return usagef(cmd, "--hgrm: there are %d loads, and the file holds the times of one", len(points))
	}
	return nil
}

// checkZeros refuses 0 where it was asked for and means nothing: to a load it is
// the default.
func (o *benchOptions) checkZeros(cmd *cobra.Command, v benchVerb) error {
	for _, name := range []string{"count", "publishers", "window", "batch", "rate", "durables", "matchers", "clusters", "backlog", "kills"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed || name == "backlog" && v.name == "backlog" {
			continue
		}
		if slices.Contains(strings.Split(f.Value.String(), ","), "0") {
			return usagef(cmd, "--%s 0: it must be at least 1", name)
		}
	}
	if f := cmd.Flags().Lookup("duration"); f != nil && o.load.Duration <= 0 {
		return usagef(cmd, "--duration %v: it must be positive", o.load.Duration)
	}
	if f := cmd.Flags().Lookup("warmup"); f != nil {
		if o.load.Warmup < 0 {
			return usagef(cmd, "--warmup %v: it cannot be negative", o.load.Warmup)
		}
		if o.load.Warmup == 0 {
			o.load.Warmup = -1 // none
		}
	}
	return nil
}

// checkLists refuses values of lists that no load may have.
func (o *benchOptions) checkLists(cmd *cobra.Command, v benchVerb) error {
	for _, d := range o.durability {
		if !slices.Contains([]string{"memory", "async", "sync"}, d) {
			return usagef(cmd, "--durability %q: it must be memory, async or sync", d)
		}
		if d == "memory" && (v.name == "recover" || v.name == "failover" && o.load.Kills > 1) {
			return usagef(cmd, "--durability memory: a server that kept messages in memory is fenced when it starts again; "+
				"use async or sync, or failover --kills 1")
		}
	}
	for _, n := range o.servers {
		if !slices.Contains([]int{1, 3, 5, 7}, n) {
			return usagef(cmd, "--servers %d: it must be 1, 3, 5 or 7", n)
		}
		if n == 1 && (v.name == "recover" || v.name == "failover") {
			return usagef(cmd, "--servers 1: %s needs servers that go on without one; give it 3", v.name)
		}
	}
	return nil
}

// checkConnect refuses what does not go with a running cluster, or only with one.
func (o *benchOptions) checkConnect(cmd *cobra.Command) error {
	if o.connect == "" {
		if cmd.Flags().Changed("endpoint") {
			return usagef(cmd, "--endpoint goes with --connect")
		}
		return nil
	}
	if bench.NeedsServers(o.scenario) {
		return usagef(cmd, "--connect: %s needs servers of its own; leave --connect away", o.scenario)
	}
	for _, flag := range []string{"servers", "fast"} {
		if cmd.Flags().Changed(flag) {
			return usagef(cmd, "--%s does not go with --connect: the cluster runs already", flag)
		}
	}
	if o.load.Endpoint == "" {
		o.load.Endpoint = bench.DefaultEndpoint
	}
	return checkAddresses(cmd, o.connect)
}

// numbers is the value of a flag that takes several numbers.
type numbers []int

// numbersFlag declares one with a default.
func numbersFlag(f *pflag.FlagSet, n *numbers, name string, value int, usage string) {
	*n = numbers{value}
	f.Var(n, name, usage)
}

func (n *numbers) String() string {
	var list []string
	for _, v := range *n {
		list = append(list, strconv.Itoa(v))
	}
	return strings.Join(list, ",")
}

// Set implements [pflag.Value].
func (n *numbers) Set(s string) error {
	var list numbers
	for word := range strings.SplitSeq(s, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return fmt.Errorf("%q is no number; want one or several, as in 1,4,16", word)
		}
		list = append(list, v)
	}
	*n = list
	return nil
}

// Type implements [pflag.Value].
func (n *numbers) Type() string { return "numbers" }

// benchFormat is the value of -o.
type benchFormat string

const (
	benchTable benchFormat = "table"
	benchJSON  benchFormat = "json"
	benchCSV   benchFormat = "csv"
)

func (f *benchFormat) String() string { return string(*f) }

// Set implements [pflag.Value].
func (f *benchFormat) Set(s string) error {
	all := []benchFormat{benchTable, benchJSON, benchCSV}
	if !slices.Contains(all, benchFormat(s)) {
		return fmt.Errorf("%q is none of table, json and csv", s)
	}
	*f = benchFormat(s)
	return nil
}

// Type implements [pflag.Value].
func (f *benchFormat) Type() string { return strings.Join([]string{"table", "json", "csv"}, "|") }
