package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// Limits and defaults of a Load.
const (
	MaxPublishers = 1024
	MaxSize       = message.MaxMessageSize / 2 // bytes of a body

	DefaultWarmup   = 2 * time.Second
	DefaultDuration = 5 * time.Second
	DefaultCount    = 1_000_000 // of publish on the command line
	DefaultRate     = 20_000

	DefaultBackupRate = 100_000 // of backup
	DefaultBound      = 100_000 // messages of a stream that are published and not consumed

	// stampSize is what the time of publishing takes of a body.
	stampSize = 8
	// defaultBacklogBytes bounds the backlog that is not given as a number.
	defaultBacklogBytes = 256 << 20
	maxBacklog          = 1 << 30
)

// Load is what Run does. Zero values become the defaults that are named; what a
// scenario has no use for is ignored.
type Load struct {
	Scenario string // one of Scenarios
	Endpoint string // "bench", or "shared" where Workers share a durable

	Size       int // bytes of a body; scenarios that time receiving need 8
	Publishers int // each with a client of its own; 1
	Window     int // batches of a publisher that are unconfirmed; the client's default
	Batch      int // bytes at which a batch is sent; the client's default
	Together   int // messages that are published by one call and confirmed before the next; 0: each by itself
	Sync       bool
	Rate       int // messages a second of an open loop, or in backup at most; 20,000 and 100,000

	Workers  int // subscribers that share a durable; 0: one subscriber of a standard durable
	Durables int // how many consume; 1
	Prefetch int // messages that a subscriber holds unacknowledged; the durable's own limit
	Matchers int // durables that share the messages out among them by a field
	Clusters int // each with a publisher of its own; 1

	Warmup, Duration time.Duration // 2 s and 5 s; a negative Warmup is none
	Count            int           // instead of Duration: messages, besides a twentieth to warm up
	Backlog          int           // messages: to drain, or that may be unconsumed in a stream; 100,000 there

	Kills int  // of leaders, in failover; 3
	Fast  bool // Realm has the profile that elects leaders soon

	// Connect makes a client; Run closes it.
	Connect func(ctx context.Context, name string) (*client.Client, error)
	// Usage returns what the servers have used so far; an error ends the run. It
	// may be nil.
	Usage func() (Usage, error)
	// Servers are what scenarios kill and start again. Others do not need them.
	Servers *Servers
	// Progress is told about once a second how it goes. It may be nil.
	Progress func(Progress)
}

// Progress is how a run goes.
type Progress struct {
	Phase      string
	Elapsed    time.Duration // of the phase
	Messages   int64         // of the phase
	MsgsPerSec float64       // since the last Progress
}

// A scenario is one kind of load.
type scenario struct {
	about string
	times bool // bodies carry the time, so that receiving is timed
	takes bool // consumes what it publishes
	own   bool // needs Servers
	run   func(*run) (*Figures, error)
}

// Scenarios returns the names that Run knows, sorted.
func Scenarios() []string { return slices.Sorted(maps.Keys(scenarios())) }

// About says in one line what a scenario does.
func About(name string) string { return scenarios()[name].about }

// NeedsServers tells whether a scenario kills servers, looks at what they use, or
// wants a realm that nobody else has, so that it has to be given Servers.
func NeedsServers(name string) bool { return scenarios()[name].own }

// Endpoints names what the load publishes to.
func (l Load) Endpoints() []string {
	l = l.withDefaults()
	if l.Scenario != "clusters" {
		return []string{l.Endpoint}
	}
	var names []string
	for i := range l.Clusters {
		names = append(names, numbered(l.Endpoint, i))
	}
	return names
}

// Consumes names the durables of the endpoint that the load takes messages from:
// "" is its default. Nobody else may want anything of them.
func (l Load) Consumes() []string {
	if !scenarios()[l.Scenario].takes {
		return nil
	}
	names := []string{""}
	if l.Workers == 0 {
		for i := range max(1, l.Durables) - 1 {
			names = append(names, numbered(standardDurable, i+1))
		}
	}
	return names
}

