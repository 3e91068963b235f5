package bench

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
	"time"

	"github.com/perdure/perdure/client"
)

const (
	startPatience   = time.Minute     // until all servers are ready
	foundPatience   = 5 * time.Minute // until they have their realm: a thousand clusters take a while
	connectPatience = 30 * time.Second
)

// ServerOptions says how StartServers starts servers. Its zero value is good.
type ServerOptions struct {
	Dir     string   // where the files go; the system's directory of temporary files unless set
	Realm   []byte   // the definition; Realm{Durability, Servers}.Document() unless set
	Environ []string // of the servers; that of this process, without PERDURE_ variables, unless set
}

// Servers are core servers on this machine, each a process: s1, s2 and so on.
// Their methods may be called from several goroutines.
type Servers struct {
	binary    string
	environ   []string
	dir       string
	processes []*process
}

// StartServers starts servers from a binary of perdure, on free ports of
// loopback and with empty directories, gives them a realm, and returns when
// every one of them is ready. Stop ends them.
func StartServers(ctx context.Context, binary string, servers int, durability string, o ServerOptions) (*Servers, error) {
	if servers < 1 || servers > 7 {
		return nil, fmt.Errorf("bench: %d servers: it must be 1 to 7", servers)
	}
	if o.Realm == nil {
		o.Realm = Realm{Durability: durability, Servers: servers}.Document()
	}
	ports, err := freePorts(3 * servers)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "perdure-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &Servers{binary: binary, environ: o.Environ, dir: dir}
	if s.environ == nil {
		s.environ = serverEnviron(os.Environ())
	}
	for i := range servers {
		name := fmt.Sprintf("s%d", i+1)
		address := func(k int) string { return fmt.Sprintf("127.0.0.1:%d", ports[3*i+k]) }
		s.processes = append(s.processes, &process{
			name: name, client: address(0), peer: address(1), operators: address(2),
			data: filepath.Join(dir, name), log: filepath.Join(dir, name+".log"),
		})
	}
	if err := s.found(ctx, o.Realm); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// found starts all servers and gives them their realm.
func (s *Servers) found(ctx context.Context, realm []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, foundPatience, fmt.Errorf("waited %v", foundPatience))
	defer cancel()
	for _, p := range s.processes {
		if err := s.Start(p.name); err != nil {
			return err
		}
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	c, err := s.Connect(ctx, "bench")
	if err != nil {
		return err
	}
	_, err = c.Admin().ApplyRealm(ctx, realm, "the realm of the bench")
	err = errors.Join(err, c.Close(ctx))
	if err != nil {
		return fmt.Errorf("bench: give the servers their realm: %w", err)
	}
	return s.Ready(ctx)
}

// serverEnviron leaves out what was meant for this process.
func serverEnviron(environ []string) []string {
	rest := []string{}
	for _, kv := range environ {
		if !strings.HasPrefix(kv, "PERDURE_") {
			rest = append(rest, kv)
		}
	}
	return rest
}

// Addresses returns where clients connect.
func (s *Servers) Addresses() string {
	var list []string
	for _, p := range s.processes {
		list = append(list, p.client)
	}
	return strings.Join(list, ",")
}

// Connect returns a client of the servers; the caller closes it. What can be
// tried again is tried for 30 seconds.
func (s *Servers) Connect(ctx context.Context, name string) (*client.Client, error) {
	return client.Connect(ctx, s.Addresses(), client.WithName(name),
		client.WithConnectTimeout(connectPatience), client.WithRetry(connectPatience))
}

// Usage returns what all servers have used since they were first started.
func (s *Servers) Usage() (Usage, error) {
	var sum Usage
	for _, p := range s.processes {
		u, err := p.usage()
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, nil
}

// Names returns the names of the servers.
func (s *Servers) Names() []string {
	var names []string
	for _, p := range s.processes {
		names = append(names, p.name)
	}
	return names
}

// Kill ends a server with SIGKILL and returns when its process is gone.
func (s *Servers) Kill(name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	return p.kill()
}

// Start starts a server that does not run. Ready waits for it.
func (s *Servers) Start(name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	var core []string
	for _, p := range s.processes {
		core = append(core, p.name+"="+p.peer)
	}
	return p.start(s.binary, s.environ, strings.Join(core, ","))
}

// Ready waits until every server says that it is ready. It fails as soon as one
// has ended.
func (s *Servers) Ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(s.processes))
	var waiting sync.WaitGroup
	for i, p := range s.processes {
		waiting.Go(func() {
			if errs[i] = p.ready(ctx); errs[i] != nil {
				cancel() // the others may wait for this one
			}
		})
	}
	waiting.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// Stop ends all servers at once and removes their files. Further calls do
// nothing.
func (s *Servers) Stop() error {
	var killing sync.WaitGroup
	for _, p := range s.processes {
		killing.Go(func() { _ = p.kill() }) // fails where none runs
	}
	killing.Wait()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func (s *Servers) process(name string) (*process, error) {
	for _, p := range s.processes {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("bench: there is no server %q", name)
}

// Where free ports are looked for: below what systems give to connections that
// go out. A server that is started again must find its ports free.
const lowestPort, highestPort = 20_000, 32_000

// freePorts returns n ports that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	var last error
	for tries := 0; len(ports) < n; tries++ {
		if tries == 1000 {
			return nil, fmt.Errorf("bench: no %d free ports between %d and %d on loopback: %w", n, lowestPort, highestPort, last)
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
