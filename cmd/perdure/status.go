package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

// statusView is what `status -o json` prints. Its keys are a promise; what the
// client knows beyond them is left out.
type statusView struct {
	Realm    string              `json:"realm"`
	Revision uint64              `json:"revision"`
	Servers  []serverStatusView  `json:"servers"`
	Clusters []clusterStatusView `json:"clusters"`
}

type serverStatusView struct {
	Name   string `json:"name"`
	Client string `json:"client"`
	Peer   string `json:"peer"`
	Ops    string `json:"ops"`
	Up     bool   `json:"up"`

	Process *processView `json:"process,omitempty"` // of those that answered
}

// processView is what a server's process counts since it began.
type processView struct {
	Uptime           float64 `json:"uptime_s"`
	Fsyncs           uint64  `json:"fsyncs"`
	AllocatedObjects uint64  `json:"allocated_objects"`
	AllocatedBytes   uint64  `json:"allocated_bytes"`
	GCCycles         uint64  `json:"gc_cycles"`
	Goroutines       uint64  `json:"goroutines"`
}

type clusterStatusView struct {
	Name       string              `json:"name"`
	Durability string              `json:"durability"`
	Leader     string              `json:"leader"`
	Epoch      uint64              `json:"epoch"`
	Term       uint64              `json:"term"`
	Suspended  bool                `json:"suspended"`
	Services   []serviceStatusView `json:"services"`
	Stores     []storeStatusView   `json:"stores"`
	Warnings   []string            `json:"warnings,omitempty"`
}

type serviceStatusView struct {
	Name       string `json:"name"`
	Server     string `json:"server"`
	State      string `json:"state"`
	Applied    uint64 `json:"applied"`
	LagEntries uint64 `json:"lag_entries"`
	StateHash  string `json:"state_hash"`
	Detail     string `json:"detail,omitempty"`
}

type storeStatusView struct {
	Name     string              `json:"name"`
	Messages uint64              `json:"messages"`
	Bytes    uint64              `json:"bytes"`
	FirstID  uint64              `json:"first_id"`
	LastID   uint64              `json:"last_id"`
	Durables []durableStatusView `json:"durables"`
}

type durableStatusView struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Pending uint64 `json:"pending"`
	Unacked uint64 `json:"unacked"`

	Subscribers uint64 `json:"subscribers"`

	matcher string // shown to people only
}

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show servers, clusters, services, stores and durables",
		Long:  "Asks every server of the realm and puts the answers together.",
		Example: "  perdure status\n" +
			"  perdure status -o json --timeout 2s",
		Args: noArgs,
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		return conn.call(cmd.Context(), "status", func(ctx context.Context, c *client.Client) error {
			s, err := c.Admin().Status(ctx)
			if err != nil {
				return err
			}
			if err := stillForming(ctx, c, s); err != nil {
				return err
			}
			view := viewOf(s)
			if *output == formatJSON {
				return p.writeJSON(p.stdout, view)
			}
			// In one piece, so that a failed write is noticed.
			var text bytes.Buffer
			printStatus(&text, view)
			_, err = p.stdout.Write(text.Bytes())
			return err
		})
	}
	return cmd
}

// formingPatience is how long the servers may take to say what they wait for.
const formingPatience = time.Second

// stillForming returns what a realm that is not there yet waits for: status
// itself answers then, with nothing in it.
func stillForming(ctx context.Context, c *client.Client, s *client.Status) error {
	if s.Realm != "" || s.Revision != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, formingPatience)
	defer cancel()
	_, err := c.Admin().GetRealm(ctx, 0)
	var answered *client.Error
	if errors.Is(err, client.ErrRealmForming) && errors.As(err, &answered) {
		return answered
	}
	return nil
}

// viewOf keeps what is promised. Lists are empty, never null.
func viewOf(s *client.Status) statusView {
	v := statusView{Realm: s.Realm, Revision: s.Revision, Servers: []serverStatusView{}, Clusters: []clusterStatusView{}}
	for _, x := range s.Servers {
		server := serverStatusView{Name: x.Name, Client: x.Client, Peer: x.Peer, Ops: x.Ops, Up: x.Up}
		if y := x.Process; y != nil {
			server.Process = &processView{
				y.Uptime.Seconds(), y.Fsyncs, y.AllocatedObjects, y.AllocatedBytes, y.GCCycles, y.Goroutines,
			}
		}
		v.Servers = append(v.Servers, server)
	}
	for _, x := range s.Clusters {
		c := clusterStatusView{
			Name: x.Name, Durability: x.Durability, Leader: x.Leader, Epoch: x.Epoch, Term: x.Term, Suspended: x.Suspended,
			Services: []serviceStatusView{}, Stores: []storeStatusView{}, Warnings: x.Warnings,
		}
		for _, y := range x.Services {
			c.Services = append(c.Services, serviceStatusView{y.Name, y.Server, y.State, y.Applied, y.LagEntries, y.StateHash, y.Detail})
		}
		for _, y := range x.Stores {
			store := storeStatusView{y.Name, y.Messages, y.Bytes, y.FirstID, y.LastID, []durableStatusView{}}
			for _, z := range y.Durables {
				store.Durables = append(store.Durables, durableStatusView{z.Name, z.Type, z.Pending, z.Unacked, z.Subscribers, z.Matcher})
			}
			c.Stores = append(c.Stores, store)
		}
		v.Clusters = append(v.Clusters, c)
	}
	return v
}

