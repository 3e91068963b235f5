package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/perdure/perdure/bench/limit/child"
	"github.com/perdure/perdure/bench/limit/ratio"
	"github.com/perdure/perdure/internal/fleet"
)

const (
	etcdWord     = "etcd" // first argument of a server process
	etcdPatience = 30 * time.Second
	// etcdKeys is how many keys are put, over and over.
	etcdKeys = 200_000
)

// etcdPeer is etcd: puts of values, which it syncs before it confirms. Its
// servers stay until close.
type etcdPeer struct{ current *etcdCluster }

func (*etcdPeer) name() string { return etcdName }

func (p *etcdPeer) close() {
	if p.current != nil {
		p.current.stop()
		p.current = nil
	}
}

// paths are numbers of clients, each waiting for its put, on some connections:
// etcd confirms each put by itself.
func (p *etcdPeer) paths(l load) []ratio.Path {
	path := func(name string, conns, clients int) ratio.Path {
		return ratio.Path{Name: name, Run: func(ctx context.Context) (ratio.Figures, error) { return p.run(ctx, l, conns, clients) }}
	}
	if l.oneByOne {
		return []ratio.Path{path("one client", 1, 1)}
	}
	return []ratio.Path{
		path("64 clients on 8 connections", 8, 64),
		path("1000 clients on 16 connections", 16, 1000),
	}
}

func (p *etcdPeer) run(ctx context.Context, l load, conns, clients int) (ratio.Figures, error) {
	if p.current == nil {
		c, err := startEtcd(ctx)
		if err != nil {
			return nil, err
		}
		p.current = c
	}
	f, err := p.current.put(ctx, l, conns, clients)
	if err != nil {
		p.close() // the next run starts anew
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return f, nil
}

// serveEtcd is the program as a server of etcd. Arguments: name, directory,
// client URL, peer URL, and all peers as NAME=URL,...
func serveEtcd(args []string) error {
	child.Follow()
	if len(args) != 5 {
		return fmt.Errorf("%d arguments: five are needed", len(args))
	}
	client, err := url.Parse(args[2])
	if err != nil {
		return err
	}
	peer, err := url.Parse(args[3])
	if err != nil {
		return err
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.LogLevel = args[0], args[1], args[4], "error"
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.QuotaBackendBytes = 8 << 30
	s, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	return <-s.Err()
}

// etcdCluster is three running servers.
type etcdCluster struct {
	dir     string
	urls    []string // for clients
	servers []*child.Child
	leader  string // its URL: nobody is nearer
}

// startEtcd starts three servers and waits until they have a leader.
func startEtcd(ctx context.Context) (c *etcdCluster, err error) {
	c = &etcdCluster{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start etcd: %w", err)
			c.stop()
		}
	}()
	ports, err := fleet.FreePorts(2)
	if err != nil {
		return c, err
	}
	if c.dir, err = os.MkdirTemp("", "perdure-peers-etcd-"); err != nil {
		return c, err
	}
	address := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	var all []string
	for i := range 3 {
		c.urls = append(c.urls, address(ports[i]))
		all = append(all, fmt.Sprintf("e%d=%s", i+1, address(ports[3+i])))
	}
	for i := range 3 {
		name := fmt.Sprint("e", i+1)
		s, _, err := child.Start(os.Stderr, etcdWord, name, filepath.Join(c.dir, name), c.urls[i], address(ports[3+i]), strings.Join(all, ","))
		if err != nil {
			return c, err
		}
		c.servers = append(c.servers, s)
	}
	return c, c.ready(ctx)
}

// ready waits until every server answers and all know the same leader.
func (c *etcdCluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, etcdPatience, fmt.Errorf("waited %v", etcdPatience))
	defer cancel()
	for {
		err := c.findLeader(ctx)
		if err == nil {
			return nil
		}
		if why := wait(ctx, 100*time.Millisecond); why != nil {
			return errors.Join(why, err)
		}
	}
}

func (c *etcdCluster) findLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := connectEtcd(c.urls)
	if err != nil {
		return err
	}
	defer client.Close()
	found := ""
	for _, u := range c.urls {
		status, err := client.Status(ctx, u)
		if err != nil {
			return err
		}
		if status.Leader != 0 && status.Leader == status.Header.MemberId {
			found = u
		}
	}
	if found == "" {
		return errors.New("no server leads")
	}
	c.leader = found
	return nil
}

// connectEtcd connects without a log: what fails is returned, and the end of a
// run cancels a thousand puts.
func connectEtcd(urls []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: urls, DialTimeout: etcdPatience, Logger: zap.NewNop()})
}

// stop kills the servers and removes their files.
func (c *etcdCluster) stop() {
	for _, s := range c.servers {
		s.Stop()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *etcdCluster) pids() []int {
	var pids []int
	for _, s := range c.servers {
		pids = append(pids, s.PID())
	}
	return pids
}

// put lets clients put values, each after its last is confirmed.
func (c *etcdCluster) put(ctx context.Context, l load, conns, clients int) (ratio.Figures, error) {
	var shared []*clientv3.Client
	defer func() {
		for _, s := range shared {
			_ = s.Close() // nothing is on its way any more
		}
	}()
	for range conns {
		s, err := connectEtcd([]string{c.leader})
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		shared = append(shared, s)
	}
	ctx, fail := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer fail(nil) // runs first: it is what they end by
	var m meter
	var keys atomic.Uint64
	value := strings.Repeat("v", l.Size)
	for i := range clients {
		all.Go(func() {
			var key [8]byte
			for ctx.Err() == nil {
				binary.BigEndian.PutUint64(key[:], keys.Add(1)%etcdKeys)
				began := time.Now()
				if _, err := shared[i%conns].Put(ctx, string(key[:]), value); err != nil {
					fail(fmt.Errorf("put: %w", err))
					return
				}
				m.messages.Add(1)
				if l.oneByOne {
					m.time(time.Since(began))
				}
			}
		})
	}
	return m.measure(ctx, l, c.pids())
}
