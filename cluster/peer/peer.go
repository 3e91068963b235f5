package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	peerpb "github.com/perdure/perdure/api/peer/v1"
)

// peer is a known server: its queues, its connections, and whether it is up.
type peer struct {
	Peer
	id  uint64
	t   *Transport
	log *slog.Logger

	ctx     context.Context // ends when the peer is no longer known
	cancel  context.CancelFunc
	control *controlQueue
	appends *appendQueue
	// knock has a value when the peer has just shown to be alive, for each of the
	// two that keep a connection to it.
	knock [2]chan struct{}

	unsent, sent, received atomic.Uint64
	rtt                    atomic.Int64 // nanoseconds

	mu        sync.Mutex
	gone      bool
	wg        sync.WaitGroup // grows under mu while not gone
	in, out   *line          // control connections
	inAppend  *line
	outAppend *line
	lastErr   error
	lastErrAt time.Time
	logged    map[error]struct{} // causes logged since the peer was last up
	live      sync.Mutex         // orders PeerUp and PeerDown
	up        atomic.Bool        // changes under live
}

// line is a control or append connection that stands.
type line struct {
	*conn
	heard atomic.Int64 // on the transport's monotonic clock

	clocks struct {
		sync.Mutex
		sent []sentClock // and not answered, the oldest first
	}
}

// sentClock is a clock frame that waits for its echo.
type sentClock struct {
	wall uint64        // what it says
	at   time.Duration // when it left, on the transport's monotonic clock
}

// maxClocks bounds what is remembered of clock frames: a connection with more of
// them unanswered is about to be closed.
const maxClocks = 256

// sends remembers a clock frame that is about to leave.
func (l *line) sends(c sentClock) {
	l.clocks.Lock()
	defer l.clocks.Unlock()
	if len(l.clocks.sent) == maxClocks {
		l.clocks.sent = slices.Delete(l.clocks.sent, 0, 1)
	}
	l.clocks.sent = append(l.clocks.sent, c)
}

// answered returns when the clock frame left that was echoed. Echoes come in
// order.
func (l *line) answered(wall uint64) (at time.Duration, ok bool) {
	l.clocks.Lock()
	defer l.clocks.Unlock()
	i := slices.IndexFunc(l.clocks.sent, func(c sentClock) bool { return c.wall == wall })
	if i < 0 {
		return 0, false
	}
	at = l.clocks.sent[i].at
	l.clocks.sent = slices.Delete(l.clocks.sent, 0, i+1)
	return at, true
}

func newPeer(t *Transport, id uint64, p Peer) *peer {
	n := &peer{
		Peer: p, id: id, t: t,
		log:     t.log.With("server", id, "name", p.Name, "address", p.Address),
		control: newControlQueue(), appends: newAppendQueue(),
		logged: map[error]struct{}{},
		knock:  [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
	}
	n.ctx, n.cancel = context.WithCancel(t.ctx)
	return n
}

// begin starts connecting.
func (p *peer) begin() {
	p.wg.Add(2)
	go p.keep(peerpb.ConnectionKind_CONNECTION_KIND_CONTROL, p.knock[0], p.serveControl)
	go p.keep(peerpb.ConnectionKind_CONNECTION_KIND_APPEND, p.knock[1], p.serveAppend)
}

// stop ends everything of the peer; wg says when it has ended.
func (p *peer) stop() {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.cancel()
}

// join counts a goroutine that belongs to the peer. It reports false if the peer
// is gone.
func (p *peer) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	p.wg.Add(1)
	return true
}

// keep holds one outgoing connection, connecting again whenever it ends.
func (p *peer) keep(kind peerpb.ConnectionKind, knock chan struct{}, serve func(*conn) error) {
	defer p.wg.Done()
	limits := &p.t.opts.Limits
	wait := limits.MinBackoff
	var heeded time.Time
	for p.ctx.Err() == nil {
		began := time.Now()
		c, err := p.t.dial(p.ctx, p.Address, kind, identity{server: p.id, name: p.Name})
		if err == nil {
			err = serve(c)
			c.end()
			select {
			case <-knock: // an old one
			default:
			}
		}
		p.note(err)
		// What stood for a while, or never was refused, is tried again at once.
		if time.Since(began) > limits.MaxBackoff {
			wait = limits.MinBackoff
		}
		// Half of the wait is random, so that servers do not knock in step.
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		knock := knock
		if time.Since(heeded) < limits.MaxBackoff {
			knock = nil // two servers must not spur each other on
		}
		select {
		case <-p.ctx.Done():
		case <-timer.C:
		case <-knock:
			heeded = time.Now()
		}
		timer.Stop()
		wait = min(2*wait, limits.MaxBackoff)
	}
}

