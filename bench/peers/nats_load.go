package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/perdure/perdure/bench"
	"github.com/perdure/perdure/bench/limit/ratio"
)

const (
	// fillWindow is the window in which a backlog is published.
	fillWindow = 2000
	// pulled is how many messages a consumer asks for at once; held is what all of
	// a durable may have unacknowledged: more does not make NATS faster.
	pulled, held = 4000, 20_000
	// durableName is that of the one consumer.
	durableName = "d"
)

// natsLoad puts a load on a stream and measures it.
type natsLoad func(r *natsRun, ctx context.Context) (ratio.Figures, error)

// paths are how a load can be put on NATS. A window is how many messages of a
// publisher are not confirmed.
func (p *natsPeer) paths(l load) []ratio.Path {
	path := func(name string, o streamOptions, do natsLoad) ratio.Path {
		return ratio.Path{Name: name, Run: func(ctx context.Context) (ratio.Figures, error) { return p.run(ctx, l, o, do) }}
	}
	switch {
	case l.drains():
		return []ratio.Path{path("pull", streamOptions{queue: l.workers > 0}, (*natsRun).drain)}
	case l.rate > 0:
		return []ratio.Path{path("open loop", streamOptions{}, publishing((*natsPublisher).paced))}
	case l.oneByOne:
		return []ratio.Path{path("one by one", streamOptions{}, publishing((*natsPublisher).oneByOne))}
	}
	var paths []ratio.Path
	for _, window := range []int{500, 2000, 8000} {
		do := func(p *natsPublisher, ctx context.Context) error { return p.window(ctx, window, 0) }
		paths = append(paths, path(fmt.Sprint("window ", window), streamOptions{}, publishing(do)))
	}
	paths = append(paths, path("fast batch", streamOptions{fast: true}, publishing((*natsPublisher).fast)))
	if !l.consumed {
		paths = append(paths, path("atomic batch", streamOptions{atomic: true}, publishing((*natsPublisher).atomic)))
	}
	return paths
}

// natsRun is one run on one stream.
type natsRun struct {
	load      load
	stream    *natsStream
	base      time.Time // bodies of an open loop carry the time since then
	confirmed meter     // of what was published
	consumed  meter     // of what was received and acknowledged
	fail      context.CancelCauseFunc

	mu    sync.Mutex
	conns []*nats.Conn
	pulls []jetstream.ConsumeContext
}

// run does a load on a new stream.
func (c *natsCluster) run(ctx context.Context, l load, o streamOptions, do natsLoad) (f ratio.Figures, err error) {
	s, err := c.newStream(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	r := &natsRun{load: l, stream: s, base: time.Now()}
	defer r.close()
	ctx, r.fail = context.WithCancelCause(ctx)
	defer r.fail(nil)
	return do(r, ctx)
}

// close ends consuming and all connections.
func (r *natsRun) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pulls {
		p.Stop()
	}
	for _, c := range r.conns {
		c.Close()
	}
}

