package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	peerpb "github.com/perdure/perdure/api/peer/v1"
)

// The versions of what follows the handshake that this build speaks.
const (
	minVersion = 1
	maxVersion = 1
)

// sameRealm says whether two realm ids may talk: one of them is not formed yet,
// or they are equal.
func sameRealm(a, b [16]byte) bool {
	return a == b || a == [16]byte{} || b == [16]byte{}
}

// dial connects to want at address and shakes hands. The connection ends with
// ctx. want.server is 0 and want.name empty where anyone will do.
func (t *Transport) dial(ctx context.Context, address string, kind peerpb.ConnectionKind, want identity) (*conn, error) {
	self := t.id.Load()
	if self == 0 && kind != peerpb.ConnectionKind_CONNECTION_KIND_CALL {
		return nil, ErrNoServerID
	}
	limit, cancel := context.WithTimeout(ctx, t.opts.Limits.Handshake)
	defer cancel()
	nc, err := t.opts.Dial(limit, address)
	if err != nil {
		return nil, fmt.Errorf("%w to %s: %w", ErrUnreachable, address, err)
	}
	c := newConn(nc)
	c.tie(ctx)
	if err := t.introduce(c, kind, self, want); err != nil {
		c.end()
		return nil, fmt.Errorf("handshake with %s: %w", address, err)
	}
	return c, nil
}

// introduce is the dialing side's part of the handshake.
func (t *Transport) introduce(c *conn, kind peerpb.ConnectionKind, self uint64, want identity) error {
	if err := c.SetDeadline(time.Now().Add(t.opts.Limits.Handshake)); err != nil {
		return err
	}
	proven, err := t.identify(c)
	if err != nil {
		return err
	}
	realm := t.opts.Realm()
	hello := &peerpb.Hello{
		MinVersion: minVersion, MaxVersion: maxVersion, Kind: kind,
		Server: self, Name: t.opts.Name, Realm: realm[:], Incarnation: t.opts.Incarnation,
		ToServer: want.server,
	}
	if err := c.writeProto(frameHello, hello, t.opts.Limits.Handshake); err != nil {
		return err
	}
	_, payload, err := c.read(oneOf(frameWelcome), false, t.opts.Limits.Handshake)
	if err != nil {
		return err
	}
	w := &peerpb.Welcome{}
	if err := proto.Unmarshal(payload, w); err != nil {
		return fmt.Errorf("%w: welcome: %w", ErrCorrupt, err)
	}
	if w.GetRefusal() != peerpb.Refusal_REFUSAL_UNSPECIFIED {
		return refusedError(w)
	}
	if err := t.checkWelcome(c, w, want, proven); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

func (t *Transport) checkWelcome(c *conn, w *peerpb.Welcome, want identity, proven string) error {
	if v := w.GetVersion(); v < minVersion || v > maxVersion {
		return fmt.Errorf("%w: server %q chose %d, this one speaks %d to %d", ErrVersion, w.GetName(), v, minVersion, maxVersion)
	}
	c.remote = identity{server: w.GetServer(), name: w.GetName(), incarnation: w.GetIncarnation()}
	if copy(c.remote.realm[:], w.GetRealm()) != realmLen || len(w.GetRealm()) != realmLen {
		return fmt.Errorf("%w: welcome: realm id of %d bytes", ErrCorrupt, len(w.GetRealm()))
	}
	if own := t.opts.Realm(); !sameRealm(own, c.remote.realm) {
		return fmt.Errorf("%w: server %q is of %x, this one of %x", ErrRealm, w.GetName(), c.remote.realm, own)
	}
	if want.server != 0 && want.server != c.remote.server ||
		want.name != "" && want.name != c.remote.name || proven != "" && proven != c.remote.name {
		return fmt.Errorf("%w: server %q (id %d, proven name %q) where %q (id %d) should be: check the addresses",
			ErrIdentity, c.remote.name, c.remote.server, proven, want.name, want.server)
	}
	return nil
}

func (t *Transport) identify(c *conn) (string, error) {
	if t.opts.Identify == nil {
		return "", nil
	}
	name, err := t.opts.Identify(c.Conn)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return name, nil
}

// greet is the accepting side's part of the handshake. It returns what the
// connection is for and, except for calls of strangers, from which peer. What is
// refused is told why.
func (t *Transport) greet(c *conn) (peerpb.ConnectionKind, *peer, error) {
	timeout := t.opts.Limits.Handshake
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, err
	}
	proven, err := t.identify(c)
	if err != nil {
		return 0, nil, err
	}
	_, payload, err := c.read(oneOf(frameHello), false, timeout)
	if err != nil {
		return 0, nil, err
	}
	h := &peerpb.Hello{}
	if err := proto.Unmarshal(payload, h); err != nil {
		return 0, nil, fmt.Errorf("%w: hello: %w", ErrCorrupt, err)
	}
	p, err := t.checkHello(c, h, proven)
	if err != nil {
		t.sendRefusal(c, err)
	}
	return h.GetKind(), p, err
}

