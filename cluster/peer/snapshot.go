package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	peerpb "github.com/perdure/perdure/api/peer/v1"
	"github.com/perdure/perdure/cluster"
)

// snapshotKey names a snapshot under way: one for each group and receiver.
type snapshotKey struct{ group, to uint64 }

// chunkLen is how much of a snapshot is collected before it is sent.
const chunkLen = 256 << 10

// SendSnapshot sends m, of type MsgSnap, and what body writes, on a connection
// of its own, and runs done once with the outcome: nil when the receiver took it
// all. It does not block; body and done run on another goroutine, and neither may
// call Close or SetPeers. One snapshot for a group and receiver at a time, and
// Limits.Snapshots in all; others fail with ErrBusy.
func (t *Transport) SendSnapshot(server uint64, e cluster.Envelope, m *pb.Message, body func(io.Writer) error, done func(error)) {
	key := snapshotKey{e.Group, e.To}
	t.mu.Lock()
	_, busy := t.sending[key]
	busy = busy || len(t.sending) >= t.opts.Limits.Snapshots
	closed := t.closed
	if !closed {
		t.wg.Add(1)
		if !busy {
			t.sending[key] = struct{}{}
		}
	}
	t.mu.Unlock()
	if closed {
		go done(fmt.Errorf("send snapshot: %w", ErrClosed))
		return
	}
	go func() {
		defer t.wg.Done()
		err := fmt.Errorf("%w: snapshots being sent", ErrBusy)
		if !busy {
			err = t.sendSnapshot(server, e, m, body)
			t.mu.Lock()
			delete(t.sending, key)
			t.mu.Unlock()
		}
		if err != nil {
			err = fmt.Errorf("send snapshot of group %d to server %d: %w", e.Group, server, err)
		}
		done(err)
	}()
}

func (t *Transport) sendSnapshot(server uint64, e cluster.Envelope, m *pb.Message, body func(io.Writer) error) error {
	p := t.peer(server)
	if p == nil || !p.join() {
		return ErrUnknownPeer
	}
	defer p.wg.Done()
	if m.GetType() != pb.MsgSnap || !acceptable(e, m) {
		return fmt.Errorf("message %s from %d to %d is not a snapshot of this envelope", m.GetType(), m.GetFrom(), m.GetTo())
	}
	realm := t.opts.Realm()
	head, err := appendMessage(append(make([]byte, headerLen, headerLen+headSize(m)), realm[:]...), e, m)
	if err != nil {
		return err
	}
	if len(head)-headerLen > maxSnapshot {
		return fmt.Errorf("%w: description of %d bytes, at most %d", ErrTooLarge, len(head), maxSnapshot)
	}
	finishFrame(head, frameSnapshot)
	c, err := t.dial(p.ctx, p.Address, peerpb.ConnectionKind_CONNECTION_KIND_SNAPSHOT, identity{server: p.id, name: p.Name})
	if err != nil {
		return err
	}
	defer c.end()
	answer := make(chan error, 1)
	go func() {
		err := readAnswer(c)
		answer <- err
		if err != nil {
			c.Close() // body must not write on
		}
	}()
	w := &chunkWriter{c: c, stall: t.opts.Limits.Stall, buf: make([]byte, 0, chunkLen)}
	if err := w.stream(head, body); err != nil {
		if w.err == nil {
			return err // of body: the receiver sees an incomplete stream
		}
		// What the receiver said explains why writing failed.
		if told := t.giveUp(c, answer); told != nil {
			return told
		}
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(t.opts.Limits.Answer)); err != nil {
		return err
	}
	return <-answer
}

// giveUp closes c and returns what the receiver answered, if it did. A failed
// write may have been caused by its answer, which is then on its way.
func (t *Transport) giveUp(c *conn, answer chan error) error {
	_ = c.SetReadDeadline(time.Now().Add(t.opts.Limits.Clock))
	remote := &RemoteError{}
	if err := <-answer; errors.As(err, &remote) {
		return err
	}
	return nil
}

func readAnswer(c *conn) error {
	kind, payload, err := c.in.next(oneOf(frameAnswer, frameFailure), true)
	switch {
	case timedOut(err):
		return fmt.Errorf("%w: no answer to the snapshot", ErrStalled)
	case err != nil:
		return ended(err, 0)
	case kind == frameFailure:
		return &RemoteError{Server: c.remote.name, Text: string(payload)}
	}
	return nil
}

// stream sends the head, the body and the end mark.
func (w *chunkWriter) stream(head []byte, body func(io.Writer) error) error {
	if w.err = writeAll(w.c, head, w.stall); w.err != nil {
		return w.err
	}
	if err := body(w); err != nil {
		return err
	}
	return w.end()
}

// chunkWriter cuts a stream into chunk frames.
type chunkWriter struct {
	c     *conn
	stall time.Duration
	buf   []byte
	total uint64
	sum   uint32
	err   error
}

// Write collects small writes and sends large ones as they are.
func (w *chunkWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && w.err == nil {
		if len(w.buf) == 0 && len(b) >= chunkLen {
			w.send(b[:chunkLen])
			b = b[chunkLen:]
			continue
		}
		take := min(len(b), chunkLen-len(w.buf))
		w.buf = append(w.buf, b[:take]...)
		b = b[take:]
		if len(w.buf) == chunkLen {
			w.flush()
		}
	}
	return n - len(b), w.err
}

