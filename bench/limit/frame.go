package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A frame on the wire is 4 bytes of length and 8 bytes of number, both little
// endian, and as many bytes of batch. An acknowledgement is the 8 bytes of the
// number up to which, including it, all is appended.
const (
	headSize = 12
	maxFrame = 64 << 20
)

// item is a frame that several goroutines hold; the last one returns its bytes.
type item struct {
	number uint64
	batch  []byte
	refs   *atomic.Int32
}

func newItem(number uint64, batch []byte, holders int) item {
	i := item{number, batch, new(atomic.Int32)}
	i.refs.Store(int32(holders))
	return i
}

func (i item) done() {
	if i.refs.Add(-1) == 0 {
		pool.Put(&i.batch)
	}
}

// pool keeps the bytes of frames. A fresh slice for each costs a third of the
// pipeline's throughput.
var pool sync.Pool

func buffer(n int) []byte {
	if p, _ := pool.Get().(*[]byte); p != nil && cap(*p) >= n {
		return (*p)[:n]
	}
	return make([]byte, n, n+n/8)
}

func readFrame(r *bufio.Reader) (uint64, []byte, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes: %d are the most", n, maxFrame)
	}
	batch := buffer(int(n))
	_, err := io.ReadFull(r, batch)
	return binary.LittleEndian.Uint64(head[4:]), batch, err
}

func writeFrame(w net.Conn, number uint64, batch []byte) error {
	var head [headSize]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(batch)))
	binary.LittleEndian.PutUint64(head[4:], number)
	both := net.Buffers{head[:], batch}
	_, err := both.WriteTo(w)
	return err
}

func readAck(r *bufio.Reader) (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(r, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

func writeAck(w net.Conn, number uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], number)
	_, err := w.Write(b[:])
	return err
}
