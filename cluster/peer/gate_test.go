package peer

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// opened returns a queue whose connection takes at most n bytes of each write.
func opened(n int) (*controlQueue, *bytes.Buffer) {
	q, wire := newControlQueue(), &bytes.Buffer{}
	q.setOpen(true, &quickWriter{write: func(b []byte) int {
		b = b[:min(n, len(b))]
		wire.Write(b)
		return len(b)
	}})
	return q, wire
}

func TestWhatIsLeftOfAFrameGoesFirst(t *testing.T) {
	q, wire := opened(30)
	e, m := heartbeat(1, 1, 2)
	ok, frame, n := q.put(e, m)
	if !ok || n != 1 {
		t.Fatalf("put: %v, %d messages", ok, n)
	}
	whole := bytes.Clone(frame)
	q.try(frame, q.waiting)
	if wire.Len() != 30 {
		t.Fatalf("%d bytes went out, want 30", wire.Len())
	}
	// More comes: it must wait, also after the buffers were swapped.
	for range 3 {
		if ok, frame, _ := q.put(e, m); !ok || frame != nil {
			t.Fatal("a sender may write behind half a frame")
		}
	}
	rest, next, n := q.take()
	if n != 3 || len(next) == 0 {
		t.Errorf("%d messages wait, want 3", n)
	}
	if got := append(wire.Bytes(), rest...); !bytes.Equal(got, whole) {
		t.Errorf("the frame is % x, want % x", got, whole)
	}
	q.leave(nil)
}

func TestNobodyWritesBehindAFrameThatFailed(t *testing.T) {
	q, _ := opened(1 << 20)
	q.take()
	q.leave(errors.New("stalled"))
	e, m := heartbeat(1, 1, 2)
	if ok, frame, _ := q.put(e, m); !ok || frame != nil {
		t.Error("a sender may write although the writer's frame was cut")
	}
}

// Echoes that come late, or not at all, are told from those of other clocks.
func TestEchoesFindTheirClock(t *testing.T) {
	l := &line{}
	for i := range uint64(2 * maxClocks) {
		l.sends(sentClock{wall: i, at: time.Duration(i)})
	}
	if len(l.clocks.sent) != maxClocks {
		t.Errorf("%d clocks are remembered", len(l.clocks.sent))
	}
	for _, c := range []struct {
		wall uint64
		ok   bool
	}{{0, false}, {2*maxClocks - 10, true}, {2*maxClocks - 12, false}, {2*maxClocks - 9, true}, {2*maxClocks - 9, false}} {
		if at, ok := l.answered(c.wall); ok != c.ok || ok && at != time.Duration(c.wall) {
			t.Errorf("echo of %d: left at %d, %v", c.wall, at, ok)
		}
	}
}
