package harness

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands before a listener and may change what passes.
type Proxy struct {
	target string
	mutate func([]byte) // changes bytes on their way, in place; nil lets all pass

	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// NewProxy listens on address and passes what comes on to target, both ways,
// through mutate, which several goroutines call. It is closed when the test ends.
func NewProxy(t testing.TB, address, target string, mutate func([]byte)) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, mutate: mutate, listener: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// own makes close end a connection; false if it has ended already.
func (p *Proxy) own(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) disown(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close() // the server is down: so are we
			continue
		}
		if !p.own(in) || !p.own(out) {
			_ = in.Close()
			_ = out.Close()
			return
		}
		p.wg.Go(func() { p.pass(out, in) })
		p.wg.Go(func() { p.pass(in, out) })
	}
}

// pass carries bytes one way until either side ends, and then ends both.
func (p *Proxy) pass(to, from net.Conn) {
	defer p.disown(to)
	defer p.disown(from)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if p.mutate != nil {
				p.mutate(buffer[:n])
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Speak connects to address, sends some bytes and says that no more come. It
// returns what the other side answers, or with hangUp nothing, and at once.
func Speak(address string, what []byte, hangUp bool) ([]byte, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(what); err != nil {
		return nil, err
	}
	if hangUp {
		return nil, nil
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(c, 1<<20))
}
