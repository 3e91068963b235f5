package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// HostOptions configure a Host.
type HostOptions struct {
	Transport   Transport
	Server      uint64 // this server's id; see SetServer
	Incarnation uint64 // random, of this process
	Logger      *slog.Logger
}

// tickEvery is how often the host looks which groups are due a tick. It bounds
// how late a tick is.
const tickEvery = 10 * time.Millisecond

// replicaKey names a replica: a server may host two of one group, though it
// should not.
type replicaKey struct{ group, replica uint64 }

// Host runs the replicas of one server: it ticks them together and gives them
// what arrives from peers. It implements [Receiving].
type Host struct {
	opts  HostOptions
	start time.Time
	stop  context.CancelFunc
	done  chan struct{}
	wg    sync.WaitGroup // snapshots between replicas here

	mu struct {
		sync.RWMutex
		groups map[replicaKey]member
		list   []member         // of groups; replaced, never changed
		clocks map[uint64]int64 // server -> its wall clock minus ours
		median int64            // of the servers' clocks and ours, relative to ours
		signs  map[uint64]sign  // of life, by server that is up
		awake  []member         // come to want ticks since the ticker looked
	}
	// patience is the shortest election timeout of a group here that may be quiet.
	patience atomic.Int64
}

// sign of life of another server, in Now.Mono. Each side dials a flow of its own,
// and either may fail alone: the clocks that come show that the other's flow
// carries, the echoes that this side's does.
type sign struct {
	heard int64 // when a clock came from it
	echo  int64 // when the clock left here which it answered last
}

// bothWays is when both flows carried, at the latest.
func (s sign) bothWays() int64 { return min(s.heard, s.echo) }

// member is a Group without its type parameter.
type member interface {
	tick(now int64) bool
	watch(silence func(server uint64, asks bool) int64)
	patience() int64
	receive(e Envelope, m *pb.Message, lone bool)
	receiveSnapshot(Envelope, *pb.Message, io.Reader) error
	peerDown(server uint64)
}

// OpenHost starts a host. It must be closed after its groups.
func OpenHost(opts HostOptions) *Host {
	ctx, stop := context.WithCancel(context.Background())
	h := &Host{opts: opts, start: time.Now(), stop: stop, done: make(chan struct{})}
	h.mu.groups = map[replicaKey]member{}
	h.mu.clocks = map[uint64]int64{}
	h.mu.signs = map[uint64]sign{}
	h.patience.Store(math.MaxInt64)
	go pprof.Do(ctx, pprof.Labels("host", "ticker"), h.run)
	return h
}

// SetTransport gives the host the transport that was opened with the host as
// its receiver. It must be called before the first group starts.
func (h *Host) SetTransport(t Transport) { h.opts.Transport = t }

// Close stops ticking. Groups are closed by whoever started them, before.
func (h *Host) Close() error {
	h.stop()
	<-h.done
	h.wg.Wait()
	return nil
}

func (h *Host) run(ctx context.Context) {
	defer close(h.done)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	var awake []member
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := h.now().Mono
			awake = slices.DeleteFunc(h.arrived(awake), func(g member) bool { return h.rests(g, now) })
			h.watch(now)
		}
	}
}

// arrive puts a group on the ticker's list. It must not be on it.
func (h *Host) arrive(g member) {
	h.mu.Lock()
	h.mu.awake = append(h.mu.awake, g)
	h.mu.Unlock()
}

// arrived appends the groups that came to want ticks.
func (h *Host) arrived(to []member) []member {
	h.mu.Lock()
	defer h.mu.Unlock()
	to = append(to, h.mu.awake...)
	clear(h.mu.awake)
	h.mu.awake = h.mu.awake[:0]
	return to
}

// rests ticks a group that is awake, and reports whether it wants no more of it.
// One that has gone quiet may have missed that a server is down.
func (h *Host) rests(g member, now int64) bool {
	if g.tick(now) {
		return false
	}
	g.watch(h.silence(now))
	return true
}

// watch looks whether a server that is up is silent, and tells the quiet groups
// for which it is for too long. It goes on telling them while that lasts: a group
// that was told is not quiet for long. Of one that is down they were told as it
// went.
func (h *Host) watch(now int64) {
	patience, long := h.patience.Load(), false
	h.mu.RLock()
	for _, s := range h.mu.signs {
		long = long || now-s.bothWays() >= patience
	}
	h.mu.RUnlock()
	if !long {
		return
	}
	silence := h.silence(now)
	for _, g := range h.members() {
		g.watch(silence)
	}
}

// silence returns how long nothing was heard of a server, or, where asks is set,
// nothing or no answer. A server that is down was never heard.
func (h *Host) silence(now int64) func(server uint64, asks bool) int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	signs, own := maps.Clone(h.mu.signs), h.opts.Server
	return func(server uint64, asks bool) int64 {
		switch {
		case server == own:
			return 0
		case asks:
			return now - signs[server].bothWays()
		default:
			return now - signs[server].heard
		}
	}
}

