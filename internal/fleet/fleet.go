package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// Fleet is a set of core servers on this machine, each a process of its own:
// s1, s2 and so on.
type Fleet struct {
	Nodes   []*Node
	More    []string // arguments of every server, besides what says where it is
	binary  string
	environ []string
}

// New lays out servers in a directory; nothing runs yet. binary is the program
// perdure. environ is for the servers, without what was meant for this process:
// variables that begin with PERDURE_. ports are three for each server: for
// clients, peers and operators.
func New(binary string, environ []string, dir string, ports []int) *Fleet {
	f := &Fleet{binary: binary, environ: []string{}} // nil would be the environment of this process
	for _, kv := range environ {
		if !strings.HasPrefix(kv, "PERDURE_") {
			f.environ = append(f.environ, kv)
		}
	}
	for i := range len(ports) / 3 {
		name := fmt.Sprintf("s%d", i+1)
		address := func(k int) string { return fmt.Sprintf("127.0.0.1:%d", ports[3*i+k]) }
		f.Nodes = append(f.Nodes, &Node{
			Name: name, Client: address(0), Peer: address(1), Ops: address(2),
			Data: filepath.Join(dir, name), Log: filepath.Join(dir, name+".log"),
		})
	}
	return f
}

// core is the --core of every server.
func (f *Fleet) core() string {
	list := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		list[i] = n.Name + "=" + n.Peer
	}
	return strings.Join(list, ",")
}

// Connect is the --connect of clients.
func (f *Fleet) Connect() string {
	list := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		list[i] = n.Client
	}
	return strings.Join(list, ",")
}

// Node returns the node of that name, or nil.
func (f *Fleet) Node(name string) *Node {
	for _, n := range f.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Start starts one server.
func (f *Fleet) Start(n *Node) error { return n.start(f.binary, f.environ, f.core(), f.More) }

// StartAll starts all servers and waits until every one is ready.
func (f *Fleet) StartAll(ctx context.Context) error {
	for _, n := range f.Nodes {
		if err := f.Start(n); err != nil {
			return err
		}
	}
	return f.Ready(ctx)
}

// Ready waits until every server is ready, or one cannot be any more. If it is
// fencing alone that keeps some from it, the error is a *FencedServers; it comes
// at once when those are the most.
func (f *Fleet) Ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(f.Nodes))
	var fenced atomic.Int32
	var wg sync.WaitGroup
	for i, n := range f.Nodes {
		wg.Go(func() {
			errs[i] = n.Ready(ctx)
			var forgot *FencedError
			if errors.As(errs[i], &forgot) && 2*int(fenced.Add(1)) < len(f.Nodes) {
				return
			}
			if errs[i] != nil {
				cancel() // the others may wait for this one
			}
		})
	}
	wg.Wait()
	found := &FencedServers{Most: 2*int(fenced.Load()) >= len(f.Nodes)}
	for _, err := range errs {
		var forgot *FencedError
		switch {
		case errors.As(err, &forgot):
			found.Fenced = append(found.Fenced, forgot)
		case err != nil && !errors.Is(err, context.Canceled):
			return err
		}
	}
	if len(found.Fenced) > 0 {
		return found
	}
	return errors.Join(errs...)
}

// Stop stops all servers, gracefully until ctx ends, and waits for them.
func (f *Fleet) Stop(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(func() { n.Stop(ctx) })
	}
	wg.Wait()
}

// Kill ends all servers at once and waits for them.
func (f *Fleet) Kill() {
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(func() { _ = n.Kill() })
	}
	wg.Wait()
}

// FixedPorts returns the ports that n servers have from base on.
func FixedPorts(base, n int) []int {
	var ports []int
	for i := range n {
		ports = append(ports, base+10*i, base+10*i+1, base+10*i+2)
	}
	return ports
}
