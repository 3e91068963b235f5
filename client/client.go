package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

const (
	// maxFrame is above the largest legal batch with its envelope.
	maxFrame     = 33 << 20
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// Client owns the connections to the servers, one each. Publishers and
// subscriptions share it and are independent of each other.
type Client struct {
	cfg     clientConfig
	servers []string // as given to Connect
	process uint64   // random, tells this client from others
	ctx     context.Context
	stop    context.CancelCauseFunc
	done    chan struct{} // closed when Close has finished

	mu struct {
		sync.Mutex
		closed    bool
		conns     map[string]*grpc.ClientConn
		children  map[child]struct{} // what Close closes first
		preferred string             // answered last
		failures  map[string]error   // of the last dial of an address
	}
}

// child is a publisher or subscription.
type child interface {
	Close(ctx context.Context) error
}

// Connect returns a client of the realm that the servers at addrs belong to, a
// list such as "127.0.0.1:7400,127.0.0.1:7410". One that answers is enough:
// Connect waits for the first, until ctx ends or the connect timeout is over.
// Any server is as good as any other.
func Connect(ctx context.Context, addrs string, opts ...Option) (*Client, error) {
	c := &Client{
		cfg: clientConfig{
			retry: RetryForever, connectTimeout: connectTimeout, log: slog.New(slog.DiscardHandler),
		},
		process: rand.Uint64() | 1,
		done:    make(chan struct{}),
	}
	for _, o := range opts {
		o.applyClient(&c.cfg)
	}
	for a := range strings.SplitSeq(addrs, ",") {
		if a = strings.TrimSpace(a); a != "" && !slices.Contains(c.servers, a) {
			c.servers = append(c.servers, a)
		}
	}
	if len(c.servers) == 0 {
		return nil, refusal(ErrInvalidArgument, nil, "no address given: name at least one server as HOST:PORT")
	}
	if err := c.cfg.validate(); err != nil {
		return nil, err
	}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	c.mu.conns = make(map[string]*grpc.ClientConn)
	c.mu.failures = make(map[string]error)
	c.mu.children = make(map[child]struct{})
	if err := c.reach(ctx); err != nil {
		return nil, errors.Join(err, c.Close(context.Background()))
	}
	return c, nil
}

// reach waits until some server is connected.
func (c *Client) reach(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, c.cfg.connectTimeout)
	defer cancel()
	reached := make(chan string, len(c.servers)) // one each, so that none blocks
	var wait sync.WaitGroup
	for _, address := range c.servers {
		cc, err := c.conn(address)
		if err != nil {
			return err
		}
		wait.Go(func() {
			if ready(ctx, cc) {
				reached <- address
			}
		})
	}
	defer wait.Wait()
	defer cancel()
	select {
	case address := <-reached:
		c.prefer(address)
		return nil
	case <-ctx.Done():
		err := refusal(ErrUnavailable, ErrTimeout, "none of %s answered%s", strings.Join(c.servers, ", "), c.whyNot(c.servers...))
		err.Retryable = true
		if parent.Err() != nil {
			err.cause = parent.Err()
		}
		return err
	}
}

// reachable waits until cc is connected; false if an attempt fails or ctx ends.
func reachable(ctx context.Context, cc *grpc.ClientConn) bool {
	for failed := false; ; {
		state := cc.GetState()
		switch state {
		case connectivity.Ready:
			return true
		case connectivity.Idle:
			cc.Connect()
		case connectivity.TransientFailure, connectivity.Shutdown:
			if failed || state == connectivity.Shutdown {
				return false
			}
			failed = true // perhaps long ago: see the next attempt
		}
		if !cc.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// ready waits until cc is connected; false if ctx ends first.
func ready(ctx context.Context, cc *grpc.ClientConn) bool {
	for {
		state := cc.GetState()
		switch state {
		case connectivity.Ready:
			return true
		case connectivity.Idle:
			cc.Connect()
		}
		if !cc.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// Close closes every publisher and subscription of the client, then the
// connections. It waits for unconfirmed messages and gives unacknowledged
// deliveries back; both end when ctx does, and then it returns the reason.
// Further calls wait for the first.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.mu.closed {
		c.mu.Unlock()
		<-c.done
		return nil
	}
	c.mu.closed = true
	children := c.mu.children
	c.mu.children = nil
	c.mu.Unlock()
	defer close(c.done)

	var wait sync.WaitGroup
	errs := make(chan error, len(children))
	for ch := range children {
		wait.Go(func() { errs <- ch.Close(ctx) })
	}
	wait.Wait()
	close(errs)
	var joined error
	for err := range errs {
		joined = errors.Join(joined, err)
	}
	c.stop(ErrClosed)
	c.mu.Lock()
	conns := c.mu.conns
	c.mu.conns = nil
	c.mu.Unlock()
	for _, cc := range conns {
		joined = errors.Join(joined, cc.Close())
	}
	return joined
}

// adopt makes Close close ch. It fails when the client is closed.
func (c *Client) adopt(ch child) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return ErrClosed
	}
	c.mu.children[ch] = struct{}{}
	return nil
}

func (c *Client) release(ch child) {
	c.mu.Lock()
	delete(c.mu.children, ch)
	c.mu.Unlock()
}

// conn returns the connection to a server, which connects when it is used.
func (c *Client) conn(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.conns == nil {
		return nil, ErrClosed
	}
	if cc := c.mu.conns[address]; cc != nil {
		return cc, nil
	}
	cc, err := grpc.NewClient("passthrough:///"+address, c.dialOptions()...)
	if err != nil {
		return nil, fmt.Errorf("client: address %q: %w", address, err)
	}
	c.mu.conns[address] = cc
	return cc, nil
}

func (c *Client) dialOptions() []grpc.DialOption {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(), // a stream is resumed above it, batches are not kept twice
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithReadBufferSize(64 << 10),
		grpc.WithWriteBufferSize(128 << 10), // a batch of usual size in one system call
		experimental.WithBufferPool(perdurepb.Pool()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: pauseGrowth, Jitter: 0.3, MaxDelay: longestPause},
			MinConnectTimeout: openTimeout,
		}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(perdurepb.Codec()),
			grpc.MaxCallRecvMsgSize(maxFrame),
			grpc.MaxCallSendMsgSize(maxFrame),
		),
	}
	return append(opts, grpc.WithContextDialer(c.dial))
}

// dial makes a connection, and remembers why it could not.
func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	dial := c.cfg.dialer
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, address)
	if !errors.Is(err, context.Canceled) {
		c.mu.Lock()
		c.mu.failures[address] = err
		c.mu.Unlock()
	}
	return conn, err
}

// whyNot says why addresses could not be dialled, each reason once with its
// first address; "" if that is not known.
func (c *Client) whyNot(addresses ...string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var said, texts []string
	for _, a := range addresses {
		err := c.mu.failures[a]
		if err == nil {
			continue
		}
		for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
			err = inner // the innermost says it without the address
		}
		if !slices.Contains(said, err.Error()) {
			said = append(said, err.Error())
			texts = append(texts, a+": "+err.Error())
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, ", ")
}

// prefer remembers a server that answers.
func (c *Client) prefer(address string) {
	c.mu.Lock()
	c.mu.preferred = address
	c.mu.Unlock()
}

// inOrder returns the servers as given, the one that answered last first.
func (c *Client) inOrder() []string {
	c.mu.Lock()
	preferred := c.mu.preferred
	c.mu.Unlock()
	order := slices.Clone(c.servers)
	if i := slices.Index(order, preferred); i > 0 {
		order = slices.Insert(slices.Delete(order, i, i+1), 0, preferred)
	}
	return order
}
