package peer

import (
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

const (
	// Control messages are small, tens of bytes; what waits longer than a few
	// ticks is of no use to Raft. 8,192 are the heartbeats of 8,192 groups.
	maxControlCount = 8192
	maxControlBytes = 4 << 20
	// Raft keeps 256 messages and 8 MiB in flight for a group and peer. Several
	// groups at full speed share the queue; the bytes are shared with the log's
	// cache. One greatest message always fits an empty queue.
	maxAppendCount = 4096
	maxAppendBytes = 64 << 20

	// framePrefix is what precedes the messages of a frame: header, realm id.
	framePrefix = headerLen + realmLen
	realmLen    = 16
)

// controlQueue holds encoded messages until the writer takes them all as one
// frame. It is closed, and refuses, while no connection stands.
type controlQueue struct {
	wake chan struct{} // has a value when something waits

	mu    sync.Mutex
	open  bool
	count int
	buf   []byte // room for the prefix, then messages
	spare []byte // the writer's last buffer
}

func newControlQueue() *controlQueue {
	return &controlQueue{wake: make(chan struct{}, 1)}
}

// put encodes m. It reports false if the queue is closed or full.
func (q *controlQueue) put(e cluster.Envelope, m *pb.Message) bool {
	size := headSize(m) + dataSize(m)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.count >= maxControlCount || len(q.buf)+size > maxControlBytes || len(m.GetEntries()) > maxEntries {
		return false
	}
	buf, err := appendMessage(q.buf, e, m)
	if err != nil {
		return false
	}
	q.buf = buf
	q.count++
	signal(q.wake)
	return true
}

// take returns everything that waits, with framePrefix bytes before it to be
// filled in, and the number of messages. The bytes are valid until the next take.
func (q *controlQueue) take() ([]byte, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, n := q.buf, q.count
	if n == 0 {
		return nil, 0
	}
	q.buf, q.spare, q.count = q.spare[:framePrefix], b, 0
	return b, n
}

// setOpen opens or closes the queue and drops what is in it. Only the writer,
// when it holds nothing that take returned, may call it.
func (q *controlQueue) setOpen(open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.count = open, 0
	q.buf, q.spare = nil, nil
	if open {
		q.buf, q.spare = make([]byte, framePrefix, 4<<10), make([]byte, framePrefix, 4<<10)
	}
}

// appendItem is one MsgApp that waits to be written.
type appendItem struct {
	envelope cluster.Envelope
	message  *pb.Message
	size     int
}

// appendQueue holds MsgApp until the writer has written them. It is closed, and
// refuses, while no connection stands.
type appendQueue struct {
	wake chan struct{} // has a value when something waits

	mu    sync.Mutex
	open  bool
	count int // put and not yet written
	bytes int // the same
	items []appendItem
	spare []appendItem
}

func newAppendQueue() *appendQueue {
	return &appendQueue{wake: make(chan struct{}, 1)}
}

// put queues m. It reports false if the queue is closed or full or m is too
// large for a frame.
func (q *appendQueue) put(e cluster.Envelope, m *pb.Message) bool {
	size := headSize(m) + dataSize(m)
	if framePrefix+size > MaxFrame || len(m.GetEntries()) > maxEntries {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.count >= maxAppendCount || q.bytes+size > maxAppendBytes {
		return false
	}
	q.items = append(q.items, appendItem{envelope: e, message: m, size: size})
	q.count++
	q.bytes += size
	signal(q.wake)
	return true
}

// take returns everything that waits. It is valid until the next take.
func (q *appendQueue) take() []appendItem {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	if len(items) == 0 {
		return nil
	}
	q.items, q.spare = q.spare[:0], items
	return items
}

// written says that messages left the queue for good, and lets go of them.
func (q *appendQueue) written(items []appendItem) {
	bytes := 0
	for _, it := range items {
		bytes += it.size
	}
	clear(items)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count -= len(items)
	q.bytes -= bytes
}

// setOpen opens or closes the queue and drops what is in it. Only the writer may
// call it.
func (q *appendQueue) setOpen(open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.count, q.bytes = open, 0, 0
	q.items, q.spare = nil, nil
}

// signal leaves a value in c, which holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
