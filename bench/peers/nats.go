package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/perdure/perdure/bench/limit/child"
	"github.com/perdure/perdure/bench/limit/ratio"
	"github.com/perdure/perdure/internal/fleet"
)

const (
	natsWord     = "nats-server" // first argument of a server process
	natsPatience = 30 * time.Second
	// formTries is how often a cluster that does not form is started anew.
	formTries = 3
)

// natsPeer is NATS JetStream: streams with three replicas. Its cluster stays
// while the durability is the same; streams live for one run.
type natsPeer struct{ current *natsCluster }

func (*natsPeer) name() string { return natsName }

func (p *natsPeer) close() {
	if p.current != nil {
		p.current.stop()
		p.current = nil
	}
}

// cluster returns one of that durability.
func (p *natsPeer) cluster(ctx context.Context, durability string) (*natsCluster, error) {
	if p.current != nil && p.current.durability == durability {
		return p.current, nil
	}
	p.close()
	var failed error
	for range formTries {
		c, err := startNATS(ctx, durability)
		if err == nil {
			p.current = c
			return c, nil
		}
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// run gives do a stream of its own. After an error the next run starts with a
// new cluster.
func (p *natsPeer) run(ctx context.Context, l load, o streamOptions, do natsLoad) (ratio.Figures, error) {
	c, err := p.cluster(ctx, l.Durability)
	if err != nil {
		return nil, err
	}
	f, err := c.run(ctx, l, o, do)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	return f, nil
}

// serveNATS is the program as a server of NATS, as nats-server itself starts it.
func serveNATS(args []string) error {
	child.Follow()
	flags := flag.NewFlagSet(natsWord, flag.ContinueOnError)
	options, err := server.ConfigureOptions(flags, args, nil, nil, nil)
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}

// natsCluster is three running servers.
type natsCluster struct {
	durability string
	dir        string
	urls       []string
	servers    []*child.Child
}

// natsConfig lets a stream queue what all publishers may have outstanding: by
// default it refuses a window of 8,000 messages of 16 KiB.
const natsConfig = `server_name: n%d
listen: 127.0.0.1:%d
jetstream {
  store_dir: %q
  max_mem: 8GB
  max_file: 100GB
  max_buffered_size: 1GB
  %s
}
cluster {
  name: peers
  listen: 127.0.0.1:%d
  routes: [%s]
}
`

// startNATS starts three servers and waits until they can make a stream.
func startNATS(ctx context.Context, durability string) (c *natsCluster, err error) {
	c = &natsCluster{durability: durability}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start NATS: %w; its log ends with: %s", err, c.lastWords())
			c.stop()
		}
	}()
	ports, err := fleet.FreePorts(2)
	if err != nil {
		return c, err
	}
	if c.dir, err = os.MkdirTemp("", "perdure-peers-nats-"); err != nil {
		return c, err
	}
	var routes []string
	for _, port := range ports[3:] {
		routes = append(routes, fmt.Sprintf("\"nats://127.0.0.1:%d\"", port))
	}
	always := ""
	if durability == synced {
		always = "sync_interval: always"
	}
	for i := range 3 {
		c.urls = append(c.urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		config := fmt.Sprintf(natsConfig, i+1, ports[i], filepath.Join(c.dir, fmt.Sprint("n", i+1)), always, ports[3+i], strings.Join(routes, ", "))
		if err := c.start(i, config); err != nil {
			return c, err
		}
	}
	return c, c.ready(ctx)
}

func (c *natsCluster) start(i int, config string) error {
	path := filepath.Join(c.dir, fmt.Sprintf("n%d.conf", i+1))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(c.log(i))
	if err != nil {
		return err
	}
	defer log.Close() // the server has it
	s, _, err := child.Start(log, natsWord, "-c", path)
	if err != nil {
		return err
	}
	c.servers = append(c.servers, s)
	return nil
}

func (c *natsCluster) log(i int) string { return filepath.Join(c.dir, fmt.Sprintf("n%d.log", i+1)) }

// lastWords are what the first server said last.
func (c *natsCluster) lastWords() string {
	text, err := os.ReadFile(c.log(0))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// ready waits until a stream with three replicas can be made.
func (c *natsCluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, natsPatience, fmt.Errorf("waited %v", natsPatience))
	defer cancel()
	for {
		s, err := c.newStream(ctx, streamOptions{})
		if err == nil {
			return s.remove()
		}
		if why := wait(ctx, 100*time.Millisecond); why != nil {
			return errors.Join(why, err)
		}
	}
}

// stop kills the servers and removes their files.
func (c *natsCluster) stop() {
	for _, s := range c.servers {
		s.Stop()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *natsCluster) pids() []int {
	var pids []int
	for _, s := range c.servers {
		pids = append(pids, s.PID())
	}
	return pids
}

// streamOptions are what a path needs of a stream: nothing that costs and is
// not used.
type streamOptions struct {
	fast, atomic bool // batches
	queue        bool // messages go away when they are acknowledged
}

// natsStream is a stream with three replicas, and where it is led.
type natsStream struct {
	cluster *natsCluster
	admin   *nats.Conn
	js      jetstream.JetStream
	url     string // of the leader's server: nobody is nearer
}

const streamName = "S"

// newStream makes the stream and waits until both followers have caught up.
func (c *natsCluster) newStream(ctx context.Context, o streamOptions) (_ *natsStream, err error) {
	admin, err := nats.Connect(c.urls[0])
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			admin.Close()
		}
	}()
	js, err := jetstream.New(admin)
	if err != nil {
		return nil, err
	}
	config := jetstream.StreamConfig{
		Name: streamName, Subjects: []string{streamName + ".>"}, Replicas: 3, Storage: jetstream.FileStorage,
		AllowBatchPublish: o.fast, AllowAtomicPublish: o.atomic,
	}
	if c.durability == memory {
		config.Storage = jetstream.MemoryStorage
	}
	if o.queue {
		config.Retention = jetstream.WorkQueuePolicy
	}
	brief, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	made, err := js.CreateStream(brief, config)
	if err != nil {
		return nil, fmt.Errorf("create a stream: %w", err)
	}
	for {
		info, err := made.Info(brief)
		if err == nil && settled(info.Cluster) {
			url, err := c.url(info.Cluster.Leader)
			return &natsStream{cluster: c, admin: admin, js: js, url: url}, err
		}
		if why := wait(brief, 20*time.Millisecond); why != nil {
			return nil, errors.Join(fmt.Errorf("the stream's replicas are not current: %w", why), err)
		}
	}
}

// settled tells whether a group has a leader and two current followers.
func settled(info *jetstream.ClusterInfo) bool {
	return info != nil && info.Leader != "" && len(info.Replicas) == 2 && info.Replicas[0].Current && info.Replicas[1].Current
}

// url returns where the server of that name listens.
func (c *natsCluster) url(name string) (string, error) {
	for i, url := range c.urls {
		if name == fmt.Sprint("n", i+1) {
			return url, nil
		}
	}
	return "", fmt.Errorf("the leader is %q, which is none of ours", name)
}

// remove deletes the stream and what it holds on disk.
func (s *natsStream) remove() error {
	defer s.admin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	if err := s.js.DeleteStream(ctx, streamName); err != nil {
		return fmt.Errorf("delete the stream: %w", err)
	}
	return nil
}
