package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
	"github.com/perdure/perdure/internal/flights"
	"github.com/perdure/perdure/message"
)

//go:embed demo.yaml
var demoRealm []byte

const (
	demoServers  = 3
	demoCluster  = "main"
	demoStore    = "flights"
	demoEndpoint = "flights"
	demoInFlight = 64 // messages called and not confirmed

	// demoPatience bounds each wait for something that must happen.
	demoPatience = 30 * time.Second
)

// demoOptions are the flags of `perdure demo`.
type demoOptions struct {
	rate  int
	count int
	keep  bool
}

func (p *program) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show that nothing is lost when the leader is killed",
		Long: "Starts three servers, publishes flights to them, and subscribes a standard durable, audit,\n" +
			"and a shared one, delays, with three subscribers. A third of the way it kills the leader's\n" +
			"process with SIGKILL, two thirds of the way it starts it again. Then it counts.\n\n" +
			"It ends with 1 if a confirmed message was lost, if audit saw them out of order, if something\n" +
			"stayed pending, or if the three replicas differ.",
		Example: "  perdure demo\n" +
			"  perdure demo --count 3000 --rate 1000\n" +
			"  perdure demo -o json",
		Args: noArgs,
	}
	output := outputFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&o.rate, "rate", 2000, "messages a second")
	f.IntVar(&o.count, "count", flights.Count, "messages in all; the flights start over after 20,000")
	f.BoolVar(&o.keep, "keep", false, "keep the servers' files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.rate < 1 || o.rate > 1_000_000 {
			return usagef(cmd, "--rate %d: it must be 1 to 1000000", o.rate)
		}
		if o.count < 3 || o.count > 10_000_000 {
			return usagef(cmd, "--count %d: it must be 3 to 10000000", o.count)
		}
		r, dir, err := p.demo(cmd.Context(), o)
		if err != nil {
			return demoFailed(cmd.Context(), dir, o, err)
		}
		if *output == formatJSON {
			err = p.writeJSON(p.stdout, r)
		} else {
			r.print(p.stdout)
		}
		if wrong := r.wrong(); wrong != "" {
			return failuref(reasonLost, "%s; the servers' files and logs are in %s", wrong, dir)
		}
		if o.keep {
			fmt.Fprintf(p.stderr, "perdure: the servers' files and logs are in %s\n", dir)
			return err
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	return cmd
}

// demoFailed says where to look, unless the demo was interrupted.
func demoFailed(ctx context.Context, dir string, o demoOptions, err error) error {
	switch {
	case dir == "":
		return err
	case ctx.Err() != nil && !o.keep:
		return errors.Join(ctx.Err(), os.RemoveAll(dir))
	}
	return fmt.Errorf("%w; the servers' files and logs are in %s", err, dir)
}

// demo runs the servers for the length of the demonstration. The directory is
// the caller's to remove; no process is left.
func (p *program) demo(ctx context.Context, o demoOptions) (*demoReport, string, error) {
	lines, err := flights.Lines()
	if err != nil {
		return nil, "", err
	}
	ports, err := fleet.FreePorts(demoServers)
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "perdure-demo-")
	if err != nil {
		return nil, "", err
	}
	servers, err := p.newFleet(dir, ports)
	if err != nil {
		return nil, dir, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, n := range servers.Nodes {
		n.Died = func(n *fleet.Node, how string) {
			cancel(fmt.Errorf("server %s %s; its log ends with: %s", n.Name, how, fleet.LastLine(n.Log)))
		}
	}
	defer servers.Kill()
	d := &demo{fleet: servers, options: o, lines: lines, watch: newWatcher(p.stderr, o.count)}
	r, err := d.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		stopFleet(servers)
	}
	return r, dir, err
}

// demo is one demonstration.
type demo struct {
	fleet   *fleet.Fleet
	options demoOptions
	lines   [][]byte
	watch   *watcher
	admin   *client.Client // for status; it is not in the way of the others
	audit   *consumption
	delays  *consumption

	killed string
	term   uint64 // in which it led
}

func (d *demo) run(ctx context.Context) (*demoReport, error) {
	d.watch.say("starting three servers")
	start := time.Now()
	starting, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("waited %v", startPatience))
	defer cancel()
	if err := d.fleet.StartAll(starting); err != nil {
		return nil, err
	}
	var err error
	if d.admin, err = d.connect(starting, "demo"); err != nil {
		return nil, err
	}
	defer closeClient(d.admin)
	if _, err := d.admin.Admin().ApplyRealm(starting, demoRealm, "demo.yaml"); err != nil {
		return nil, err
	}
	d.watch.say("the servers are ready after %d ms; publishing %s flights", time.Since(start).Milliseconds(), grouped(d.options.count))
	if d.audit, err = d.consume(starting, "audit", 1); err != nil {
		return nil, err
	}
	defer d.audit.close()
	if d.delays, err = d.consume(starting, "delays", 3); err != nil {
		return nil, err
	}
	defer d.delays.close()
	d.watch.start(d.audit, d.delays)
	defer d.watch.stop()
	sent, err := d.publish(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.settle(ctx, sent); err != nil {
		return nil, err
	}
	r := d.report(sent)
	if err := d.compare(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (d *demo) connect(ctx context.Context, name string) (*client.Client, error) {
	return client.Connect(ctx, d.fleet.Connect(), client.WithName(name))
}

// settle waits until both durables have delivered what was confirmed, or
// nothing has come for too long; then until every acknowledgement is confirmed.
func (d *demo) settle(ctx context.Context, sent *publication) error {
	for _, c := range []*consumption{d.audit, d.delays} {
		if err := c.finish(ctx, sent); err != nil {
			return fmt.Errorf("durable %s: %w", c.durable, err)
		}
	}
	return nil
}

// compare waits until the three replicas have applied the same, and looks
// whether they are the same. What is pending is read then.
func (d *demo) compare(ctx context.Context, r *demoReport) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		s, err := d.admin.Admin().Status(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && r.read(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // the report says that they differ, or lag
			}
			return ctx.Err()
		case <-time.After(readyPoll):
		}
	}
}

// leader returns the server that leads now, and its term, once there is one in a
// term after the given one. It may be the one that led before, if that came back
// soon enough to be elected. It asks the servers that run, one by one: waiting
// for a dead one would say less about the others.
func (d *demo) leader(ctx context.Context, after uint64) (string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		var leader string
		var term uint64
		for _, n := range d.fleet.Nodes {
			if state, _ := n.State(); state != fleet.Running {
				continue
			}
			s, err := d.admin.Admin().StatusAt(ctx, n.Client)
			if err != nil {
				continue // another may know
			}
			for _, c := range s.Clusters {
				if c.Name == demoCluster && c.Leader != "" && c.Term >= term {
					leader, term = c.Leader, c.Term
				}
			}
		}
		if leader != "" && term > after {
			return leader, term, nil
		}
		select {
		case <-ctx.Done():
			return "", 0, fmt.Errorf("no leader was found within %v: %w", demoPatience, ctx.Err())
		case <-tick.C:
		}
	}
}

// flight returns message i: the fields of a line, and its number in a header,
// by which the consumers know it.
func (d *demo) flight(i int) (*message.Message, error) {
	m, err := message.FromJSON(d.lines[i%len(d.lines)])
	if err != nil {
		return nil, fmt.Errorf("flight %d: %w", i, err)
	}
	return m.SetHeader(lineHeader, fmt.Sprint(i)), nil
}
