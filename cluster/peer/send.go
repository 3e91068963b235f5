package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// writeBatch is how many bytes of appends are written at once, about.
const writeBatch = 1 << 20

// serveControl is the dialing side of a control connection: it writes what is
// queued and the clock, until the connection ends.
func (p *peer) serveControl(c *conn) error {
	// Open before the peer is told to be up, closed before it is told to be down.
	p.control.setOpen(true, newQuickWriter(c.Conn))
	l, err := p.attach(c, &p.out)
	if err != nil {
		p.control.setOpen(false, nil)
		return err
	}
	defer p.detach(l, &p.out)
	defer p.control.setOpen(false, nil)
	heard := make(chan error, 1)
	go func() {
		heard <- p.hearEchoes(l)
		c.Close() // ends a write that waits
	}()
	err = p.writeControl(l, heard)
	c.Close()
	if err == nil {
		return <-heard
	}
	if first := <-heard; errors.Is(first, ErrSilent) || errors.Is(first, ErrCorrupt) {
		return first
	}
	return err
}

// writeControl returns nil when reading has ended and knows why.
func (p *peer) writeControl(l *line, heard chan error) error {
	clock := time.NewTicker(p.t.opts.Limits.Beat)
	defer clock.Stop()
	if err := p.writeWaiting(l, true); err != nil {
		return err
	}
	for {
		due := false
		select {
		case err := <-heard:
			heard <- err
			return nil
		case <-clock.C:
			due = true
		case <-p.control.wake:
		}
		if err := p.writeWaiting(l, due); err != nil {
			return err
		}
	}
}

// writeWaiting writes what waits for the control connection, and the clock if it
// is due.
func (p *peer) writeWaiting(l *line, clock bool) (err error) {
	c := l.conn
	rest, frame, n := p.control.take()
	defer func() { p.control.leave(err) }()
	if len(rest) > 0 {
		if err := writeAll(c, rest, p.t.opts.Limits.Stall); err != nil {
			return err
		}
	}
	if n > 0 {
		p.finishControl(frame)
		if err := writeAll(c, frame, p.t.opts.Limits.Stall); err != nil {
			return err
		}
		p.sent.Add(uint64(n))
	}
	if clock {
		return p.writeClock(l)
	}
	return nil
}

// finishControl completes a frame of the control queue.
func (p *peer) finishControl(frame []byte) {
	realm := p.t.opts.Realm()
	copy(frame[headerLen:], realm[:])
	finishFrame(frame, frameControl)
}

// sendControl queues m, or writes it at once where the connection is idle.
func (p *peer) sendControl(e cluster.Envelope, m *pb.Message) bool {
	ok, frame, n := p.control.put(e, m)
	if frame != nil {
		p.finishControl(frame)
		if p.control.try(frame, p.control.waiting) {
			p.sent.Add(uint64(n))
		}
	}
	return ok
}

// sendAppend queues m, or writes it at once where the connection is idle and m
// is small.
func (p *peer) sendAppend(e cluster.Envelope, m *pb.Message) bool {
	ok, frame := p.appends.put(e, m)
	if frame == nil {
		return ok
	}
	frame, x, err := p.beginAppend(frame, e, m)
	if err != nil {
		p.appends.leave(nil)
		return false
	}
	for data, carried := range bodies(m.GetEntries()) {
		frame = append(frame, data...)
		x.add(data, carried)
	}
	x.put(frame, frameAppend)
	p.appends.frame = frame // the gate is ours
	if p.appends.try(frame, p.appends.waiting) {
		p.sent.Add(1)
	}
	return true
}

// beginAppend appends a frame of one message up to the data of its entries. x is of
// the payload so far; the header is left to be put.
func (p *peer) beginAppend(dst []byte, e cluster.Envelope, m *pb.Message) (frame []byte, x extent, err error) {
	start := len(dst)
	realm := p.t.opts.Realm()
	dst = append(dst, make([]byte, headerLen)...)
	dst = append(dst, realm[:]...)
	if dst, err = appendHead(dst, e, m, true); err != nil {
		return dst, x, err
	}
	x.add(dst[start+headerLen:], false)
	return dst, x, nil
}

func (p *peer) writeClock(l *line) error {
	wall := uint64(p.t.opts.Now().UnixNano())
	l.sends(sentClock{wall, p.t.monotonic()})
	return l.write(frameClock, binary.LittleEndian.AppendUint64(nil, wall), p.t.opts.Limits.Stall)
}