// sendRefusal tells the dialing side why it is refused. That may fail: it
// then sees a closed connection.
func (t *Transport) sendRefusal(c *conn, err error) {
	r := &refusal{}
	if !errors.As(err, &r) {
		return
	}
	w := t.newWelcome()
	w.Refusal, w.Reason = r.code, r.reason
	_ = c.writeProto(frameWelcome, w, t.opts.Limits.Handshake)
}

// sendWelcome completes the handshake.
func (t *Transport) sendWelcome(c *conn) error {
	if err := c.writeProto(frameWelcome, t.newWelcome(), t.opts.Limits.Handshake); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

func (t *Transport) newWelcome() *peerpb.Welcome {
	realm := t.opts.Realm()
	return &peerpb.Welcome{
		Version: maxVersion, Server: t.id.Load(), Name: t.opts.Name,
		Realm: realm[:], Incarnation: t.opts.Incarnation,
	}
}

func (t *Transport) checkHello(c *conn, h *peerpb.Hello, proven string) (*peer, error) {
	c.remote = identity{server: h.GetServer(), name: h.GetName(), incarnation: h.GetIncarnation()}
	if h.GetMinVersion() > maxVersion || h.GetMaxVersion() < minVersion {
		return nil, refuse(peerpb.Refusal_REFUSAL_VERSION, "server %q speaks %d to %d, this one %d to %d",
			h.GetName(), h.GetMinVersion(), h.GetMaxVersion(), minVersion, maxVersion)
	}
	if copy(c.remote.realm[:], h.GetRealm()) != realmLen || len(h.GetRealm()) != realmLen {
		return nil, fmt.Errorf("%w: hello: realm id of %d bytes", ErrCorrupt, len(h.GetRealm()))
	}
	if own := t.opts.Realm(); !sameRealm(own, c.remote.realm) {
		return nil, refuse(peerpb.Refusal_REFUSAL_REALM, "server %q is of %x, this one of %x", h.GetName(), c.remote.realm, own)
	}
	self := t.id.Load()
	if to := h.GetToServer(); to != 0 && to != self {
		return nil, refuse(peerpb.Refusal_REFUSAL_IDENTITY, "server %q looks for server %d, this one is %d", h.GetName(), to, self)
	}
	if self != 0 && self == h.GetServer() {
		return nil, refuse(peerpb.Refusal_REFUSAL_IDENTITY, "server %q claims this server's own id %d", h.GetName(), self)
	}
	if proven != "" && proven != h.GetName() {
		return nil, refuse(peerpb.Refusal_REFUSAL_IDENTITY, "server %q proved to be %q", h.GetName(), proven)
	}
	p := t.peer(h.GetServer())
	if p != nil && p.Name != "" && p.Name != h.GetName() {
		return nil, refuse(peerpb.Refusal_REFUSAL_IDENTITY, "server %d is %q here, not %q", p.id, p.Name, h.GetName())
	}
	switch h.GetKind() {
	case peerpb.ConnectionKind_CONNECTION_KIND_CALL:
		return p, nil
	case peerpb.ConnectionKind_CONNECTION_KIND_CONTROL, peerpb.ConnectionKind_CONNECTION_KIND_APPEND,
		peerpb.ConnectionKind_CONNECTION_KIND_SNAPSHOT:
	default:
		return nil, refuse(peerpb.Refusal_REFUSAL_KIND, "connections of kind %d are not known here", h.GetKind())
	}
	if p == nil {
		return nil, refuse(peerpb.Refusal_REFUSAL_UNKNOWN, "server %q with id %d is not known here (yet)", h.GetName(), h.GetServer())
	}
	return p, nil
}
