//go:build unix

package peer

import (
	"net"
	"syscall"
)

// quickWriter writes to a socket without ever waiting for it. One goroutine at a
// time may use it.
type quickWriter struct {
	raw   syscall.RawConn
	b     []byte
	n     int
	write func([]byte) int
}

// newQuickWriter returns nil if bytes must not bypass c, as with TLS.
func newQuickWriter(c net.Conn) *quickWriter {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	q := &quickWriter{raw: raw}
	call := func(fd uintptr) { // once, so that a write does not allocate
		// Sockets of package net do not block. Whatever is wrong with this one
		// the writer will find out and report.
		if n, err := syscall.Write(int(fd), q.b); err == nil {
			q.n = n
		}
	}
	q.write = func(b []byte) int {
		q.b, q.n = b, 0
		if err := q.raw.Control(call); err != nil {
			q.n = 0 // closed
		}
		q.b = nil
		return q.n
	}
	return q
}
