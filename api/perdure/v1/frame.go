package perdurepb

import (
	"sync"

	"github.com/bytedance/gopkg/lang/dirtmake"
	"google.golang.org/grpc/mem"
)

// BatchFront is how many bytes there are at least before the batch in the memory
// of a PublishFrame.
const BatchFront = 128

// PublishFrame receives PublishRequests: Codec decodes into it as into the
// message. The next one may be received as soon as Take was called; the batch
// of the last stays valid.
type PublishFrame struct {
	PublishRequest
	memory []byte
	buffer *[]byte
}

// Take hands the memory over that ends with the batch, and in which at least
// BatchFront bytes before it are the caller's to write, too. Whoever calls
// release says that nobody reads it any more; not to call it costs an
// allocation, nothing else. Both are nil where the batch was not received last
// in its frame, and release is where the memory is too small to be worth it.
func (f *PublishFrame) Take() (memory []byte, release func()) {
	memory, buffer := f.memory, f.buffer
	f.memory, f.buffer = nil, nil
	if buffer != nil {
		release = func() { framePools.put(buffer) }
	}
	return memory, release
}

func (f *PublishFrame) receive(data mem.BufferSlice) error {
	f.memory, f.buffer = nil, nil
	n := BatchFront + data.Len()
	memory, buffer := framePools.get(n)
	b := memory[BatchFront:]
	data.CopyTo(b)
	if !f.decode(b) {
		return unmarshal(b, &f.PublishRequest)
	}
	if n := len(f.Batch); n > 0 && &f.Batch[n-1] == &b[len(b)-1] {
		f.memory, f.buffer = memory, buffer
	}
	return nil
}

// frameSizes are the sizes of memory that is used again, each twice the one
// before, so that less than half of it is waste. Batches of 64 and 256 KiB fit
// with a fifth to spare.
var frameSizes = [...]int{40 << 10, 80 << 10, 160 << 10, 320 << 10, 640 << 10, 1280 << 10}

type frames [len(frameSizes)]sync.Pool

var framePools frames

// get returns memory of n bytes, with undefined content. buffer is nil if it is
// not to be used again.
func (p *frames) get(n int) (memory []byte, buffer *[]byte) {
	for i, size := range frameSizes {
		if n <= size/2 {
			break
		}
		if n > size {
			continue
		}
		b, ok := p[i].Get().(*[]byte)
		if !ok {
			b = new([]byte)
			*b = dirtmake.Bytes(size, size)
		}
		return (*b)[:n:n], b
	}
	return dirtmake.Bytes(n, n), nil
}

func (p *frames) put(b *[]byte) {
	for i, size := range frameSizes {
		if len(*b) == size {
			p[i].Put(b)
		}
	}
}