// hearEchoes reads the echoes of the clock frames until the connection ends or
// is silent for too long.
func (p *peer) hearEchoes(l *line) error {
	silence := p.t.opts.Limits.Silence
	for {
		_, payload, err := l.read(oneOf(frameEcho), false, silence)
		if err != nil {
			return ended(err, silence)
		}
		if len(payload) != 8 {
			return fmt.Errorf("%w: echo of %d bytes", ErrCorrupt, len(payload))
		}
		now := p.t.monotonic()
		l.heard.Store(int64(now))
		if at, ok := l.answered(binary.LittleEndian.Uint64(payload)); ok {
			p.rtt.Store(int64(now - at))
			p.t.opts.Receiving.Echo(p.id, p.t.start.Add(at))
		}
	}
}

// ended says why reading ended.
func ended(err error, silence time.Duration) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w for %s", ErrSilent, silence)
	case errors.Is(err, io.EOF):
		return errEnded
	default:
		return err
	}
}

func writeAll(c *conn, b []byte, timeout time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(b)
	return stalled(err)
}

// stalled names a write that waited too long.
func stalled(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: the other side does not read", ErrStalled)
	}
	return err
}

// serveAppend is the dialing side of an append connection.
func (p *peer) serveAppend(c *conn) error {
	p.appends.setOpen(true, newQuickWriter(c.Conn))
	l, err := p.attach(c, &p.outAppend)
	if err != nil {
		p.appends.setOpen(false, nil)
		return err
	}
	defer p.detach(l, &p.outAppend)
	defer p.appends.setOpen(false, nil)
	// The other side never writes: a read that returns says that it is gone.
	heard := make(chan error, 1)
	go func() {
		_, _, err := c.in.next(0, false)
		heard <- ended(err, 0)
		c.Close()
	}()
	w := appendWriter{p: p, c: c}
	for err == nil {
		select {
		case err = <-heard:
			return err
		case <-p.appends.wake:
			err = w.writeWaiting()
		}
	}
	c.Close()
	<-heard
	return err
}

// appendWriter writes appends with writev: what it builds are the heads, the
// entries' data go by reference.
type appendWriter struct {
	p     *peer
	c     *conn
	heads []byte
	parts [][]byte
	bufs  net.Buffers // a field, so that WriteTo does not allocate it
}

// writeWaiting writes what waits for the append connection.
func (w *appendWriter) writeWaiting() (err error) {
	rest, items := w.p.appends.take()
	defer func() { w.p.appends.leave(err) }()
	if len(rest) > 0 {
		if err := writeAll(w.c, rest, w.p.t.opts.Limits.Stall); err != nil {
			return err
		}
	}
	return w.write(items)
}

// write sends items in batches of about writeBatch bytes.
func (w *appendWriter) write(items []appendItem) error {
	for len(items) > 0 {
		n, size := 0, 0
		w.heads, w.parts = w.heads[:0], w.parts[:0]
		for n < len(items) && size < writeBatch {
			if err := w.add(&items[n]); err != nil {
				return err
			}
			size += items[n].size
			n++
		}
		if err := w.flush(size); err != nil {
			return err
		}
		w.p.sent.Add(uint64(n))
		w.p.appends.written(items[:n])
		items = items[n:]
	}
	return nil
}

// add makes a frame of one message.
func (w *appendWriter) add(it *appendItem) error {
	start := len(w.heads)
	heads, x, err := w.p.beginAppend(w.heads, it.envelope, it.message)
	if err != nil {
		return err
	}
	w.heads = heads
	head := heads[start:len(heads):len(heads)]
	w.parts = append(w.parts, head)
	for data, carried := range bodies(it.message.GetEntries()) {
		if len(data) > 0 {
			x.add(data, carried)
			w.parts = append(w.parts, data)
		}
	}
	x.put(head, frameAppend)
	return nil
}

func (w *appendWriter) flush(size int) error {
	// A second more for each MiB: one entry may be 32 MiB.
	timeout := w.p.t.opts.Limits.Stall + time.Duration(size>>20)*time.Second
	if err := w.c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	w.bufs = w.parts
	_, err := w.bufs.WriteTo(w.c.Conn)
	clear(w.parts) // lets go of the entries
	return stalled(err)
}
