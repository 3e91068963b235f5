package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stopPatience is how long servers may take to stop gracefully.
const stopPatience = 15 * time.Second

// fleet is a set of core servers on this machine, each a process of its own.
type fleet struct {
	self    string   // path of this binary
	environ []string // of the servers
	nodes   []*node
}

// newFleet lays out size servers in dir; nothing runs yet. ports are three for
// each server: for clients, peers and operators.
func (p *program) newFleet(dir string, size int, ports []int) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	f := &fleet{self: self}
	for _, kv := range p.environ {
		// What was meant for us is not meant for the servers.
		if !strings.HasPrefix(kv, "PERDURE_") {
			f.environ = append(f.environ, kv)
		}
	}
	for i := range size {
		name := fmt.Sprintf("s%d", i+1)
		address := func(k int) string { return fmt.Sprintf("127.0.0.1:%d", ports[3*i+k]) }
		f.nodes = append(f.nodes, &node{
			name: name, client: address(0), peer: address(1), ops: address(2),
			data: filepath.Join(dir, name), log: filepath.Join(dir, name+".log"),
		})
	}
	return f, nil
}

// core is the --core of every server.
func (f *fleet) core() string {
	list := make([]string, len(f.nodes))
	for i, n := range f.nodes {
		list[i] = n.name + "=" + n.peer
	}
	return strings.Join(list, ",")
}

// connect is the --connect of clients.
func (f *fleet) connect() string {
	list := make([]string, len(f.nodes))
	for i, n := range f.nodes {
		list[i] = n.client
	}
	return strings.Join(list, ",")
}

// node returns the node of that name, or nil.
func (f *fleet) node(name string) *node {
	for _, n := range f.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// start starts one server.
func (f *fleet) start(n *node) error { return n.start(f.self, f.environ, f.core()) }

// startAll starts all servers and waits until every one is ready.
func (f *fleet) startAll(ctx context.Context) error {
	for _, n := range f.nodes {
		if err := f.start(n); err != nil {
			return err
		}
	}
	return f.ready(ctx)
}

// ready waits until every server is ready, or one cannot be any more. If it is
// fencing alone that keeps some from it, the error is a *fencedFleet; it comes
// at once when those are the most.
func (f *fleet) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(f.nodes))
	var fenced atomic.Int32
	var wg sync.WaitGroup
	for i, n := range f.nodes {
		wg.Go(func() {
			errs[i] = n.ready(ctx)
			var forgot *fencedError
			if errors.As(errs[i], &forgot) && 2*int(fenced.Add(1)) < len(f.nodes) {
				return
			}
			if errs[i] != nil {
				cancel() // the others may wait for this one
			}
		})
	}
	wg.Wait()
	found := &fencedFleet{most: 2*int(fenced.Load()) >= len(f.nodes)}
	for _, err := range errs {
		var forgot *fencedError
		switch {
		case errors.As(err, &forgot):
			found.fenced = append(found.fenced, forgot)
		case err != nil && !errors.Is(err, context.Canceled):
			return err
		}
	}
	if len(found.fenced) > 0 {
		return found
	}
	return errors.Join(errs...)
}

// stop stops all servers, gracefully if they can, and waits for them.
func (f *fleet) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		wg.Go(func() { n.stop(ctx) })
	}
	wg.Wait()
}

// kill ends all servers at once and waits for them.
func (f *fleet) kill() {
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		wg.Go(func() { _ = n.kill() })
	}
	wg.Wait()
}

// fixedPorts returns the ports that n servers have from base on.
func fixedPorts(base, n int) []int {
	var ports []int
	for i := range n {
		ports = append(ports, base+10*i, base+10*i+1, base+10*i+2)
	}
	return ports
}

// Where free ports are looked for: below what systems give to connections that
// go out. A server that is restarted must find its port free, and a client that
// dials a dead server must not be given that very port and meet itself.
const lowestPort, highestPort = 20_000, 32_000

// freePorts returns 3n ports that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	var last error
	for tries := 0; len(ports) < 3*n; tries++ {
		if tries == 1000 {
			return nil, fmt.Errorf("no %d free ports between %d and %d on loopback: %w", 3*n, lowestPort, highestPort, last)
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		held, ports = append(held, l), append(ports, port)
	}
	return ports, nil
}
