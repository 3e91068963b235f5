package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// partsInFlight bounds the bytes of parts that are on their way through the log: as
// many as keep a disk busy for a few milliseconds, and a quarter of what the group
// takes before it makes others wait. One part always passes.
const partsInFlight = 4 << 20

// partWindow proposes parts of a state in their order, several at a time.
type partWindow struct {
	l      *loading
	flight []flyingPart // the oldest first
	bytes  int
}

type flyingPart struct {
	number          uint64
	bytes, messages int
	done            chan outcome[store.Result]
}

// put proposes a part, when there is room. Parts that the cluster has are left out.
func (w *partWindow) put(ctx context.Context, number uint64, b *statefile.Block) error {
	messages := messagesIn(b)
	if number < w.l.next {
		w.l.messages.Add(uint64(messages))
		return nil
	}
	command := store.AppendLoadPart(make([]byte, 0, len(b.Content)+store.LoadPartHeaderLen), w.l.load, number, b)
	for len(w.flight) > 0 && w.bytes+len(command) > partsInFlight {
		if err := w.land(ctx); err != nil {
			return err
		}
	}
	p := flyingPart{number: number, bytes: len(command), messages: messages, done: make(chan outcome[store.Result], 1)}
	err := w.l.t.hosted.group.Propose(ctx, cluster.Proposal[store.Result]{
		Command: command, Done: func(r store.Result, err error) { p.done <- outcome[store.Result]{r, err} },
	})
	if err != nil {
		return err
	}
	w.flight, w.bytes = append(w.flight, p), w.bytes+p.bytes
	return nil
}

// land waits for the oldest part.
func (w *partWindow) land(ctx context.Context) error {
	p := w.flight[0]
	select {
	case o := <-p.done:
		if o.err != nil {
			return o.err
		}
		if o.result.Code != store.OK {
			return w.l.refused(o.result)
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.flight, w.bytes = w.flight[1:], w.bytes-p.bytes
	w.l.messages.Add(uint64(p.messages))
	return nil
}

// drain waits for all parts.
func (w *partWindow) drain(ctx context.Context) error {
	for len(w.flight) > 0 {
		if err := w.land(ctx); err != nil {
			return err
		}
	}
	return nil
}

// messagesIn counts the messages of a block that was verified.
func messagesIn(b *statefile.Block) (n int) {
	if b.Section != statefile.SectionBatches {
		return 0
	}
	var records statefile.Records
	records.Start(b.Section, b.Count, b.Content)
	for {
		r, err := records.Next()
		if err != nil {
			return n
		}
		if batch, ok := r.(*statefile.Batch); ok {
			n += int(batch.Count)
		}
	}
}

// fileMark tells files apart that are right by themselves: the trailer holds a sum
// of everything before it.
type fileMark struct {
	tail [markBytes]byte
	size int64
}

const markBytes = 32

// sendPatience is how long a client may send nothing of a file that is wanted. A
// client that takes long to read it sends empty frames.
const sendPatience = time.Minute

// stateStream is the file that a client sends, as an [io.Reader]: once, and after
// rewind once more.
type stateStream struct {
	ctx    context.Context
	frames chan *perdurepb.LoadClusterRequest
	failed error // why frames was closed
	bytes  *atomic.Uint64
	wait   time.Duration // the longest that nothing comes

	chunk []byte
	last  bool // chunk ends the file
	at    fileMark
}

// receiveState begins to receive, until ctx ends.
func (s *Server) receiveState(ctx context.Context, bytes *atomic.Uint64, receive func() (*perdurepb.LoadClusterRequest, error)) *stateStream {
	in := &stateStream{ctx: ctx, frames: make(chan *perdurepb.LoadClusterRequest), bytes: bytes, wait: s.sendPatience}
	s.spawn(func() {
		defer close(in.frames)
		in.failed = errPanicked
		for {
			m, err := receive()
			if err != nil {
				in.failed = err
				return
			}
			select {
			case in.frames <- m:
			case <-ctx.Done():
				in.failed = context.Cause(ctx)
				return
			}
		}
	})
	return in
}

// Read implements [io.Reader].
func (in *stateStream) Read(b []byte) (int, error) {
	for len(in.chunk) == 0 {
		if in.last {
			return 0, io.EOF
		}
		idle := time.NewTimer(in.wait)
		select {
		case <-in.ctx.Done():
			idle.Stop()
			return 0, context.Cause(in.ctx)
		case <-idle.C:
			return 0, faultf(perdurepb.Reason_REASON_CLIENT_TIMEOUT, "the client has sent nothing for %v, at byte %d", in.wait, in.at.size)
		case m, ok := <-in.frames:
			idle.Stop()
			switch {
			case !ok && errors.Is(in.failed, io.EOF):
				return 0, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the client ended before the file did, at byte %d", in.at.size)
			case !ok:
				return 0, fmt.Errorf("at byte %d: %w", in.at.size, receiveFault(in.failed))
			case m.GetOpen() != nil:
				return 0, faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "open came twice")
			}
			in.chunk, in.last = m.GetChunk(), m.GetEnd()
		}
	}
	n := copy(b, in.chunk)
	in.chunk = in.chunk[n:]
	in.at.add(b[:n])
	in.bytes.Add(uint64(n))
	return n, nil
}

// rewind begins with the file's second coming.
func (in *stateStream) rewind() { in.chunk, in.last, in.at = nil, false, fileMark{} }

// mark returns how much was read, and how that ended.
func (in *stateStream) mark() fileMark { return in.at }

func (m *fileMark) add(b []byte) {
	m.size += int64(len(b))
	if n := len(b); n < markBytes {
		copy(m.tail[:], m.tail[n:])
	}
	copy(m.tail[max(0, markBytes-len(b)):], b[max(0, len(b)-markBytes):])
}
