package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/peer"
	"github.com/perdure/perdure/cluster/raftlog"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/realm/catalog"
)

// Version is the version of this build.
const Version = "0.1.0-dev"

// Limits of the client listener (hazards S9, S10; the default of gRPC is below a
// legal message).
const (
	maxReceive        = 34 << 20 // a message at the hard cap and what is around it
	streamWindow      = 4 << 20
	connectionWindow  = 16 << 20
	readBuffer        = 128 << 10 // of a connection while data is there: a batch of usual size in one system call
	maxStreams        = 4096      // of one connection
	maxStreamsInAll   = 65536     // that publish or subscribe
	connectionTimeout = 10 * time.Second
	maxHeaderList     = 16 << 10

	// maxImages bounds the states that are saved at a time, each of which takes the
	// memory of another machine; others wait. The server's own backups, one at a time,
	// come in addition.
	maxImages = 4
	// maxLoads bounds the loads, which keep what a file says of durables; others are
	// refused.
	maxLoads = 8
)

// Server is one process of Perdure. Open starts it, Close stops and joins it.
type Server struct {
	perdurepb.UnimplementedMessagesServer
	perdurepb.UnimplementedAdminServer

	config      Config
	logger      *slog.Logger
	id          *identity
	incarnation uint64
	began       time.Time
	engines     *engines
	host        *cluster.Host
	transport   *peer.Transport
	realm       *realmNode
	reconciler  *reconciler
	startLoads  *startLoads // nil without --load
	grpc        *grpc.Server
	health      *readiness
	ops         *http.Server
	streams     *streams
	images      chan struct{} // of states that are being saved
	// readPatience is the constant of this name.
	readPatience time.Duration
	sendPatience time.Duration // likewise
	loads        chan struct{} // of states that are being loaded
	metrics      metrics

	ids    atomic.Uint64
	server atomic.Uint64 // this server's id; 0 until registered
	stops  atomic.Bool
	asked  chan struct{} // closed when somebody asks the server to stop
	asking sync.Once
	cancel context.CancelFunc
	wg     sync.WaitGroup // what runs until the server stops
	closer sync.Once
	done   chan struct{}
	err    error // of Close

	helpers sync.WaitGroup // goroutines of streams

	clientAddr, opsAddr string
}

// metrics counts what nobody is told about.
type metrics struct {
	dropped atomic.Uint64 // noconfirm publishes that were not stored
	panics  atomic.Uint64 // while serving clients
}

