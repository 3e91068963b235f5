package realm

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/message"
)

// Limits of a definition.
const (
	MaxDocument    = 1 << 20 // bytes of a document
	MaxServices    = 7       // services of a cluster
	MaxWeight      = 10      // weight of a service, and its default
	MaxDescription = 4096    // bytes of a description
	MaxPrefetch    = 1 << 20 // messages

	// Of scheduled backups.
	MinBackupEvery = time.Second
	MaxBackupEvery = 366 * 24 * time.Hour
	MaxBackupKeep  = 1000
)

// Defaults of a store and of durables.
const (
	DefaultMaxMessageSize   = int64(message.MaxMessageSize)
	DefaultStandardPrefetch = 1024
	DefaultSharedPrefetch   = 256
	DefaultBackupKeep       = 24
)

// Names of the templates that every store has without listing them.
const (
	BuiltinStandard = "ftl.standard.template"
	BuiltinShared   = "ftl.shared.template"
)

// Realm is a whole definition. One that came from Parse, or passed Validate, is
// complete and consistent, and is not changed any more: it may be shared.
type Realm struct {
	Name      string
	Clusters  []Cluster
	Endpoints []Endpoint

	source   source
	warnings []Problem
}

// Cluster is a set of services that replicate the same stores.
type Cluster struct {
	Name       string // unique in the realm
	Durability Durability
	Tuning     Tuning
	Backup     Backup
	Services   []Service // 1, 3, 5 or 7
	Stores     []Store
}

// Backup is what each service of a cluster does for itself: every so often it
// saves the state, and of these files it keeps the newest. Without Every it does
// not.
type Backup struct {
	Every time.Duration
	Keep  int
}

// String is empty if there are no backups.
func (b Backup) String() string {
	if b.Every == 0 {
		return ""
	}
	return fmt.Sprintf("{every: %s, keep: %d}", b.Every, b.Keep)
}

// Tuning holds the times of a cluster. All can be changed while it runs.
type Tuning struct {
	Profile Profile // where values come from that the document does not give

	Tick            time.Duration // the unit in which a replica sees time
	Heartbeat       time.Duration // of the leader to its followers
	ElectionTimeout time.Duration // silence until an election; drawn up to twice
	ClientHeartbeat time.Duration // between clients and the leader, when idle
	ClientTimeout   time.Duration // silence until either gives the other up
	SyncInterval    time.Duration // between syncs, with durability async
	SuspendGrace    time.Duration // for acknowledgements, when the cluster is suspended
}

// Service is one replica's place: who is to host it.
type Service struct {
	Name        string // unique in the cluster
	Server      string
	Weight      int // 1 to 10; the greater, the rather it leads
	Description string
}

// Store is a named sequence of messages.
type Store struct {
	Name                string // unique in the realm
	PublisherMode       PublisherMode
	ByteLimit           int64 // bytes kept; 0 is no limit
	MessageLimit        int64 // messages kept; 0 is no limit
	MaxMessageSize      int64 // bytes of one message
	DynamicDurableLimit int64 // dynamic durables; 0 is no limit
	Durables            []Durable
	Templates           []Template
}

// Durable is a lasting interest that exists by definition (a static one).
type Durable struct {
	Name     string // unique in the store
	Kind     Kind
	Matcher  string // canonical; empty matches every message
	Prefetch int    // messages sent ahead of acknowledgements
}

// Template says how durables are made that subscribers ask for (dynamic ones).
// The matcher is the subscriber's.
type Template struct {
	Name     string // unique in the store
	Kind     Kind
	Prefetch int
}

// Endpoint is the name by which clients reach a store.
type Endpoint struct {
	Name           string // unique in the realm
	Store          string
	Templates      []string          // at most one of each kind
	DefaultDurable string            // for subscribers that name nothing; may be empty
	Subscribers    map[string]string // subscriber name to static durable
}

// Warnings returns what is allowed but probably not meant, in the order of the
// document. The caller must not change it.
func (r *Realm) Warnings() []Problem { return r.warnings }

// Cluster returns the cluster of that name, or nil.
func (r *Realm) Cluster(name string) *Cluster {
	for i := range r.Clusters {
		if r.Clusters[i].Name == name {
			return &r.Clusters[i]
		}
	}
	return nil
}

