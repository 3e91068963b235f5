package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	peerpb "github.com/perdure/perdure/api/peer/v1"
)

// maxStrangerCall is the greatest body of a call from a server that is not
// known: names, addresses, lists of servers.
const maxStrangerCall = 1 << 20

// Call sends a request to a known server and returns its answer, which the
// caller owns. Each call has a connection of its own: it is meant for rare
// messages. It blocks until the answer comes, ctx ends or the transport is
// closed. A *RemoteError is what the other server's OnCall returned; after any
// other error that is not a refusal, the request may have been carried out.
func (t *Transport) Call(ctx context.Context, server uint64, kind uint8, body []byte) ([]byte, error) {
	p := t.peer(server)
	if p == nil {
		return nil, fmt.Errorf("call server %d: %w", server, ErrUnknownPeer)
	}
	answer, err := t.call(ctx, p.Address, identity{server: p.id, name: p.Name}, kind, body)
	if err != nil {
		return nil, fmt.Errorf("call server %q: %w", p.Name, err)
	}
	return answer, nil
}

// CallAddress is Call for a server of which only the address is known.
func (t *Transport) CallAddress(ctx context.Context, address string, kind uint8, body []byte) ([]byte, error) {
	answer, err := t.call(ctx, address, identity{}, kind, body)
	if err != nil {
		return nil, fmt.Errorf("call server at %s: %w", address, err)
	}
	return answer, nil
}

func (t *Transport) call(ctx context.Context, address string, to identity, kind uint8, body []byte) ([]byte, error) {
	if len(body) > MaxCall {
		return nil, fmt.Errorf("%w: request of %d bytes, at most %d", ErrTooLarge, len(body), MaxCall)
	}
	if !t.join() {
		return nil, ErrClosed
	}
	defer t.wg.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })()
	c, err := t.dial(ctx, address, peerpb.ConnectionKind_CONNECTION_KIND_CALL, to)
	if err != nil {
		return nil, because(ctx, err)
	}
	defer c.end()
	request := append(append(make([]byte, 0, 1+len(body)), kind), body...)
	if err := c.write(frameRequest, request, t.opts.Limits.Stall); err != nil {
		return nil, because(ctx, stalled(err))
	}
	answered, payload, err := c.in.next(oneOf(frameAnswer, frameFailure), true)
	if err != nil {
		return nil, because(ctx, ended(err, 0))
	}
	if answered == frameFailure {
		return nil, &RemoteError{Server: c.remote.name, Text: string(payload)}
	}
	return payload, nil
}

// because prefers the reason why ctx ended to what it caused.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// serveCall reads one request, answers it and closes. p is nil for strangers.
func (t *Transport) serveCall(c *conn, p *peer) error {
	if !t.calls.take() {
		err := refuse(peerpb.Refusal_REFUSAL_BUSY, "%d calls are being served; try again", cap(t.calls))
		t.sendRefusal(c, err)
		return err
	}
	defer t.calls.give()
	if err := t.sendWelcome(c); err != nil {
		return err
	}
	if p == nil {
		c.in.limit = maxStrangerCall
	}
	_, request, err := c.read(oneOf(frameRequest), true, t.opts.Limits.Stall)
	if err != nil {
		return ended(err, t.opts.Limits.Stall)
	}
	if len(request) == 0 {
		return fmt.Errorf("%w: empty request", ErrCorrupt)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	from := PeerIdentity{
		Server: c.remote.server, Name: c.remote.name, Realm: c.remote.realm,
		Incarnation: c.remote.incarnation, Address: c.RemoteAddr().String(), Known: p != nil,
	}
	ctx, cancel := context.WithCancel(t.ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer cancel()
		// The caller says nothing more: this returns when it gives up.
		_, _ = c.in.r.ReadByte()
	}()
	err = t.answer(ctx, c, from, request)
	c.Close()
	<-watched
	return err
}

func (t *Transport) answer(ctx context.Context, c *conn, from PeerIdentity, request []byte) error {
	var body []byte
	err := errors.New("this server answers no calls")
	if t.opts.OnCall != nil {
		body, err = t.opts.OnCall(ctx, from, request[0], request[1:])
	}
	if err == nil && len(body) > MaxCall {
		err = fmt.Errorf("%w: answer of %d bytes, at most %d", ErrTooLarge, len(body), MaxCall)
	}
	if ctx.Err() != nil {
		return nil // nobody listens
	}
	if err != nil {
		return c.write(frameFailure, failureText(err), t.opts.Limits.Stall)
	}
	return c.write(frameAnswer, body, t.opts.Limits.Stall)
}

// failureText is an error as it travels.
func failureText(err error) []byte {
	text := []byte(err.Error())
	return text[:min(len(text), maxFailure)]
}