func printStatus(w io.Writer, v statusView) {
	name := v.Realm
	if name == "" {
		name = "(none applied)"
	}
	fmt.Fprintf(w, "realm %s, revision %d\n\n", printable([]byte(name)), v.Revision)
	var rows [][]any
	for _, s := range v.Servers {
		up := "up"
		if !s.Up {
			up = "down"
		}
		since := "-"
		if s.Process != nil {
			since = (time.Duration(s.Process.Uptime) * time.Second).String()
		}
		rows = append(rows, []any{cell(s.Name), up, since, cell(s.Client), cell(s.Peer), cell(s.Ops)})
	}
	printTable(w, []string{"server", "state", "uptime", "clients", "peers", "operators"}, rows)
	down := map[string]bool{}
	for _, s := range v.Servers {
		down[s.Name] = !s.Up
	}
	for _, c := range v.Clusters {
		printCluster(w, c, down[c.Leader])
	}
	if len(v.Clusters) == 0 {
		fmt.Fprintln(w, "\nno clusters yet: perdure realm apply FILE")
	}
}

func printCluster(w io.Writer, c clusterStatusView, down bool) {
	leader := "led by " + cell(c.Leader)
	switch {
	case c.Leader == "":
		leader = "without a leader"
	case down:
		leader += " (down)" // the others have not elected another yet, or cannot
	}
	suspended := ""
	if c.Suspended {
		suspended = ", suspended"
	}
	fmt.Fprintf(w, "\ncluster %s, %s, %s, term %d, epoch %d%s\n", cell(c.Name), c.Durability, leader, c.Term, c.Epoch, suspended)
	for _, warning := range c.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	var rows [][]any
	for _, s := range c.Services {
		applied, lag := grouped(s.Applied), grouped(s.LagEntries)
		if s.StateHash == "" {
			applied, lag = "-", "-" // it said nothing of them
		}
		rows = append(rows, []any{cell(s.Name), cell(s.Server), cell(s.State), applied, lag, cell(s.StateHash), cell(s.Detail)})
	}
	fmt.Fprintln(w)
	printTable(w, []string{"service", "server", "state", "applied", "lag", "state hash", "detail"}, rows)
	if len(c.Stores) == 0 {
		return
	}
	rows = nil
	for _, s := range c.Stores {
		cells := []any{cell(s.Name), grouped(s.Messages), bytesText(s.Bytes), idsText(s.Messages, s.FirstID, s.LastID)}
		if len(s.Durables) == 0 {
			rows = append(rows, append(cells, "-"))
		}
		for i, d := range s.Durables {
			if i > 0 {
				cells = []any{"", "", "", ""}
			}
			rows = append(rows, append(cells[:4:4], cell(d.Name), d.Type, grouped(d.Pending), grouped(d.Unacked), grouped(d.Subscribers), cell(d.matcher)))
		}
	}
	fmt.Fprintln(w)
	printTable(w, []string{"store", "messages", "size", "ids", "durable", "type", "pending", "unacked", "subscribers", "matcher"}, rows)
}

// cell is a text of a table: what would disturb a terminal is quoted, and what is
// not known is a dash.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return printable([]byte(text))
}

func idsText(messages, first, last uint64) string {
	if messages == 0 {
		return "-"
	}
	return fmt.Sprintf("%d..%d", first, last)
}

// leaderOf returns the server that leads a cluster; which one may be left open
// where there is one only.
func leaderOf(s *client.Status, cluster string) (string, error) {
	var names []string
	for _, c := range s.Clusters {
		if c.Name == cluster || cluster == "" && len(s.Clusters) == 1 {
			if c.Leader == "" {
				return "", failuref("NO_LEADER", "cluster %s has no leader at present", c.Name)
			}
			if slices.ContainsFunc(s.Servers, func(v client.ServerStatus) bool { return v.Name == c.Leader && !v.Up }) {
				return "", failuref("NO_LEADER", "cluster %s was led by %s, which is down, and has no other leader yet", c.Name, c.Leader)
			}
			return c.Leader, nil
		}
		names = append(names, c.Name)
	}
	there := "there are " + strings.Join(names, ", ")
	if len(names) == 0 {
		there = "the realm has none"
	}
	if cluster == "" {
		return "", fmt.Errorf("which cluster's leader? %s; say --cluster NAME", there)
	}
	return "", fmt.Errorf("no cluster %q; %s", cluster, there)
}
