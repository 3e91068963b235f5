package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/fleet"
	"github.com/perdure/perdure/realm"
)

// startPatience is how long servers may take until they are ready.
const startPatience = time.Minute

// devOptions are the flags of `perdure dev`.
type devOptions struct {
	servers  int
	data     string
	realm    string
	portBase int
	allow    bool // messages may be deleted by the realm
	load     bool
}

func (p *program) devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster for development on this machine, until Ctrl-C",
		Long: "Starts servers, each a process of its own, waits until they are ready, gives them a realm\n" +
			"and stays in the foreground. Their files stay in DIR; the next dev goes on with them.\n" +
			"Without --realm a new cluster gets a realm with an endpoint `default`.\n\n" +
			"A server may have forgotten what it promised, as all that are started again have where the\n" +
			"cluster's durability is memory. Its service is fenced, which is final: dev goes on with a\n" +
			"warning while most servers remember, and ends at once when no cluster has a majority left.\n" +
			"To start anew remove DIR, or choose another --data.\n\n" +
			"A realm that leaves out stores, durables or clusters that hold messages is not applied, and\n" +
			"dev ends, unless --allow-delete says otherwise.\n\n" +
			"DIR is perdure/dev in the user's cache directory, or ./perdure-dev where there is none.\n" +
			"Other terminals find the servers in DIR/dev.json, and see, kill, pause, resume and\n" +
			"restart them with the verbs below.",
		Example: "  perdure dev\n" +
			"  perdure dev --servers 5 --data ./five --realm realm.yaml\n" +
			"  perdure dev kill leader          # in another terminal",
		Args: verb,
	}
	f := cmd.Flags()
	f.IntVar(&o.servers, "servers", 3, "how many servers: 1, 3 or 5")
	f.StringVar(&o.data, "data", "", "directory for all files")
	f.StringVar(&o.realm, "realm", "", "realm definition to apply")
	allowDeleteFlag(cmd, &o.allow)
	f.BoolVar(&o.load, "load", false, "servers load the newest saved states into clusters that hold nothing")
	f.IntVar(&o.portBase, "port-base", 7400, "first port; server n has base+10(n-1) and the two above, 0 picks free ones")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.servers != 1 && o.servers != 3 && o.servers != 5 {
			return usagef(cmd, "--servers %d: it must be 1, 3 or 5", o.servers)
		}
		if o.portBase < 0 || o.portBase > 65_000 {
			return usagef(cmd, "--port-base %d: it must be 0, or 1 to 65000", o.portBase)
		}
		return p.dev(cmd.Context(), o)
	}
	cmd.AddCommand(p.devLsCommand())
	for _, v := range devVerbs {
		cmd.AddCommand(p.devSignalCommand(v))
	}
	return cmd
}

// dev is a running `perdure dev`.
type dev struct {
	p       *program
	fleet   *fleet.Fleet
	dir     string
	control string // path of the socket

	allowDelete bool // the realm that is applied may delete messages

	mu struct {
		sync.Mutex // guards writing dev.json and standard error
	}
}

func (p *program) dev(ctx context.Context, o devOptions) error {
	definition, err := p.validRealmFile(o.realm)
	if err != nil {
		return err
	}
	dir, err := p.devDirectory(o.data)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data: cannot create %s: %w; choose another --data", dir, err)
	}
	if err := devVacant(ctx, dir, o.servers); err != nil {
		return err
	}
	ports := fleet.FixedPorts(o.portBase, o.servers)
	if o.portBase == 0 {
		ports, err = fleet.FreePorts(o.servers)
	} else {
		err = checkPorts(ports)
	}
	if err != nil {
		return err
	}
	d := &dev{p: p, dir: dir, allowDelete: o.allow}
	if d.fleet, err = p.newFleet(dir, ports); err != nil {
		return err
	}
	if o.load {
		d.fleet.More = []string{"--load"}
	}
	for _, n := range d.fleet.Nodes {
		n.Died = d.report
	}
	return d.run(ctx, definition)
}

// devVacant refuses a directory that another dev uses, or that belongs to
// another number of servers, whose list is kept in their data.
func devVacant(ctx context.Context, dir string, servers int) error {
	last, err := readDevState(dir)
	if err != nil || last == nil {
		return err
	}
	if now, err := askControl(ctx, dir, devRequest{Verb: "ls"}); err == nil {
		return fmt.Errorf("a dev runs in %s already, process %d; end it, or choose another --data", dir, now.State.PID)
	}
	if n := len(last.Servers); n != servers {
		return fmt.Errorf("%s belongs to a cluster of %s; say --servers %d, choose another --data, or remove it", dir, countOf(n, "server"), n)
	}
	return nil
}