// Open starts a server. When it returns, the listeners are open; whether the
// server is ready is what /readyz says. It undoes what it did when it fails.
func Open(ctx context.Context, config Config, logger *slog.Logger) (_ *Server, err error) {
	core, err := config.CoreServers()
	if err != nil {
		return nil, err
	}
	if err := prepareDir("data", config.Data); err != nil {
		return nil, err
	}
	if config.StateDir != "" {
		if err := prepareDir("state-dir", config.StateDir); err != nil {
			return nil, err
		}
	}
	s := &Server{
		config: config, logger: logger.With("server", config.Name), incarnation: random64(), began: time.Now(), done: make(chan struct{}), asked: make(chan struct{}),
		engines: &engines{dir: config.Data, networkFS: config.NetworkFS, logger: logger, byMode: map[realm.Durability]*raftlog.Engine{}, there: map[realm.Durability]map[uint64]bool{}},
		streams: newStreams(maxStreamsInAll), images: make(chan struct{}, maxImages), readPatience: readPatience, sendPatience: sendPatience, loads: make(chan struct{}, maxLoads),
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	// The engine first: it holds the directory's lock.
	if _, err := s.engines.engine(syncEngine); err != nil {
		return nil, err
	}
	if s.id, err = openIdentity(config.Data, config.Name); err != nil {
		return nil, err
	}
	s.ids.Store(random64())
	s.server.Store(s.id.Server)
	for _, c := range core {
		if c.Name == config.Name {
			s.server.Store(c.ID)
		}
	}
	s.reconciler = newReconciler(s)
	s.startLoads = newStartLoads(s)
	s.realm = newRealmNode(s, core)
	if err := s.listen(core); err != nil {
		return nil, err
	}
	for _, f := range []func(context.Context){s.realm.run, s.realm.cache, s.realm.register, s.reconciler.run, s.runBackups} {
		s.wg.Go(func() { f(run) })
	}
	return s, nil
}

// listen opens the three listeners and what serves them.
func (s *Server) listen(core []CoreServer) error {
	listeners := make([]net.Listener, 0, 3)
	for _, l := range []struct{ key, addr string }{
		{"listen_client", s.config.ListenClient}, {"listen_peer", s.config.ListenPeer}, {"listen_ops", s.config.ListenOps},
	} {
		ln, err := net.Listen("tcp", l.addr)
		if err != nil {
			for _, open := range listeners {
				err = errors.Join(err, open.Close())
			}
			return fmt.Errorf("%s: cannot listen on %s: %w; stop what uses the port, or choose another", l.key, l.addr, err)
		}
		listeners = append(listeners, ln)
	}
	s.clientAddr, s.opsAddr = listeners[0].Addr().String(), listeners[2].Addr().String()
	s.host = cluster.OpenHost(cluster.HostOptions{Server: s.serverID(), Incarnation: s.incarnation, Logger: s.logger})
	var err error
	s.transport, err = peer.Open(peer.Options{
		Server: s.serverID(), Name: s.config.Name, Realm: s.realm.realmID, Incarnation: s.incarnation,
		Listener: listeners[1], Receiving: s.host, Logger: s.logger, Accept: s.accept,
		OnCall: func(ctx context.Context, _ peer.PeerIdentity, kind uint8, body []byte) ([]byte, error) {
			return s.onCall(ctx, kind, body)
		},
	})
	if err != nil {
		return errors.Join(err, listeners[0].Close(), listeners[1].Close(), listeners[2].Close())
	}
	s.host.SetTransport(s.transport)
	if s.realm.formation != nil {
		s.realm.formation.call = s.transport.Call
		s.setCorePeers(core)
	}
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(perdurepb.Codec()), experimental.BufferPool(perdurepb.Pool()),
		grpc.ReadBufferSize(readBuffer), grpc.MaxRecvMsgSize(maxReceive), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connectionWindow),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(connectionTimeout), grpc.MaxHeaderListSize(maxHeaderList),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true), grpc.UnaryInterceptor(s.guardCall), grpc.StreamInterceptor(s.guardStream),
	)
	perdurepb.RegisterMessagesServer(s.grpc, s)
	perdurepb.RegisterAdminServer(s.grpc, s)
	s.health = newReadiness(s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.ops = &http.Server{Handler: s.opsHandler(), ReadHeaderTimeout: connectionTimeout, IdleTimeout: time.Minute}
	s.wg.Go(func() {
		if err := s.grpc.Serve(listeners[0]); err != nil {
			s.logger.Error("client listener", "err", err)
		}
	})
	s.wg.Go(func() {
		if err := s.ops.Serve(listeners[2]); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("operators' listener", "err", err)
		}
	})
	s.logger.Info("listening", "client", s.clientAddr, "peer", listeners[1].Addr().String(), "ops", s.opsAddr)
	return nil
}

// accept says whether a peer message may come from a server: its sender's
// replica must live there.
func (s *Server) accept(server uint64, e cluster.Envelope) bool {
	if e.Group == catalog.RealmGroup {
		return server == e.From
	}
	v := s.realm.view()
	if v == nil {
		return false
	}
	c := v.ClusterByID(e.Group)
	if c == nil {
		return false
	}
	for _, svc := range c.Services {
		if svc.ReplicaID == e.From {
			return svc.ServerID == server
		}
	}
	return false
}

func (s *Server) setCorePeers(core []CoreServer) {
	peers := map[uint64]peer.Peer{}
	for _, c := range core {
		if c.Name != s.config.Name {
			peers[c.ID] = peer.Peer{Name: c.Name, Address: c.Addr}
		}
	}
	s.transport.SetPeers(peers)
}

