package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	peerpb "github.com/perdure/perdure/api/peer/v1"
	"github.com/perdure/perdure/cluster"
	pb "go.etcd.io/raft/v3/raftpb"
)

// accept takes connections until the listener is closed.
func (t *Transport) accept() {
	defer t.wg.Done()
	for {
		nc, err := t.listener.Accept()
		if t.ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				t.log.Error("peer listener is closed; no server can connect to this one", "err", err)
				return
			}
			t.log.Warn("accept peer connection; trying again", "err", err)
			t.pause(t.opts.Limits.MinBackoff)
			continue
		}
		if !t.connections.take() {
			t.counts.refused.Add(1)
			nc.Close()
			continue
		}
		if !t.handshakes.take() {
			t.counts.refused.Add(1)
			t.connections.give()
			nc.Close()
			continue
		}
		t.wg.Add(1)
		go t.serve(newConn(nc))
	}
}

// pause waits, but not longer than the transport lives.
func (t *Transport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// serve is the life of an accepted connection.
func (t *Transport) serve(c *conn) {
	defer t.wg.Done()
	defer t.connections.give()
	defer c.end()
	c.tie(t.ctx)
	kind, p, err := t.greet(c)
	t.handshakes.give()
	if err == nil {
		err = t.serveKind(c, kind, p)
	}
	if err == nil || t.ctx.Err() != nil {
		return
	}
	if p == nil {
		p = t.peer(c.remote.server)
	}
	if p != nil {
		p.note(err)
		return
	}
	t.noteStranger(c, err)
}

func (t *Transport) serveKind(c *conn, kind peerpb.ConnectionKind, p *peer) error {
	switch kind {
	case peerpb.ConnectionKind_CONNECTION_KIND_CALL:
		return t.serveCall(c, p)
	case peerpb.ConnectionKind_CONNECTION_KIND_SNAPSHOT:
		return p.receiveSnapshot(c)
	case peerpb.ConnectionKind_CONNECTION_KIND_APPEND:
		return p.receive(c, &p.inAppend, p.receiveAppends)
	default:
		return p.receive(c, &p.in, p.receiveControl)
	}
}

// maxTold bounds what is remembered about strangers.
const maxTold = 256

// noteStranger logs why a connection from nobody known failed, once for each
// name and cause.
func (t *Transport) noteStranger(c *conn, err error) {
	t.counts.countError(err)
	key := fmt.Sprintf("%s %v", c.remote.name, cause(err))
	t.mu.Lock()
	_, again := t.told[key]
	if !again && len(t.told) < maxTold {
		t.told[key] = struct{}{}
	} else {
		again = true
	}
	t.mu.Unlock()
	if !again {
		t.log.Warn("connection from a server that is not known; more of the kind are not logged",
			"from", c.RemoteAddr().String(), "name", c.remote.name, "server", c.remote.server, "err", err)
	}
}

// receive attaches an accepted line, answers the handshake and serves it.
func (p *peer) receive(c *conn, place **line, serve func(*line) error) error {
	// Before the welcome: whoever is welcomed is not refused afterwards.
	l, err := p.attach(c, place)
	if err != nil {
		p.t.sendRefusal(c, err)
		return err
	}
	defer p.detach(l, place)
	c.tie(p.ctx)
	if err := p.t.sendWelcome(c); err != nil {
		return err
	}
	return serve(l)
}

// receiveControl is the accepting side of a control connection.
func (p *peer) receiveControl(l *line) error {
	limits := &p.t.opts.Limits
	for {
		kind, payload, err := l.read(oneOf(frameControl, frameClock), false, limits.Silence)
		if err != nil {
			return ended(err, limits.Silence)
		}
		l.heard.Store(int64(p.t.monotonic()))
		if kind == frameControl {
			err = p.deliver(l.conn, payload, nil, false)
		} else {
			err = p.hearClock(l.conn, payload)
		}
		if err != nil {
			return err
		}
	}
}

func (p *peer) hearClock(c *conn, payload []byte) error {
	if len(payload) != 8 {
		return fmt.Errorf("%w: clock of %d bytes", ErrCorrupt, len(payload))
	}
	ours := p.t.opts.Now().UnixNano()
	p.t.opts.Receiving.Wall(p.id, int64(binary.LittleEndian.Uint64(payload)), ours)
	return stalled(c.write(frameEcho, payload, p.t.opts.Limits.Silence))
}

// receiveAppends is the accepting side of an append connection. Each frame gets
// a buffer of its own, because its entries alias it.
func (p *peer) receiveAppends(l *line) error {
	for {
		_, payload, err := l.in.next(oneOf(frameAppend), true)
		if err != nil {
			return ended(err, 0)
		}
		if err := p.deliver(l.conn, payload[:l.in.covered], payload[l.in.covered:], true); err != nil {
			return err
		}
	}
}

// deliver hands on the messages of a frame, whose checksum was compared; bodies, of
// entries that carry theirs, are compared here. Messages that may not pass are
// dropped and counted; an error condemns the connection.
func (p *peer) deliver(c *conn, payload, bodies []byte, appends bool) error {
	b, err := p.t.realmOf(payload)
	if err != nil {
		return err
	}
	d := decoder{b: b, bodies: bodies, sums: appends}
	now := time.Now()
	for d.end(); d.err == nil && len(d.b) > 0; {
		e, m := d.message(appends)
		if d.end(); d.err != nil {
			break
		}
		if isAppend(m) != appends || m.GetType() == pb.MsgSnap || !p.mayPass(c, &e, m) {
			p.t.counts.rejected.Add(1)
			continue
		}
		p.received.Add(1)
		lone := appends && c.sole(e.Group, now) && len(d.b) == 0 && c.in.r.Buffered() == 0
		p.t.opts.Receiving.Receive(p.id, e, m, lone)
	}
	return d.err
}

// mayPass fills in the envelope and says whether the message is acceptable from
// this peer.
func (p *peer) mayPass(c *conn, e *cluster.Envelope, m *pb.Message) bool {
	e.Incarnation = c.remote.incarnation
	return acceptable(*e, m) && p.t.opts.Accept(p.id, *e)
}

// realmOf checks the realm that begins a frame and returns what follows it.
func (t *Transport) realmOf(payload []byte) ([]byte, error) {
	if len(payload) < realmLen {
		return nil, fmt.Errorf("%w: frame of %d bytes has no realm id", ErrCorrupt, len(payload))
	}
	theirs := [16]byte(payload[:realmLen])
	if own := t.opts.Realm(); !sameRealm(own, theirs) {
		return nil, fmt.Errorf("%w: message of realm %x, this one is %x", ErrRealm, theirs, own)
	}
	return payload[realmLen:], nil
}

// timedOut says whether a read or write waited too long.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
