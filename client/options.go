package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/perdure/perdure/message"
)

// Retry durations with a meaning of their own; every other is how long to go on.
const (
	RetryForever time.Duration = -1
	RetryNever   time.Duration = 0
)

// Defaults and limits.
const (
	DefaultBatchTarget   = 64 << 10 // bytes
	DefaultWindowBatches = 8
	DefaultWindowBytes   = 8 << 20
	MaxWindowBatches     = 64 // a store remembers as many outcomes of a session

	connectTimeout = 10 * time.Second // of Connect
)

// Option configures a Client.
type Option interface{ applyClient(*clientConfig) }

// PublisherOption configures a Publisher.
type PublisherOption interface{ applyPublisher(*publisherConfig) }

// SubscribeOption configures a Subscription.
type SubscribeOption interface{ applySubscribe(*subscribeConfig) }

type clientConfig struct {
	name           string
	retry          time.Duration
	connectTimeout time.Duration
	log            *slog.Logger
	dialer         func(context.Context, string) (net.Conn, error)
}

type publisherConfig struct {
	retry         time.Duration
	failWhenFull  bool
	batchTarget   int
	windowBatches int
	windowBytes   int
	compression   message.Compression
	session       *Session // the only one; nil: whichever
}

type subscribeConfig struct {
	retry         time.Duration
	durable       string
	subscriber    string
	kind          Kind
	matcher       string
	prefetch      int
	prefetchBytes int
}

// Kind is a kind of durable.
type Kind uint8

// The kinds. KindAny takes the durable as it is; a new one becomes standard.
const (
	KindAny Kind = iota
	KindStandard
	KindShared
)

// String returns "standard", "shared" or "any".
func (k Kind) String() string {
	switch k {
	case KindStandard:
		return "standard"
	case KindShared:
		return "shared"
	}
	return "any"
}

// RetryOption is accepted wherever something is retried.
type RetryOption struct{ duration time.Duration }

// WithRetry sets how long is retried what may succeed later: RetryNever (0),
// a duration, or RetryForever (-1), the default. Given to Connect it is the
// default of that client's publishers and subscriptions. What can never succeed
// (ErrNoSuchEndpoint, ErrMessageTooLarge, ...) is not retried at all. While a
// cluster is suspended (ErrSuspended), publishing and subscribing are retried.
func WithRetry(d time.Duration) RetryOption { return RetryOption{d} }

func (o RetryOption) applyClient(c *clientConfig)       { c.retry = o.duration }
func (o RetryOption) applyPublisher(c *publisherConfig) { c.retry = o.duration }
func (o RetryOption) applySubscribe(c *subscribeConfig) { c.retry = o.duration }

type clientOption func(*clientConfig)

func (f clientOption) applyClient(c *clientConfig) { f(c) }

// WithName names the program, for status and logs of servers.
func WithName(name string) Option {
	return clientOption(func(c *clientConfig) { c.name = name })
}

// WithLogger makes the client tell of lost connections, of new ones and of
// failed handlers. Without it nothing is logged.
func WithLogger(log *slog.Logger) Option {
	return clientOption(func(c *clientConfig) { c.log = log })
}

// WithConnectTimeout limits how long Connect looks for a server, 10 s unless
// set.
func WithConnectTimeout(d time.Duration) Option {
	return clientOption(func(c *clientConfig) { c.connectTimeout = d })
}

// WithDialer replaces how connections are made, for tests and proxies. The
// function is called with an address as given to Connect or as a server named
// it.
func WithDialer(dial func(ctx context.Context, address string) (net.Conn, error)) Option {
	return clientOption(func(c *clientConfig) { c.dialer = dial })
}

func (c *clientConfig) validate() error {
	if c.retry < RetryForever {
		return badRetry(c.retry)
	}
	if c.connectTimeout <= 0 {
		return refusal(ErrInvalidArgument, nil, "connect timeout %v: it must be positive", c.connectTimeout)
	}
	return nil
}

