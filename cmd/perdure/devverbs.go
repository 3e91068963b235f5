package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

// devVerb is something that dev does to one of its servers.
type devVerb struct {
	name, short, done string
	byName            bool // "leader" is not understood
	succeeds          bool // another server leads afterwards
	do                func(context.Context, *dev, *fleet.Node) error
}

var devVerbs = []devVerb{
	{"kill", "Kill a server with SIGKILL", "was killed", false, true, func(_ context.Context, _ *dev, n *fleet.Node) error {
		return n.Kill()
	}},
	{"pause", "Pause a server with SIGSTOP", "is paused", false, false, func(_ context.Context, _ *dev, n *fleet.Node) error {
		return n.Pause()
	}},
	{"resume", "Resume a paused server with SIGCONT", "goes on", true, false, func(_ context.Context, _ *dev, n *fleet.Node) error {
		return n.Resume()
	}},
	{"restart", "Start a server again; one that runs is stopped gracefully first", "was restarted", false, true, restart},
}

func restart(ctx context.Context, d *dev, n *fleet.Node) error {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	n.Stop(ctx)
	if err := d.fleet.Start(n); err != nil && !errors.Is(err, fleet.ErrRunning) {
		return err
	}
	return n.Ready(ctx)
}

func (p *program) devLsCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the servers of the dev that runs",
		Example: "  perdure dev ls\n" +
			"  perdure dev ls --data ./five -o json",
		Args: noArgs,
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the dev, as given to it")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := p.devDirectory(data)
		if err != nil {
			return err
		}
		r, err := askControl(cmd.Context(), dir, devRequest{Verb: "ls"})
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return p.writeJSON(p.stdout, r.State)
		}
		printDevTable(p.stdout, r.State)
		return nil
	}
	return cmd
}

func (p *program) devSignalCommand(v devVerb) *cobra.Command {
	var data, cluster string
	cmd := &cobra.Command{
		Use:   v.name + " SERVER|leader",
		Short: v.short,
		Long:  v.short + ".\n\n`leader` is the server that leads the cluster, which must be named if there are several.",
		Example: fmt.Sprintf("  perdure dev %[1]s s2\n"+
			"  perdure dev %[1]s leader --cluster main --data ./five", v.name),
		Args: oneArg("server"),
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the dev, as given to it")
	if v.byName {
		cmd.Use, cmd.Long = v.name+" SERVER", v.short+"."
		cmd.Example = fmt.Sprintf("  perdure dev %[1]s s2\n  perdure dev %[1]s s2 --data ./five", v.name)
	} else {
		if v.succeeds {
			cmd.Long += "\n\nWhere the server leads a cluster it waits up to 5 s for the next leader, and says who that is."
		}
		cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster whose leader is meant")
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := p.devDirectory(data)
		if err != nil {
			return err
		}
		server := args[0]
		if server == "leader" && v.byName {
			return usagef(cmd, "%s takes the name of a server: one that is paused leads nothing", v.name)
		}
		if server == "leader" {
			if server, err = p.devLeader(cmd, dir, cluster); err != nil {
				return err
			}
		} else if cluster != "" {
			return usagef(cmd, "--cluster goes with leader; %q names a server already", server)
		}
		r, led, err := p.askAndWatch(cmd, dir, v, server)
		if err != nil {
			return err
		}
		if r.Warning != "" {
			fmt.Fprintf(p.stderr, "perdure: warning: %s\n", r.Warning)
		}
		if *output == formatJSON {
			return p.writeJSON(p.stdout, verbResult(v.name, server, r, led))
		}
		text := fmt.Sprintf("%s %s\n", server, v.done)
		for _, s := range led {
			text += s.String()
			if s.Server == "" {
				text += "; " + whyNoLeader(r.State)
			}
			text += "\n"
		}
		_, err = io.WriteString(p.stdout, text)
		return err
	}
	return cmd
}

// devDone is what a verb of dev prints with -o json.
type devDone struct {
	Verb    string    `json:"verb"`
	Server  devServer `json:"server"` // as it is now
	Warning string    `json:"warning,omitempty"`

	Leaders []succession `json:"leaders,omitempty"` // of the clusters that it led
}

func verbResult(verb, server string, r devResponse, led []succession) devDone {
	done := devDone{Verb: verb, Warning: r.Warning, Leaders: led}
	for _, s := range r.State.Servers {
		if s.Name == server {
			done.Server = s
		}
	}
	return done
}

// devLeader asks the servers of a dev who leads.
func (p *program) devLeader(cmd *cobra.Command, dir, cluster string) (string, error) {
	ctx := cmd.Context()
	r, err := askControl(ctx, dir, devRequest{Verb: "ls"})
	if err != nil {
		return "", err
	}
	conn := &connection{addresses: r.State.Connect, timeout: defaultTimeout}
	var leader string
	err = conn.call(ctx, "dev", func(ctx context.Context, c *client.Client) error {
		s, err := c.Admin().Status(ctx)
		if err != nil {
			return err
		}
		leader, err = leaderOf(s, cluster)
		var none *failure
		if errors.As(err, &none) {
			err = fmt.Errorf("%w; %s", err, whyNoLeader(r.State))
		}
		return err
	})
	return leader, err
}