// connect returns a connection that close closes.
func (r *natsRun) connect(url string) (*nats.Conn, error) {
	c, err := nats.Connect(url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
	return c, nil
}

// publishing returns a load whose publishers do the same until its time is over.
func publishing(publish func(*natsPublisher, context.Context) error) natsLoad {
	return func(r *natsRun, ctx context.Context) (ratio.Figures, error) {
		m := &r.confirmed
		if r.load.consumed {
			m = &r.consumed
			if err := r.consumeAll(ctx); err != nil {
				return nil, err
			}
		}
		var all sync.WaitGroup
		defer all.Wait()
		defer r.fail(nil) // runs first: it is what they end by
		for i := range r.load.publishers {
			p, err := r.publisher(i)
			if err != nil {
				return nil, err
			}
			all.Go(func() { r.fail(publish(p, ctx)) })
		}
		return m.measure(ctx, r.load, r.stream.cluster.pids())
	}
}

// consumeAll makes the durable and starts everybody who consumes it.
func (r *natsRun) consumeAll(ctx context.Context) error {
	_, url, err := r.durable(ctx)
	if err != nil {
		return err
	}
	return r.consume(ctx, url, func() {})
}

// durable makes the durable consumer and waits until its replicas are current.
// It returns where it is led, too: that may be another server than the stream's.
func (r *natsRun) durable(ctx context.Context) (c jetstream.Consumer, url string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, natsPatience, fmt.Errorf("waited %v", natsPatience))
	defer cancel()
	c, err = r.stream.js.CreateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable: durableName, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: held, AckWait: time.Minute,
	})
	if err != nil {
		return nil, "", fmt.Errorf("create the durable: %w", err)
	}
	for {
		info, err := c.Info(ctx)
		if err == nil && settled(info.Cluster) {
			url, err := r.stream.cluster.url(info.Cluster.Leader)
			return c, url, err
		}
		if why := wait(ctx, 20*time.Millisecond); why != nil {
			return nil, "", errors.Join(fmt.Errorf("the durable's replicas are not current: %w", why), err)
		}
	}
}

// consume pulls messages from the server at url and acknowledges each: one
// consumer, or the workers that share the durable. each is called after every
// message, by all of them.
func (r *natsRun) consume(ctx context.Context, url string, each func()) error {
	for range max(1, r.load.workers) {
		conn, err := r.connect(url)
		if err != nil {
			return err
		}
		js, err := jetstream.New(conn)
		if err != nil {
			return err
		}
		c, err := js.Consumer(ctx, streamName, durableName)
		if err != nil {
			return fmt.Errorf("find the durable: %w", err)
		}
		pull, err := c.Consume(func(m jetstream.Msg) {
			if r.load.rate > 0 {
				meant := time.Duration(binary.LittleEndian.Uint64(m.Data()))
				r.consumed.time(time.Since(r.base) - meant)
			}
			if err := m.Ack(); err != nil {
				r.fail(fmt.Errorf("acknowledge: %w", err))
			}
			r.consumed.messages.Add(1)
			each()
		}, jetstream.PullMaxMessages(pulled))
		if err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		r.mu.Lock()
		r.pulls = append(r.pulls, pull)
		r.mu.Unlock()
	}
	return nil
}

// drain fills the stream, and then measures from subscribing until the server
// has every acknowledgement.
func (r *natsRun) drain(ctx context.Context) (ratio.Figures, error) {
	if err := r.fill(ctx); err != nil {
		return nil, err
	}
	durable, url, err := r.durable(ctx)
	if err != nil {
		return nil, err
	}
	servers := r.stream.cluster.pids()
	before, err := bench.ProcessUsage(servers...)
	if err != nil {
		return nil, err
	}
	began, want := time.Now(), int64(r.load.backlog)
	received := make(chan struct{})
	var once sync.Once
	err = r.consume(ctx, url, func() {
		if r.consumed.messages.Load() >= want {
			once.Do(func() { close(received) })
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-received:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for {
		info, err := durable.Info(ctx)
		if err == nil && info.NumPending == 0 && info.NumAckPending == 0 {
			break
		}
		if why := wait(ctx, 5*time.Millisecond); why != nil {
			return nil, errors.Join(why, err)
		}
	}
	took := time.Since(began)
	after, err := bench.ProcessUsage(servers...)
	if err != nil {
		return nil, err
	}
	return figures(r.load, want, took, before, after), nil
}

// fill publishes the backlog and waits until all of it is confirmed.
func (r *natsRun) fill(ctx context.Context) error {
	var all sync.WaitGroup
	for i := range r.load.publishers {
		p, err := r.publisher(i)
		if err != nil {
			r.fail(err)
			break
		}
		share := r.load.backlog / r.load.publishers
		if i < r.load.backlog%r.load.publishers {
			share++
		}
		all.Go(func() {
			if err := p.window(ctx, fillWindow, share); err != nil {
				r.fail(fmt.Errorf("fill: %w", err))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