// Run connects, puts the load on the servers, and returns what it measured. It
// ends early, with an error, when ctx ends, a message is refused or what came
// back is not what was sent.
func Run(ctx context.Context, l Load) (*Figures, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if NeedsServers(l.Scenario) && l.Servers == nil {
		return nil, fmt.Errorf("bench: %s: it needs servers of its own; give it Servers", l.Scenario)
	}
	l = l.withDefaults()
	r := newRun(ctx, l)
	defer r.close()
	f, err := scenarios()[l.Scenario].run(r)
	if cause := context.Cause(r.ctx); cause != nil {
		return nil, fmt.Errorf("bench: %s: %w", l.Scenario, cause)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", l.Scenario, err)
	}
	return f, nil
}

// Validate says everything that is out of range, a line each that begins with
// what it is about.
func (l Load) Validate() error {
	s, known := scenarios()[l.Scenario]
	if !known {
		return fmt.Errorf("there is no scenario %q; there are: %s", l.Scenario, strings.Join(Scenarios(), ", "))
	}
	l = l.withDefaults()
	var errs []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s %d: it must be %d to %d", name, value, low, high))
		}
	}
	if s.times {
		check("size", l.Size, stampSize, MaxSize)
	} else {
		check("size", l.Size, 0, MaxSize)
	}
	check("count", l.Count, 0, 1<<40)
	check("publishers", l.Publishers, 1, MaxPublishers)
	check("window", l.Window, 1, client.MaxWindowBatches)
	check("batch", l.Batch, 1, message.MaxBatchSize)
	check("together", l.Together, 0, message.MaxBatchMessages)
	check("rate", l.Rate, 1, 10_000_000)
	check("workers", l.Workers, 0, 1024)
	check("durables", l.Durables, 1, 1024)
	check("matchers", l.Matchers, 0, 10_000)
	check("clusters", l.Clusters, 1, 1024)
	check("prefetch", l.Prefetch, 0, 1<<20)
	check("kills", l.Kills, 1, 1000)
	check("backlog", l.Backlog, 0, maxBacklog)
	if l.Workers > 1 && l.Durables > 1 {
		errs = append(errs, fmt.Errorf("workers %d: workers share one durable, and there are %d", l.Workers, l.Durables))
	}
	if l.Together > 0 && l.Sync {
		errs = append(errs, fmt.Errorf("together %d: with sync there is one message at a time; give one of them", l.Together))
	}
	if l.Together > 0 && l.Together*(l.Size+64) > message.MaxBatchSize && l.Together > 1 {
		errs = append(errs, fmt.Errorf("together %d: so many messages of %d bytes are more than a batch may have; the limit is %d bytes",
			l.Together, l.Size, message.MaxBatchSize))
	}
	for name, d := range map[string]time.Duration{"duration": l.Duration, "warmup": l.Warmup} {
		if d < 0 || d > 24*time.Hour {
			errs = append(errs, fmt.Errorf("%s %v: it must be 0 to 24 hours", name, d))
		}
	}
	return errors.Join(errs...)
}

func (l Load) withDefaults() Load {
	set := func(value *int, unless int) {
		if *value == 0 {
			*value = unless
		}
	}
	set(&l.Publishers, 1)
	set(&l.Window, client.DefaultWindowBatches)
	set(&l.Batch, client.DefaultBatchTarget)
	if l.Scenario == "backup" {
		set(&l.Rate, DefaultBackupRate)
	}
	set(&l.Rate, DefaultRate)
	set(&l.Durables, 1)
	set(&l.Clusters, 1)
	set(&l.Kills, 3)
	if l.Endpoint == "" {
		l.Endpoint = DefaultEndpoint
		if l.Workers > 0 {
			l.Endpoint = SharedEndpoint
		}
	}
	if l.Duration == 0 {
		l.Duration = DefaultDuration
	}
	if l.Warmup == 0 {
		l.Warmup = DefaultWarmup
	}
	l.Warmup = max(0, l.Warmup)
	return l
}

// Realm returns what servers must hold for the load.
func (l Load) Realm(durability string, servers int) Realm {
	r := Realm{Durability: durability, Servers: servers, Clusters: l.Clusters, Durables: l.Durables, Fast: l.Fast}
	if l.Scenario == "match" {
		r.Matchers = max(1, l.Matchers)
	}
	return r
}

// backlog is how many messages are put aside where none are named: a million,
// or what 256 MiB hold.
func (l *Load) backlog() int {
	if l.Backlog > 0 {
		return l.Backlog
	}
	return max(100, min(1_000_000, defaultBacklogBytes/max(1, l.Size)))
}