// note remembers why a connection ended or was refused, and logs each cause once
// until the peer is up again.
func (p *peer) note(err error) {
	if err == nil || p.ctx.Err() != nil {
		return
	}
	p.t.counts.countError(err)
	c := cause(err)
	p.mu.Lock()
	p.lastErr, p.lastErrAt = err, time.Now()
	_, again := p.logged[c]
	p.logged[c] = struct{}{}
	p.mu.Unlock()
	if !again {
		p.log.Warn("connection with peer ended or failed; more of the kind are not logged until it is up", "err", err)
	}
}

// rival refuses a connection if another process with the peer's id is alive, and
// ends the control connections of one that is silent. The caller holds mu.
func (p *peer) rival(incarnation uint64) error {
	for _, l := range []*line{p.in, p.out} {
		if l == nil || l.remote.incarnation == incarnation {
			continue
		}
		silent := p.t.monotonic() - time.Duration(l.heard.Load())
		if silent < 3*p.t.opts.Limits.Clock {
			return refuse(peerpb.Refusal_REFUSAL_DUPLICATE,
				"server %d: incarnation %x was heard %s ago, %x comes now; a cloned machine or data directory?",
				p.id, l.remote.incarnation, silent.Round(time.Millisecond), incarnation)
		}
		l.Close()
	}
	return nil
}

// attach makes c the line of its place, one of the fields of p, and the peer up
// if it is the last one missing. An earlier line there is closed. detach must
// follow.
func (p *peer) attach(c *conn, place **line) (*line, error) {
	l := &line{conn: c}
	l.heard.Store(int64(p.t.monotonic()))
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: server %d is not known any more", ErrUnknownPeer, p.id)
	}
	if err := p.rival(c.remote.incarnation); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.wg.Add(1)
	p.mu.Unlock()
	for !p.occupy(l, place) {
	}
	// Who connects is alive: connect to it now, not after the wait.
	if place == &p.in {
		signal(p.knock[0])
	}
	if place == &p.in || place == &p.out {
		signal(p.knock[1])
	}
	p.settle()
	return l, nil
}

// occupy puts l in its place if that is free. If not, it frees it, which the
// receiver must hear of before the peer is up again, and reports false.
func (p *peer) occupy(l *line, place **line) bool {
	p.mu.Lock()
	old := *place
	if old == nil {
		*place = l
	} else {
		*place = nil
	}
	p.mu.Unlock()
	if old == nil {
		return true
	}
	old.Close()
	p.settle()
	return false
}

// detach ends what attach began.
func (p *peer) detach(l *line, place **line) {
	p.mu.Lock()
	if *place == l {
		*place = nil
	}
	p.mu.Unlock()
	p.settle()
	p.wg.Done()
}

// settle tells the receiver if the peer has come or gone. Whoever changes a
// control line calls it before changing that line again, so no change is missed.
func (p *peer) settle() {
	p.live.Lock()
	defer p.live.Unlock()
	p.mu.Lock()
	up := p.in != nil && p.out != nil
	if up && !p.up.Load() {
		clear(p.logged)
	}
	p.mu.Unlock()
	if up == p.up.Load() {
		return
	}
	p.up.Store(up)
	if up {
		p.log.Info("peer is up")
		p.t.opts.Receiving.PeerUp(p.id)
		return
	}
	p.log.Info("peer is down")
	p.t.opts.Receiving.PeerDown(p.id)
}

// monotonic is the time since the transport was opened.
func (t *Transport) monotonic() time.Duration { return time.Since(t.start) }

var errEnded = errors.New("closed by the other side")