// seen is when another server was heard and heard this one, at the latest.
func (h *Host) seen(server uint64) int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if server == h.opts.Server {
		return h.mono(time.Now())
	}
	return h.mu.signs[server].bothWays()
}

// Echo implements [Receiving].
func (h *Host) Echo(server uint64, left time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, up := h.mu.signs[server]; up {
		h.mu.signs[server] = sign{heard: s.heard, echo: max(s.echo, h.mono(left))}
	}
}

func (h *Host) members() []member {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.mu.list
}

func (h *Host) add(key replicaKey, g member) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.groups[key] != nil {
		return fmt.Errorf("cluster: replica %d of group %d already runs on this server", key.replica, key.group)
	}
	h.mu.groups[key] = g
	h.setList()
	h.patience.Store(min(h.patience.Load(), g.patience()))
	return nil
}

func (h *Host) remove(key replicaKey, g member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.groups[key] == g {
		delete(h.mu.groups, key)
		h.setList()
	}
}

func (h *Host) setList() {
	h.mu.list = make([]member, 0, len(h.mu.groups))
	for _, g := range h.mu.groups {
		h.mu.list = append(h.mu.list, g)
	}
}

func (h *Host) replica(e Envelope) member {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.mu.groups[replicaKey{e.Group, e.To}]
}

// send carries a message to another replica, which may be on this server.
func (h *Host) send(server uint64, e Envelope, m *pb.Message) bool {
	if server == h.server() {
		h.Receive(server, e, m, false) // the sender is in a turn
		return true
	}
	return h.opts.Transport.Send(server, e, m)
}

// sendSnapshot streams a snapshot to another replica, which may be on this
// server.
func (h *Host) sendSnapshot(server uint64, e Envelope, m *pb.Message, body func(io.Writer) error, done func(error)) {
	if server != h.server() {
		h.opts.Transport.SendSnapshot(server, e, m, body, done)
		return
	}
	r, w := io.Pipe()
	h.wg.Go(func() { _ = w.CloseWithError(body(w)) }) // always nil
	h.wg.Go(func() {
		err := h.ReceiveSnapshot(server, e, m, r)
		_ = r.CloseWithError(io.ErrClosedPipe) // always nil; ends the writer if it is not through
		done(err)
	})
}

// SetServer says what this server's id is, once the realm has given it.
func (h *Host) SetServer(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opts.Server = id
}

func (h *Host) server() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.opts.Server
}

// now reads the clocks: the monotonic one of this process, and the median of the
// servers' wall clocks, so that one wrong clock moves nobody's time.
func (h *Host) now() Now {
	t := time.Now()
	h.mu.RLock()
	median := h.mu.median
	h.mu.RUnlock()
	return Now{Mono: h.mono(t), Wall: t.UnixNano() + median}
}

// mono is Now.Mono at a moment.
func (h *Host) mono(t time.Time) int64 { return int64(t.Sub(h.start)) + 1 }

// Receive implements [Receiving].
func (h *Host) Receive(_ uint64, e Envelope, m *pb.Message, lone bool) {
	if g := h.replica(e); g != nil {
		g.receive(e, m, lone)
	}
}

var errNoGroup = errors.New("cluster: this replica does not run here")

// ReceiveSnapshot implements [Receiving].
func (h *Host) ReceiveSnapshot(_ uint64, e Envelope, m *pb.Message, body io.Reader) error {
	g := h.replica(e)
	if g == nil {
		return errNoGroup
	}
	return g.receiveSnapshot(e, m, body)
}

// PeerUp implements [Receiving].
func (h *Host) PeerUp(server uint64) {
	h.opts.Logger.Info("peer up", "peer", server)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.signs[server] = sign{}
}

// PeerDown implements [Receiving].
func (h *Host) PeerDown(server uint64) {
	h.opts.Logger.Info("peer down", "peer", server)
	h.mu.Lock()
	delete(h.mu.clocks, server)
	delete(h.mu.signs, server)
	h.setMedian()
	h.mu.Unlock()
	for _, g := range h.members() {
		g.peerDown(server)
	}
}

// Wall implements [Receiving].
func (h *Host) Wall(server uint64, theirs, ours int64) {
	now := h.now().Mono
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clocks[server] = theirs - ours
	h.setMedian()
	if s, up := h.mu.signs[server]; up {
		h.mu.signs[server] = sign{heard: now, echo: s.echo}
	}
}

// setMedian is called with mu held. Of an even number the lower middle counts.
func (h *Host) setMedian() {
	all := []int64{0}
	for _, d := range h.mu.clocks {
		all = append(all, d)
	}
	slices.Sort(all)
	h.mu.median = all[(len(all)-1)/2]
}