// Store returns the store of that name and its cluster, or nil.
func (r *Realm) Store(name string) (*Cluster, *Store) {
	for i := range r.Clusters {
		if s := r.Clusters[i].Store(name); s != nil {
			return &r.Clusters[i], s
		}
	}
	return nil, nil
}

// Store returns the store of that name, or nil.
func (c *Cluster) Store(name string) *Store {
	for i := range c.Stores {
		if c.Stores[i].Name == name {
			return &c.Stores[i]
		}
	}
	return nil
}

// Durable returns the static durable of that name, or nil.
func (s *Store) Durable(name string) *Durable {
	for i := range s.Durables {
		if s.Durables[i].Name == name {
			return &s.Durables[i]
		}
	}
	return nil
}

// Template returns the template of that name, own or built in.
func (s *Store) Template(name string) (Template, bool) {
	for _, t := range s.Templates {
		if t.Name == name {
			return t, true
		}
	}
	return Builtin(name)
}

// Builtin returns the built-in template of that name.
func Builtin(name string) (Template, bool) {
	switch name {
	case BuiltinStandard:
		return Template{Name: name, Kind: Standard, Prefetch: DefaultStandardPrefetch}, true
	case BuiltinShared:
		return Template{Name: name, Kind: Shared, Prefetch: DefaultSharedPrefetch}, true
	}
	return Template{}, false
}

// DefaultPrefetch returns the prefetch of a durable that does not say.
func DefaultPrefetch(k Kind) int {
	if k == Shared {
		return DefaultSharedPrefetch
	}
	return DefaultStandardPrefetch
}

// DefaultTuning returns the values of a profile.
func DefaultTuning(p Profile) Tuning {
	t := Tuning{
		Profile:         p,
		Tick:            50 * time.Millisecond,
		Heartbeat:       100 * time.Millisecond,
		ElectionTimeout: 500 * time.Millisecond,
		ClientHeartbeat: time.Second,
		ClientTimeout:   5 * time.Second,
		SyncInterval:    100 * time.Millisecond,
		SuspendGrace:    5 * time.Second,
	}
	if p == FastProfile {
		t.Tick = 20 * time.Millisecond
		t.Heartbeat = 40 * time.Millisecond
		t.ElectionTimeout = 150 * time.Millisecond
	}
	return t
}

// fill replaces zero values by their defaults.
func (r *Realm) fill() {
	for i := range r.Clusters {
		r.Clusters[i].fill()
	}
}

func (c *Cluster) fill() {
	if c.Durability == 0 {
		c.Durability = Sync
	}
	c.Tuning.fill()
	if c.Backup.Every != 0 && c.Backup.Keep == 0 {
		c.Backup.Keep = DefaultBackupKeep
	}
	for i := range c.Services {
		if c.Services[i].Weight == 0 {
			c.Services[i].Weight = MaxWeight
		}
	}
	for i := range c.Stores {
		c.Stores[i].fill()
	}
}

func (s *Store) fill() {
	if s.PublisherMode == 0 {
		s.PublisherMode = Confirm
	}
	if s.MaxMessageSize == 0 {
		s.MaxMessageSize = DefaultMaxMessageSize
	}
	for i := range s.Durables {
		if d := &s.Durables[i]; d.Prefetch == 0 {
			d.Prefetch = DefaultPrefetch(d.Kind)
		}
	}
	for i := range s.Templates {
		if t := &s.Templates[i]; t.Prefetch == 0 {
			t.Prefetch = DefaultPrefetch(t.Kind)
		}
	}
}

// fill takes what is zero from the profile.
func (t *Tuning) fill() {
	if t.Profile == 0 {
		t.Profile = DefaultProfile
	}
	from := DefaultTuning(t.Profile)
	for i, value := range t.durations() {
		if *value == 0 {
			*value = *from.durations()[i]
		}
	}
}

// tuningKeys are the keys of the durations, in the order of the document.
var tuningKeys = []string{"tick", "heartbeat", "election_timeout", "client_heartbeat", "client_timeout", "sync_interval", "suspend_grace"}

// durations returns the fields that belong to tuningKeys.
func (t *Tuning) durations() []*time.Duration {
	return []*time.Duration{&t.Tick, &t.Heartbeat, &t.ElectionTimeout, &t.ClientHeartbeat, &t.ClientTimeout, &t.SyncInterval, &t.SuspendGrace}
}

// ValidName checks a name as package message does, for callers that do not use
// that package otherwise.
func ValidName(name string) error { return message.ValidName(name) }