// checkPorts says at once what a server would say in its log.
func checkPorts(ports []int) error {
	for _, port := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return fmt.Errorf("port %d is not free: %w; end what uses it, or choose another --port-base", port, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// run serves until ctx ends, and leaves no process behind.
func (d *dev) run(ctx context.Context, definition *realmFile) error {
	listener, remove, err := listenControl(d.dir)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	d.control = listener.Addr().String()
	defer func() { _ = remove() }()
	var served sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		_ = listener.Close()
		served.Wait()
		stopFleet(d.fleet)
		_ = d.save()
	}()

	fmt.Fprintf(d.p.stderr, "perdure: starting %s, files in %s\n", countOf(len(d.fleet.Nodes), "server"), d.dir)
	if err := d.save(); err != nil {
		return err
	}
	starting, ready := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("waited %v", startPatience))
	err = d.fleet.StartAll(starting)
	var fenced *fleet.FencedServers
	if errors.As(err, &fenced) {
		err = d.tolerate(starting, fenced)
	}
	var now *realm.Realm
	if err == nil {
		now, err = d.establish(starting, definition)
	}
	ready()
	if err != nil {
		return err
	}
	if err := d.save(); err != nil {
		return err
	}
	// Who asks before is answered from here on.
	served.Go(func() { serveControl(ctx, listener, d.answer) })
	d.welcome(d.p.stdout, now)
	<-ctx.Done()
	fmt.Fprintln(d.p.stderr, "perdure: stopping")
	return nil
}

// save writes dev.json.
func (d *dev) save() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state()
	return s.write(d.dir)
}

func (d *dev) state() devState {
	s := devState{PID: os.Getpid(), Control: d.control, Connect: d.fleet.Connect()}
	for _, n := range d.fleet.Nodes {
		state, pid := n.State()
		s.Servers = append(s.Servers, devServer{
			Name: n.Name, State: state, PID: pid,
			Client: n.Client, Peer: n.Peer, Ops: n.Ops, Data: n.Data, Log: n.Log,
		})
	}
	return s
}

// report tells of a server that ended although nobody asked it to.
func (d *dev) report(n *fleet.Node, how string) {
	d.say("%s %s; its log is %s; start it again with: perdure dev restart %s", n.Name, how, n.Log, n.Name)
}

// say tells what happened, and brings dev.json up to date.
func (d *dev) say(format string, args ...any) {
	err := d.save()
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.p.stderr, "perdure: "+format+"\n", args...)
	if err != nil {
		fmt.Fprintf(d.p.stderr, "perdure: %s cannot be written: %v\n", devFile, err)
	}
}

// answer carries out what another terminal asks for.
func (d *dev) answer(ctx context.Context, r devRequest) devResponse {
	var warning string
	if r.Verb != "ls" {
		err := d.do(ctx, r)
		var fenced *fleet.FencedError
		if errors.As(err, &fenced) {
			warning = fmt.Sprintf("%v; %s", fenced, d.whatNow())
			d.say("warning: %s", warning)
		} else if err != nil {
			return devResponse{Error: err.Error()}
		}
	}
	return devResponse{State: d.state(), Warning: warning}
}

func (d *dev) do(ctx context.Context, r devRequest) error {
	n := d.fleet.Node(r.Server)
	if n == nil {
		var names []string
		for _, n := range d.fleet.Nodes {
			names = append(names, n.Name)
		}
		return fmt.Errorf("no server %q; there are %s", r.Server, strings.Join(names, ", "))
	}
	var v *devVerb
	for i := range devVerbs {
		if devVerbs[i].name == r.Verb {
			v = &devVerbs[i]
		}
	}
	if v == nil {
		return errors.New("unknown request; this perdure and the one that runs dev are of different versions")
	}
	err := v.do(ctx, d, n)
	var fenced *fleet.FencedError
	if err == nil || errors.As(err, &fenced) {
		d.say("%s %s", n.Name, v.done)
	}
	return err
}

// welcome prints where the servers are and what to try.
func (d *dev) welcome(w io.Writer, r *realm.Realm) {
	printDevTable(w, d.state())
	fmt.Fprintf(w, "\n%s\nCtrl-C stops all servers; their files stay in %s\n", hints(r, d.fleet.Connect(), d.dir), d.dir)
}

func printDevTable(w io.Writer, s devState) {
	var rows [][]any
	for _, n := range s.Servers {
		pid := "-"
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		rows = append(rows, []any{n.Name, n.State, pid, n.Client, n.Peer, n.Ops, n.Log})
	}
	printTable(w, []string{"server", "state", "pid", "clients", "peers", "operators", "log"}, rows)
}
