package peer

import (
	"bufio"
	"context"
	"net"
	"time"

	"google.golang.org/protobuf/proto"
)

// identity is who a server says it is.
type identity struct {
	server      uint64
	name        string
	realm       [16]byte
	incarnation uint64
}

// conn is one connection. One goroutine reads and one writes.
type conn struct {
	net.Conn
	in     frameReader
	remote identity  // set by the handshake
	group  uint64    // of the last append that was received
	mixed  time.Time // when the last came that was of another group than the one before
	ties   []func() bool
}

func newConn(nc net.Conn) *conn {
	if tcp, ok := nc.(*net.TCPConn); ok {
		// Best effort: a connection that refuses these is broken anyhow, and the
		// first read or write says so.
		_ = tcp.SetNoDelay(true)
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
	return &conn{Conn: nc, in: frameReader{r: bufio.NewReaderSize(nc, 16<<10)}}
}

// soleAfter is for how long a connection must have brought appends of one group only
// until that group's work may hold it up.
const soleAfter = time.Second

// sole says whether only this group has used the connection of late.
func (c *conn) sole(group uint64, now time.Time) bool {
	if c.group != group {
		if c.group != 0 {
			c.mixed = now
		}
		c.group = group
	}
	return now.Sub(c.mixed) > soleAfter
}

// tie closes the connection when ctx ends.
func (c *conn) tie(ctx context.Context) {
	c.ties = append(c.ties, context.AfterFunc(ctx, func() { c.Conn.Close() }))
}

// end closes the connection and unties it.
func (c *conn) end() {
	for _, untie := range c.ties {
		untie()
	}
	c.Conn.Close()
}

// write sends one frame within timeout.
func (c *conn) write(kind byte, payload []byte, timeout time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(appendFrame(nil, kind, payload))
	return err
}

// writeProto sends one frame of the handshake.
func (c *conn) writeProto(kind byte, m proto.Message, timeout time.Duration) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return c.write(kind, b, timeout)
}

// read reads one frame, which must begin and end within timeout.
func (c *conn) read(allowed kinds, keep bool, timeout time.Duration) (byte, []byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, err
	}
	return c.in.next(allowed, keep)
}
