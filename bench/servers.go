package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

// dirPrefix is what the names of our directories begin with.
const dirPrefix = "perdure-bench-"

const (
	startPatience = time.Minute     // until all servers are ready
	foundPatience = 5 * time.Minute // until they have their realm: a thousand clusters take a while

	// Patience is how long clients try again before a run fails: longer than
	// messages wait for each other when hundreds of clusters are at their limit.
	Patience = 30 * time.Second

	// readyPoll is how often what is about to happen is looked for.
	readyPoll = 20 * time.Millisecond
)

// ServerOptions says how StartServers starts servers. Its zero value is good.
type ServerOptions struct {
	Dir     string   // where the files go; the system's directory of temporary files unless set
	Realm   []byte   // the definition; Realm{Durability, Servers}.Document() unless set
	Environ []string // of the servers, but for PERDURE_ variables; that of this process unless set
}

// Servers are core servers on this machine, each a process: s1, s2 and so on.
// Their methods may be called from several goroutines.
type Servers struct {
	fleet *fleet.Fleet
	dir   string
	lock  *os.File // says that dir is in use; may be nil

	mu   sync.Mutex
	past Usage // of the processes that were killed
	died error // the first that ended and nobody here meant it
}

// StartServers starts servers from a binary of perdure, on free ports of
// loopback and with empty directories, gives them a realm, and returns when
// every one of them is ready. Stop ends them. On Linux it also removes what
// processes have left in o.Dir that were killed before they could Stop.
func StartServers(ctx context.Context, binary string, servers int, durability string, o ServerOptions) (*Servers, error) {
	if servers < 1 || servers > 7 {
		return nil, fmt.Errorf("bench: %d servers: it must be 1 to 7", servers)
	}
	if o.Realm == nil {
		o.Realm = Realm{Durability: durability, Servers: servers}.Document()
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	ports, err := fleet.FreePorts(servers)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	sweep(o.Dir)
	dir, err := os.MkdirTemp(o.Dir, dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := newServers(binary, o.Environ, dir, ports)
	if s.lock, err = claim(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), s.Stop())
	}
	if err := s.found(ctx, o.Realm); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// newServers lays out servers in a directory; nothing runs yet.
func newServers(binary string, environ []string, dir string, ports []int) *Servers {
	s := &Servers{fleet: fleet.New(binary, environ, dir, ports), dir: dir}
	for _, n := range s.fleet.Nodes {
		n.Died = func(n *fleet.Node, how string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.died == nil {
				s.died = fmt.Errorf("server %s %s, and the bench did not end it, so no figure is right; "+
					"its log ends with: %s", n.Name, how, fleet.LastLine(n.Log))
			}
		}
	}
	return s
}

// found starts all servers and gives them their realm.
func (s *Servers) found(ctx context.Context, realm []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, foundPatience, fmt.Errorf("waited %v", foundPatience))
	defer cancel()
	if err := s.fleet.StartAll(ctx); err != nil {
		return fmt.Errorf("bench: %w", err)
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

// Addresses returns where clients connect.
func (s *Servers) Addresses() string { return s.fleet.Connect() }

// Connect returns a client of the servers; the caller closes it. What can be
// tried again is tried for 30 seconds.
func (s *Servers) Connect(ctx context.Context, name string) (*client.Client, error) {
	return client.Connect(ctx, s.Addresses(), client.WithName(name),
		client.WithConnectTimeout(Patience), client.WithRetry(Patience))
}

// Usage returns what all servers have used since they were first started. It is
// an error if one has ended and it was not Kill that ended it.
func (s *Servers) Usage() (Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.died != nil {
		return Usage{}, s.died
	}
	sum := s.past
	for _, n := range s.fleet.Nodes {
		if _, pid := n.State(); pid != 0 {
			u, err := ProcessUsage(pid)
			if err != nil {
				return Usage{}, err
			}
			sum.add(u)
		}
	}
	return sum, nil
}

// Names returns the names of the servers.
func (s *Servers) Names() []string {
	var names []string
	for _, n := range s.fleet.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// Kill ends a server with SIGKILL and returns when its process is gone.
func (s *Servers) Kill(name string) error {
	return s.do(name, func(n *fleet.Node) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, pid := n.State()
		last, unknown := ProcessUsage(pid)
		err := n.Kill()
		if err == nil && unknown == nil {
			last.Servers, last.RSS = 0, 0 // it runs no more
			s.past.add(last)
		}
		return err
	})
}

// Pause stops a server where it stands, with SIGSTOP.
func (s *Servers) Pause(name string) error { return s.do(name, (*fleet.Node).Pause) }

// Resume lets a server go on that Pause stopped.
func (s *Servers) Resume(name string) error { return s.do(name, (*fleet.Node).Resume) }

// Start starts a server that does not run. Ready waits for it.
func (s *Servers) Start(name string) error { return s.do(name, s.fleet.Start) }

func (s *Servers) do(name string, what func(*fleet.Node) error) error {
	n := s.fleet.Node(name)
	if n == nil {
		return fmt.Errorf("bench: there is no server %q", name)
	}
	if err := what(n); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// Ready waits until every server says that it is ready. It fails as soon as one
// cannot be any more.
func (s *Servers) Ready(ctx context.Context) error {
	if err := s.fleet.Ready(ctx); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// Stop ends all servers at once and removes their files. Further calls do
// nothing.
func (s *Servers) Stop() error {
	s.fleet.Kill()
	err := os.RemoveAll(s.dir)
	_ = s.lock.Close() // a nil one, or a second time, is an error that says nothing
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