// setPeers makes the servers of the realm known to the transport. Core servers
// are where the configuration says.
func (s *Server) setPeers(v *catalog.View) {
	peers := map[uint64]peer.Peer{}
	for _, srv := range v.Servers {
		if srv.Name != s.config.Name && srv.Peer != "" {
			peers[srv.ID] = peer.Peer{Name: srv.Name, Address: srv.Peer}
		}
	}
	for _, c := range s.realm.core {
		if c.Name != s.config.Name {
			peers[c.ID] = peer.Peer{Name: c.Name, Address: c.Addr}
		}
	}
	s.transport.SetPeers(peers)
}

// registration is what this server says about itself.
func (s *Server) registration() catalog.Server {
	r := catalog.Server{Name: s.config.Name, Client: s.clientAddr, Peer: s.transport.Addr().String(), Ops: s.opsAddr, Region: s.config.Region, Core: s.realm.self != nil}
	if s.config.AdvertiseClient != "" {
		r.Client = s.config.AdvertiseClient
	}
	if s.config.AdvertisePeer != "" {
		r.Peer = s.config.AdvertisePeer
	}
	return r
}

func (s *Server) serverID() uint64 { return s.server.Load() }

// setServerID notes the id that the realm gave this server.
func (s *Server) setServerID(id uint64) {
	if s.server.Swap(id) == id {
		return
	}
	s.host.SetServer(id)
	if err := s.transport.SetServer(id); err != nil {
		s.logger.Error("server id", "err", err)
	}
	s.id.Server = id
	if err := s.id.save(s.config.Data); err != nil {
		s.logger.Error("server id not saved", "err", err) // the realm gives it again
	}
	s.reconciler.again()
}

// nextID names a subscription; unique among processes but for chance.
func (s *Server) nextID() uint64 { return s.ids.Add(1) }

// groupFailed logs a replica that stopped; others go on.
func (s *Server) groupFailed(err error) { s.logger.Error("a replica stopped", "err", err) }

func (s *Server) stopping() bool { return s.stops.Load() }

// StopAsked is closed when a client has asked the server to stop. Its process is to
// call Close then.
func (s *Server) StopAsked() <-chan struct{} { return s.asked }

// Done is closed when the server has stopped.
func (s *Server) Done() <-chan struct{} { return s.done }

// ClientAddr, PeerAddr and OpsAddr are where the server listens.
func (s *Server) ClientAddr() string { return s.clientAddr }

// PeerAddr is where other servers connect.
func (s *Server) PeerAddr() string { return s.transport.Addr().String() }

// OpsAddr is where operators connect.
func (s *Server) OpsAddr() string { return s.opsAddr }

// Close stops the server: it moves leadership away, ends streams with a hint,
// and closes everything in the reverse order of opening. ctx bounds the
// handing over; what is left is then cut off. Closing twice is harmless.
func (s *Server) Close(ctx context.Context) error {
	s.closer.Do(func() {
		s.err = s.close(ctx)
		close(s.done)
	})
	<-s.done
	return s.err
}

func (s *Server) close(ctx context.Context) error {
	s.stops.Store(true)
	var errs []error
	if s.grpc != nil {
		s.health.Shutdown()
		s.handOver(ctx)
		s.streams.endAll(faultf(perdurepb.Reason_REASON_STOPPING, "server %s is stopping; reconnect to another", s.config.Name))
		s.stopGRPC(ctx)
		s.helpers.Wait()
	}
	if s.ops != nil {
		errs = append(errs, s.ops.Close())
	}
	s.cancel()
	s.wg.Wait()
	if s.reconciler != nil {
		for _, h := range s.reconciler.all() {
			if h.group != nil {
				_ = h.group.Close() // why it stopped was logged
			}
		}
	}
	if s.realm != nil {
		if g := s.realm.group(); g != nil {
			_ = g.Close()
		}
	}
	if s.transport != nil {
		errs = append(errs, s.transport.Close())
	}
	if s.host != nil {
		errs = append(errs, s.host.Close())
	}
	return errors.Join(append(errs, s.engines.close())...)
}

// stopPatience is how long streams have to end by themselves.
const stopPatience = 2 * time.Second

// stopGRPC waits for handlers, a little, then cuts them off.
func (s *Server) stopGRPC(ctx context.Context) {
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
	case <-time.After(stopPatience):
		s.grpc.Stop()
	}
	<-stopped
}
