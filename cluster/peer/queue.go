package peer

import (
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

// controlQueue holds encoded messages until all are written as one frame. It is
// closed, and refuses, while no connection stands.
type controlQueue struct {
	gate
	count int
	buf   []byte // room for the prefix, then messages
	spare []byte // the last buffer that was written
}

func newControlQueue() *controlQueue {
	q := &controlQueue{}
	q.init()
	return q
}

// put encodes m. It reports false if the queue is closed or full. If it returns
// a frame, which has n messages, the caller must complete it and give it to try.
func (q *controlQueue) put(e cluster.Envelope, m *pb.Message) (ok bool, frame []byte, n int) {
	size := headSize(m) + dataSize(m)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.count >= maxControlCount || len(q.buf)+size > maxControlBytes || len(m.GetEntries()) > maxEntries {
		return false, nil, 0
	}
	buf, err := appendMessage(q.buf, e, m)
	if err != nil {
		return false, nil, 0
	}
	q.buf = buf
	q.count++
	if !q.idle() || len(q.buf) > quickBytes {
		signal(q.wake)
		return true, nil, 0
	}
	q.busy = true
	frame, n = q.swap()
	return true, frame, n
}

// waiting says whether messages wait; mu is held.
func (q *controlQueue) waiting() bool { return q.count > 0 }

// take waits until nobody else writes and returns what is left of a frame and
// everything that waits, with framePrefix bytes before it to be filled in, and
// the number of messages. The bytes are valid until leave, which must follow.
func (q *controlQueue) take() (rest, frame []byte, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enter()
	rest, q.rest = q.rest, nil
	if q.count > 0 {
		frame, n = q.swap()
	}
	return rest, frame, n
}

func (q *controlQueue) swap() ([]byte, int) {
	b, n := q.buf, q.count
	q.buf, q.spare, q.count = q.spare[:framePrefix], b, 0
	return b, n
}

// setOpen opens the queue for a connection, or closes it, and drops what is in
// it. Only the writer may call it.
func (q *controlQueue) setOpen(open bool, quick *quickWriter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enter()
	q.busy = false
	q.open, q.quick, q.rest, q.count = open, quick, nil, 0
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

// appendQueue holds MsgApp until they are written. It is closed, and refuses,
// while no connection stands.
type appendQueue struct {
	gate
	count int // put and not yet written
	bytes int // the same
	items []appendItem
	spare []appendItem
	frame []byte // of the last message that its sender wrote by itself
}

func newAppendQueue() *appendQueue {
	q := &appendQueue{}
	q.init()
	return q
}

// put queues m. It reports false if the queue is closed or full or m is too
// large for a frame. If it returns a buffer, m was not queued: the caller must
// append its frame to the buffer and give that to try.
func (q *appendQueue) put(e cluster.Envelope, m *pb.Message) (ok bool, frame []byte) {
	size := headSize(m) + dataSize(m)
	if framePrefix+size > MaxFrame || len(m.GetEntries()) > maxEntries {
		return false, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.count >= maxAppendCount || q.bytes+size > maxAppendBytes {
		return false, nil
	}
	if q.idle() && len(q.items) == 0 && size <= quickBytes {
		q.busy = true
		return true, q.frame[:0]
	}
	q.items = append(q.items, appendItem{envelope: e, message: m, size: size})
	q.count++
	q.bytes += size
	signal(q.wake)
	return true, nil
}

// waiting says whether messages wait; mu is held.
func (q *appendQueue) waiting() bool { return len(q.items) > 0 }

// take waits until nobody else writes and returns what is left of a frame and
// everything that waits. Both are valid until leave, which must follow.
func (q *appendQueue) take() (rest []byte, items []appendItem) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enter()
	rest, q.rest = q.rest, nil
	items = q.items
	q.items, q.spare = q.spare[:0], items
	return rest, items
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

// setOpen opens the queue for a connection, or closes it, and drops what is in
// it. Only the writer may call it.
func (q *appendQueue) setOpen(open bool, quick *quickWriter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enter()
	q.busy = false
	q.open, q.quick, q.rest, q.count, q.bytes = open, quick, nil, 0, 0
	q.items, q.spare, q.frame = nil, nil, nil
	if open {
		q.frame = make([]byte, 0, framePrefix+quickBytes)
	}
}
