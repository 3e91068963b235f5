package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// writeBatch is how many bytes of appends are written at once, about.
const writeBatch = 1 << 20

// serveControl is the dialing side of a control connection: it writes what is
// queued and the clock, until the connection ends.
func (p *peer) serveControl(c *conn) error {
	// Open before the peer is told to be up, closed before it is told to be down.
	p.control.setOpen(true)
	l, err := p.attach(c, &p.out)
	if err != nil {
		p.control.setOpen(false)
		return err
	}
	defer p.detach(l, &p.out)
	defer p.control.setOpen(false)
	heard := make(chan error, 1)
	go func() {
		heard <- p.hearEchoes(l)
		c.Close() // ends a write that waits
	}()
	err = p.writeControl(c, heard)
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
func (p *peer) writeControl(c *conn, heard chan error) error {
	limits := &p.t.opts.Limits
	clock := time.NewTicker(limits.Clock)
	defer clock.Stop()
	due := true
	for {
		if due {
			due = false
			if err := p.writeClock(c); err != nil {
				return err
			}
		}
		select {
		case err := <-heard:
			heard <- err
			return nil
		case <-clock.C:
			due = true
		case <-p.control.wake:
			frame, n := p.control.take()
			if n == 0 {
				continue
			}
			realm := p.t.opts.Realm()
			copy(frame[headerLen:], realm[:])
			finishFrame(frame, frameControl)
			if err := writeAll(c, frame, limits.Stall); err != nil {
				return err
			}
			p.sent.Add(uint64(n))
		}
	}
}

func (p *peer) writeClock(c *conn) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(p.t.opts.Now().UnixNano()))
	p.clockAt.Store(int64(p.t.monotonic()))
	p.clockSent.Store(binary.LittleEndian.Uint64(b[:]))
	return c.write(frameClock, b[:], p.t.opts.Limits.Stall)
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
		// Only the last one that left: an older echo would look too quick.
		if p.clockSent.Load() == binary.LittleEndian.Uint64(payload) {
			p.rtt.Store(int64(now) - p.clockAt.Load())
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
	p.appends.setOpen(true)
	l, err := p.attach(c, &p.outAppend)
	if err != nil {
		p.appends.setOpen(false)
		return err
	}
	defer p.detach(l, &p.outAppend)
	defer p.appends.setOpen(false)
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
			err = w.write(p.appends.take())
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
	realm := w.p.t.opts.Realm()
	w.heads = append(w.heads, make([]byte, headerLen)...)
	w.heads = append(w.heads, realm[:]...)
	var err error
	if w.heads, err = appendHead(w.heads, it.envelope, it.message); err != nil {
		return err
	}
	head := w.heads[start:len(w.heads):len(w.heads)]
	w.parts = append(w.parts, head)
	sum, length := checksum(head[headerLen:]), len(head)-headerLen
	for _, e := range it.message.GetEntries() {
		if data := e.GetData(); len(data) > 0 {
			sum = updateChecksum(sum, data)
			length += len(data)
			w.parts = append(w.parts, data)
		}
	}
	putHeader(head, frameAppend, length, sum)
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