func (w *chunkWriter) flush() {
	if len(w.buf) > 0 && w.err == nil {
		w.send(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *chunkWriter) send(chunk []byte) {
	var h [headerLen]byte
	putHeader(h[:], frameChunk, len(chunk), checksum(chunk))
	w.total += uint64(len(chunk))
	w.sum = updateChecksum(w.sum, chunk)
	if w.err = w.c.SetWriteDeadline(time.Now().Add(w.stall)); w.err != nil {
		return
	}
	bufs := net.Buffers{h[:], chunk}
	_, err := bufs.WriteTo(w.c.Conn)
	w.err = stalled(err)
}

func (w *chunkWriter) end() error {
	w.flush()
	if w.err != nil {
		return w.err
	}
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], w.total)
	binary.LittleEndian.PutUint32(b[8:], w.sum)
	w.err = stalled(w.c.write(frameEnd, b[:], w.stall))
	return w.err
}

// receiveSnapshot is the accepting side of a snapshot connection.
func (p *peer) receiveSnapshot(c *conn) error {
	if !p.join() {
		return ErrUnknownPeer
	}
	defer p.wg.Done()
	c.tie(p.ctx)
	p.mu.Lock()
	err := p.rival(c.remote.incarnation)
	p.mu.Unlock()
	if err == nil && !p.t.receiving.take() {
		err = refuse(peerpb.Refusal_REFUSAL_BUSY, "%d snapshots are being received; try again", cap(p.t.receiving))
	}
	if err != nil {
		p.t.sendRefusal(c, err)
		return err
	}
	defer p.t.receiving.give()
	if err := p.t.sendWelcome(c); err != nil {
		return err
	}
	stall := p.t.opts.Limits.Stall
	if err := p.takeSnapshot(c); err != nil {
		_ = c.write(frameFailure, failureText(err), stall)
		p.t.linger(c)
		return err
	}
	return c.write(frameAnswer, nil, stall)
}

// linger lets the answer arrive: closing with bytes unread would reset the
// connection and destroy it.
func (t *Transport) linger(c *conn) {
	_ = c.SetReadDeadline(time.Now().Add(t.opts.Limits.Clock))
	_, _ = io.Copy(io.Discard, c.Conn)
}

func (p *peer) takeSnapshot(c *conn) error {
	stall := p.t.opts.Limits.Stall
	_, payload, err := c.read(oneOf(frameSnapshot), true, stall)
	if err != nil {
		return ended(err, stall)
	}
	b, err := p.t.realmOf(payload)
	if err != nil {
		return err
	}
	e, m, rest, err := decodeMessage(b, true)
	if err != nil {
		return err
	}
	if len(rest) > 0 || m.GetType() != pb.MsgSnap || !p.mayPass(c, &e, m) {
		p.t.counts.rejected.Add(1)
		return fmt.Errorf("message %s of group %d from %d to %d may not come from server %d",
			m.GetType(), e.Group, e.From, e.To, p.id)
	}
	r := &chunkReader{c: c, stall: stall}
	if err := p.t.opts.Receiving.ReceiveSnapshot(p.id, e, m, r); err != nil {
		return err
	}
	return r.finish()
}

// chunkReader is the body of a snapshot. It ends with io.EOF only if everything
// that was sent has been read.
type chunkReader struct {
	c     *conn
	stall time.Duration
	chunk []byte
	total uint64
	sum   uint32
	err   error
}

func (r *chunkReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.chunk) == 0 && r.err == nil {
		r.next()
	}
	if len(r.chunk) == 0 {
		return 0, r.err
	}
	n := copy(b, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *chunkReader) next() {
	kind, payload, err := r.c.read(oneOf(frameChunk, frameEnd), false, r.stall)
	switch {
	case timedOut(err):
		r.err = fmt.Errorf("%w: %w: nothing for %s", ErrIncomplete, ErrStalled, r.stall)
	case err != nil:
		r.err = fmt.Errorf("%w after %d bytes: %w", ErrIncomplete, r.total, ended(err, r.stall))
	case kind == frameChunk:
		r.chunk = payload
		r.total += uint64(len(payload))
		r.sum = updateChecksum(r.sum, payload)
	case len(payload) != 12 || binary.LittleEndian.Uint64(payload) != r.total ||
		binary.LittleEndian.Uint32(payload[8:]) != r.sum:
		r.err = fmt.Errorf("%w: %w: end mark does not fit %d bytes", ErrIncomplete, ErrCorrupt, r.total)
	default:
		r.err = io.EOF
	}
}

// finish checks that a receiver that was content has read everything.
func (r *chunkReader) finish() error {
	for len(r.chunk) == 0 && r.err == nil {
		r.next()
	}
	if len(r.chunk) > 0 {
		return fmt.Errorf("%w: the receiver left bytes unread", ErrIncomplete)
	}
	if r.err != io.EOF {
		return r.err
	}
	return nil
}
