package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// Transport carries the messages of one process. All methods are safe for
// concurrent use.
type Transport struct {
	opts     Options
	log      *slog.Logger
	listener net.Listener
	start    time.Time // of this process's monotonic clock
	id       atomic.Uint64
	counts   counts

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc

	connections, handshakes, calls, receiving slots

	// known is replaced as a whole, so that Send takes no lock.
	known   atomic.Pointer[map[uint64]*peer]
	changes sync.Mutex // one SetPeers at a time

	mu      sync.Mutex
	closed  bool
	sending map[snapshotKey]struct{}
	told    map[string]struct{} // refusals of strangers that were logged
	wg      sync.WaitGroup      // everything but what belongs to a peer
}

var _ cluster.Transport = (*Transport)(nil)

// Open starts listening. The transport knows no peers until SetPeers, but
// serves calls. It must be closed.
func Open(opts Options) (*Transport, error) {
	if err := opts.prepare(); err != nil {
		return nil, fmt.Errorf("open peer transport: %w", err)
	}
	listener := opts.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", opts.Address); err != nil {
			return nil, fmt.Errorf("listen for peers: %w", err)
		}
	}
	t := &Transport{
		opts:        opts,
		log:         opts.Logger,
		listener:    listener,
		start:       time.Now(),
		connections: newSlots(opts.Limits.Connections),
		handshakes:  newSlots(opts.Limits.Handshakes),
		calls:       newSlots(opts.Limits.Calls),
		receiving:   newSlots(opts.Limits.Snapshots),
		sending:     map[snapshotKey]struct{}{},
		told:        map[string]struct{}{},
	}
	t.id.Store(opts.Server)
	t.known.Store(&map[uint64]*peer{})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Add(1)
	go t.accept()
	return t, nil
}

// Addr returns the address that peers connect to.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// SetServer gives a server that was opened without an id the one that it was
// assigned. It can be given once; giving it again is an error unless equal.
func (t *Transport) SetServer(id uint64) error {
	if id == 0 || !t.id.CompareAndSwap(0, id) && t.id.Load() != id {
		return fmt.Errorf("set server id to %d: it is %d already", id, t.id.Load())
	}
	return nil
}

// SetPeers replaces the servers that are known. This server's own id is ignored.
// Peers whose name and address stay the same keep their connections. It returns
// when all goroutines of the peers that went are joined: nothing of them is
// delivered afterwards. It must not be called from Receiving or an option.
func (t *Transport) SetPeers(peers map[uint64]Peer) {
	t.changes.Lock()
	defer t.changes.Unlock()
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return
	}
	t.replacePeers(peers)
}

func (t *Transport) replacePeers(peers map[uint64]Peer) {
	old := *t.known.Load()
	next := make(map[uint64]*peer, len(peers))
	var gone, fresh []*peer
	for id, p := range peers {
		if id == 0 || id == t.opts.Server || id == t.id.Load() {
			continue
		}
		if o := old[id]; o != nil && o.Peer == p {
			next[id] = o
			continue
		}
		next[id] = newPeer(t, id, p)
		fresh = append(fresh, next[id])
	}
	for id, o := range old {
		if next[id] != o {
			gone = append(gone, o)
		}
	}
	// A server whose address changed is unknown while the old one is joined, so
	// that its PeerDown and PeerUp come in order.
	interim := maps.Clone(next)
	for _, p := range fresh {
		delete(interim, p.id)
	}
	t.known.Store(&interim)
	for _, p := range gone {
		p.stop()
	}
	for _, p := range gone {
		p.wg.Wait()
	}
	t.known.Store(&next)
	for _, p := range fresh {
		p.begin()
	}
}

// peer returns the peer with an id, or nil.
func (t *Transport) peer(id uint64) *peer { return (*t.known.Load())[id] }

// Close closes every connection and joins every goroutine, those of Receiving
// and of OnCall included, and calls PeerDown for peers that were up. What was
// not sent is lost. Closing twice is allowed.
func (t *Transport) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	var err error
	if !closed {
		if err = t.listener.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	t.changes.Lock()
	defer t.changes.Unlock()
	t.replacePeers(nil)
	t.wg.Wait()
	if err != nil {
		return fmt.Errorf("close peer listener: %w", err)
	}
	return nil
}

// Send queues m for a server and never blocks. It reports false when m was
// dropped at once: the server is not known, no connection to it stands, the
// queue is full, m is too large for a frame, or m may not travel: a local type,
// MsgProp, MsgSnap (see SendSnapshot), or one whose From and To are not the
// envelope's. Entries are shared and must not change. The envelope's incarnation
// is not sent: the receiver fills in the one of the handshake.
func (t *Transport) Send(server uint64, e cluster.Envelope, m *pb.Message) bool {
	p := t.peer(server)
	if p == nil {
		t.counts.unsent.Add(1)
		return false
	}
	ok := acceptable(e, m) && m.GetType() != pb.MsgSnap
	if ok && isAppend(m) {
		ok = p.sendAppend(e, m)
	} else if ok {
		ok = p.sendControl(e, m)
	}
	if !ok {
		t.counts.unsent.Add(1)
		p.unsent.Add(1)
	}
	return ok
}

// join counts a goroutine that Close waits for. It reports false after Close.
func (t *Transport) join() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Add(1)
	return true
}

// slots bounds how many of something there are at a time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() { <-s }
