package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

// shutdownDone is what became of a server; its JSON is a promise.
type shutdownDone struct {
	Name    string `json:"name"`
	Stopped bool   `json:"stopped"` // nobody listens there any more
}

// shutdownView is what `server shutdown -o json` prints.
type shutdownView struct {
	Servers []shutdownDone `json:"servers"`
	Saved   []savedView    `json:"saved,omitempty"` // with --save
}

func (p *program) shutdownCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shutdown {NAME... | --all}",
		Short: "Stop servers",
		Long: "Asks servers to stop as SIGTERM does, and waits until nobody listens there any more. A server\n" +
			"gives away what it leads first. What stops a server's process may start it again: systemd\n" +
			"does not where Restart is on-failure.\n\n" +
			"With --save, all clusters that have a service there are suspended first, and each of these\n" +
			"services is saved into its server's state directory. If anything of that fails no server is\n" +
			"stopped, and the clusters that were not suspended before are resumed. Servers that are started\n" +
			"with --load go on with what was saved.",
		Example: "  perdure server shutdown s2\n" +
			"  perdure server shutdown --all --save",
	}
	all := cmd.Flags().Bool("all", false, "every server of the realm")
	save := cmd.Flags().Bool("save", false, "suspend the clusters, and save them, before")
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error { return nil }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return usagef(cmd, "give the NAMEs of servers, or --all")
		}
		if err := conn.check(cmd); err != nil {
			return err
		}
		var view shutdownView
		err := conn.long(cmd.Context(), "server shutdown", func(ctx context.Context, c *client.Client) error {
			status, err := c.Admin().Status(ctx)
			if err != nil {
				return err
			}
			chosen, err := p.chooseServers(status, args)
			if err != nil {
				return err
			}
			if *save {
				if view.Saved, err = p.saveServers(ctx, c, status, chosen); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(ctx, conn.timeout)
			defer cancel()
			view.Servers, err = stopServers(ctx, c, chosen)
			return err
		})
		return errors.Join(err, p.printShutdown(view, *output))
	}
	return cmd
}

// chooseServers returns the servers of these names, all that are up if there are
// none.
func (p *program) chooseServers(status *client.Status, names []string) ([]client.ServerStatus, error) {
	var chosen []client.ServerStatus
	for _, name := range names {
		i := slices.IndexFunc(status.Servers, func(s client.ServerStatus) bool { return s.Name == name })
		if i < 0 {
			return nil, failuref("INVALID_ARGUMENT", "the realm has no server %q", name)
		}
		if !status.Servers[i].Up {
			return nil, failuref("UNAVAILABLE", "server %s does not answer", name)
		}
		chosen = append(chosen, status.Servers[i])
	}
	if len(names) > 0 {
		return chosen, nil
	}
	for _, s := range status.Servers {
		if !s.Up {
			fmt.Fprintf(p.stderr, "perdure: server %s does not answer: it is left out\n", s.Name)
			continue
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// stopServers asks servers to stop, all of them before it waits for any: while they
// give away what they lead, who is asked next must not get it. It returns what
// became of each.
func stopServers(ctx context.Context, c *client.Client, chosen []client.ServerStatus) (done []shutdownDone, err error) {
	var errs []error
	for _, s := range chosen {
		if err := c.Admin().StopServer(ctx, s.Name); err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", s.Name, err))
			continue
		}
		done = append(done, shutdownDone{Name: s.Name})
	}
	for i := range done {
		at := slices.IndexFunc(chosen, func(s client.ServerStatus) bool { return s.Name == done[i].Name })
		if err := awaitStopped(ctx, chosen[at].Peer); err != nil {
			errs = append(errs, fmt.Errorf("server %s: it was asked to stop, and still listens at %s: %w", done[i].Name, chosen[at].Peer, err))
			continue
		}
		done[i].Stopped = true
	}
	return done, errors.Join(errs...)
}

// awaitStopped waits until nobody listens for other servers: that is the last that
// a server closes.
func awaitStopped(ctx context.Context, peer string) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", peer)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return nil
		}
		_ = conn.Close() // it was only to see whether it would be made
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *program) printShutdown(view shutdownView, output format) error {
	if len(view.Servers)+len(view.Saved) == 0 {
		return nil
	}
	if output == formatJSON {
		return p.writeJSON(p.stdout, view)
	}
	var text bytes.Buffer
	for _, s := range view.Saved {
		for _, f := range s.Files {
			fmt.Fprintf(&text, "cluster %s: suspended, service %s saved on server %s as %s\n", cell(s.Cluster), cell(f.Service), cell(f.Server), f.File)
		}
	}
	for _, d := range view.Servers {
		what := "asked to stop"
		if d.Stopped {
			what = "stopped"
		}
		fmt.Fprintf(&text, "server %s: %s\n", cell(d.Name), what)
	}
	_, err := p.stdout.Write(text.Bytes())
	return err
}