type publisherOption func(*publisherConfig)

func (f publisherOption) applyPublisher(c *publisherConfig) { f(c) }

// WithFailWhenFull makes PublishAsync return ErrWindowFull where it would wait.
func WithFailWhenFull() PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.failWhenFull = true })
}

// WithBatchTarget sets the bytes at which a batch is sent while earlier ones
// are unconfirmed: 64 KiB unless set, at most 1 MiB.
func WithBatchTarget(bytes int) PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.batchTarget = bytes })
}

// WithWindow limits what is sent and not confirmed: 8 batches and 8 MiB unless
// set, at most 64 batches. A single batch always passes.
func WithWindow(batches, bytes int) PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.windowBatches, c.windowBytes = batches, bytes })
}

// WithCompression compresses batches where that makes them smaller.
func WithCompression(how message.Compression) PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.compression = how })
}

func (c *publisherConfig) validate() error {
	var errs []error
	if c.retry < RetryForever {
		errs = append(errs, badRetry(c.retry))
	}
	if c.batchTarget < 1 || c.batchTarget > message.MaxBatchSize {
		errs = append(errs, fmt.Errorf("batch target of %d bytes: it must be 1 to %d", c.batchTarget, message.MaxBatchSize))
	}
	if c.windowBatches < 1 || c.windowBatches > MaxWindowBatches {
		errs = append(errs, fmt.Errorf("window of %d batches: it must be 1 to %d", c.windowBatches, MaxWindowBatches))
	}
	if c.windowBytes < 1 {
		errs = append(errs, fmt.Errorf("window of %d bytes: it must be positive", c.windowBytes))
	}
	return invalidOptions(errs)
}

type subscribeOption func(*subscribeConfig)

func (f subscribeOption) applySubscribe(c *subscribeConfig) { f(c) }

// Durable names the durable to subscribe; the endpoint's template creates it if
// it does not exist.
func Durable(name string) SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.durable = name })
}

// SubscriberName gives a name that the endpoint maps to a static durable.
func SubscriberName(name string) SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.subscriber = name })
}

// Shared says that the durable is, or is to be created, shared.
func Shared() SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.kind = KindShared })
}

// Standard says that the durable is, or is to be created, standard.
func Standard() SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.kind = KindStandard })
}

// Match gives the matcher, a JSON object: `{"origin":"LAS"}`. It must be that
// of the durable if that exists.
func Match(matcher string) SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.matcher = matcher })
}

// Prefetch limits the messages that the client holds unacknowledged; the
// durable's own limit holds unless set.
func Prefetch(messages int) SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.prefetch = messages })
}

// PrefetchBytes limits the bytes that the client holds unacknowledged: 16 MiB
// unless set. One message always passes.
func PrefetchBytes(bytes int) SubscribeOption {
	return subscribeOption(func(c *subscribeConfig) { c.prefetchBytes = bytes })
}

func (c *subscribeConfig) validate() error {
	var errs []error
	if c.retry < RetryForever {
		errs = append(errs, badRetry(c.retry))
	}
	if c.durable != "" && c.subscriber != "" {
		errs = append(errs, errors.New("a durable and a subscriber name: give one of them"))
	}
	if c.prefetch < 0 || c.prefetchBytes < 0 {
		errs = append(errs, fmt.Errorf("prefetch of %d messages and %d bytes: it cannot be negative", c.prefetch, c.prefetchBytes))
	}
	if c.matcher != "" {
		if _, err := message.ParseMatcher(c.matcher); err != nil {
			return refusal(ErrInvalidMatcher, err, "%v", err)
		}
	}
	return invalidOptions(errs)
}

func badRetry(d time.Duration) error {
	return refusal(ErrInvalidArgument, nil, "retry duration %v: it is RetryForever, RetryNever or positive", d)
}

func invalidOptions(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return refusal(ErrInvalidArgument, nil, "%v", errors.Join(errs...))
}
