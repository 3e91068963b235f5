package perdurepb

import (
	"sync"

	"github.com/bytedance/gopkg/lang/dirtmake"
	"google.golang.org/grpc/mem"
)

// Pool returns the buffers in which clients and servers let gRPC receive
// (experimental.WithBufferPool, experimental.BufferPool). It is one for the
// process, and safe for use by several goroutines at once.
//
// It differs from gRPC's own in that it does not clear a buffer before it is
// used again, which costs as much as filling it. gRPC and the codec write all
// of a buffer before they read any.
func Pool() mem.BufferPool { return pool }

var pool = new(buffers)

// bufferSizes are the sizes that are kept. HTTP/2 frames have at most 16 KiB
// here; larger buffers are messages that were joined.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

type buffers [len(bufferSizes)]sync.Pool

// Get returns a buffer of the given length. What is in it is undefined.
func (p *buffers) Get(length int) *[]byte {
	for i, size := range bufferSizes {
		if length > size {
			continue
		}
		b, ok := p[i].Get().(*[]byte)
		if !ok {
			b = new([]byte)
			*b = dirtmake.Bytes(0, size)
		}
		*b = (*b)[:length]
		return b
	}
	b := dirtmake.Bytes(length, length)
	return &b
}

// Put takes a buffer back that nobody reads any more.
func (p *buffers) Put(b *[]byte) {
	for i, size := range bufferSizes {
		if cap(*b) == size {
			p[i].Put(b)
			return
		}
	}
}
