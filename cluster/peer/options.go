package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/perdure/perdure/cluster"
)

// Peer is a server that others know.
type Peer struct {
	Name    string // as it says in its handshake; empty accepts any
	Address string // host:port of its peer listener
}

// Core returns the servers of a core list, name to address, under their fixed
// ids: the position of the name in the sorted list, from 1.
func Core(addresses map[string]string) map[uint64]Peer {
	names := make([]string, 0, len(addresses))
	for name := range addresses {
		names = append(names, name)
	}
	slices.Sort(names)
	peers := make(map[uint64]Peer, len(names))
	for i, name := range names {
		peers[uint64(i+1)] = Peer{Name: name, Address: addresses[name]}
	}
	return peers
}

// PeerIdentity is who made a call.
type PeerIdentity struct {
	Server      uint64 // 0 while it has no id
	Name        string
	Realm       [16]byte // zero while it knows none
	Incarnation uint64
	Address     string // it called from here
	// Known says that Server and Name are those of a known peer. If not, they
	// are only what the caller says.
	Known bool
}

// Options are what Open needs. Functions must be safe for concurrent use, quick,
// and must not call Close or SetPeers.
type Options struct {
	// Server is this server's id. An auxiliary server that has none yet leaves
	// it 0, may only call and be called, and gives it to SetServer later.
	Server uint64
	Name   string
	// Realm returns the realm's id, zero until the realm is formed. It is asked
	// for every frame. Two ids differ if neither is zero and they are not equal.
	Realm func() [16]byte
	// Incarnation is random, drawn anew by every process.
	Incarnation uint64

	// Listener is where peers connect; it belongs to the transport. If nil, Open
	// listens on Address.
	Listener net.Listener
	Address  string
	// Dial connects to a peer; nil is plain TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Identify returns the name that a connection proves, accepted or dialed,
	// before anything is read from it. nil believes the handshake, for networks
	// where only servers can connect.
	Identify func(net.Conn) (name string, err error)

	// Receiving takes what arrives. It is not called before the first SetPeers.
	Receiving cluster.Receiving
	// Accept says whether a message from a server may pass: that the replica
	// e.From lives on that server. nil accepts all.
	Accept func(server uint64, e cluster.Envelope) bool
	// OnCall answers a call. Its error's text goes to the caller. ctx ends when
	// the caller gives up. nil refuses all calls.
	OnCall func(ctx context.Context, from PeerIdentity, kind uint8, body []byte) ([]byte, error)

	Logger *slog.Logger     // nil discards
	Now    func() time.Time // this server's wall clock; nil is time.Now
	Limits Limits
}

// Limits are bounds in time and number. Zero fields get the default.
type Limits struct {
	Handshake   time.Duration // from connected to ready; 5 s
	Clock       time.Duration // a process that was not heard for three of them may be replaced; 500 ms
	Beat        time.Duration // between two clock frames; 50 ms, at most Clock
	Silence     time.Duration // of a control connection before it is closed; 5 s
	Stall       time.Duration // of a write, or of a snapshot's next chunk; 30 s
	Answer      time.Duration // of a snapshot's receiver after the last chunk; 2 min
	MinBackoff  time.Duration // before connecting again; 20 ms
	MaxBackoff  time.Duration // 500 ms
	Connections int           // accepted, all kinds; 1,024
	Handshakes  int           // accepted and not yet known; 128
	Calls       int           // served at a time; 64
	Snapshots   int           // sent at a time, and received at a time; 16
}

func (l *Limits) setDefaults() {
	durations := []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Handshake, 5 * time.Second},
		{&l.Clock, 500 * time.Millisecond},
		{&l.Silence, 5 * time.Second},
		{&l.Stall, 30 * time.Second},
		{&l.Answer, 2 * time.Minute},
		{&l.MinBackoff, 20 * time.Millisecond},
		{&l.MaxBackoff, 500 * time.Millisecond},
	}
	for _, d := range durations {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Beat == 0 {
		l.Beat = min(cluster.Beat, l.Clock)
	}
	counts := []struct {
		field *int
		value int
	}{{&l.Connections, 1024}, {&l.Handshakes, 128}, {&l.Calls, 64}, {&l.Snapshots, 16}}
	for _, c := range counts {
		if *c.field == 0 {
			*c.field = c.value
		}
	}
}

// prepare checks the options and fills in defaults.
func (o *Options) prepare() error {
	var errs []error
	if o.Name == "" || len(o.Name) > 256 {
		errs = append(errs, errors.New("option Name must have 1 to 256 bytes"))
	}
	if o.Incarnation == 0 {
		errs = append(errs, errors.New("option Incarnation must be a random number, not 0"))
	}
	if o.Receiving == nil {
		errs = append(errs, errors.New("option Receiving is missing"))
	}
	if o.Listener == nil && o.Address == "" {
		errs = append(errs, errors.New("neither Listener nor Address is given"))
	}
	if o.Realm == nil {
		o.Realm = func() [16]byte { return [16]byte{} }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Accept == nil {
		o.Accept = func(uint64, cluster.Envelope) bool { return true }
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	o.Limits.setDefaults()
	return errors.Join(errs...)
}

// keepAlive finds a dead host within 11 s where nothing else would: on idle
// append connections and calls that wait.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	return d.DialContext(ctx, "tcp", address)
}
