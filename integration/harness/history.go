package harness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/message"
)

// maxProblems bounds what a history keeps of what is wrong: the first say it.
const maxProblems = 50

// History notes what publishers were confirmed and what subscribers got, and
// judges it. The durables of a store that it watches must exist before its
// publishers begin, unless Subscribe creates them.
//
// It takes part in no test's goroutine: what goes wrong is noted, and Finish
// reports it.
type History struct {
	t testing.TB

	mu         sync.Mutex
	publishers []*Publishing
	durables   map[string]*consumed // by store and durable
	slots      map[string][]uint64  // by store: which message has an id, see slot
	forgotten  map[string]bool      // stores that are not judged
	problems   []string
}

// NewHistory returns an empty history.
func NewHistory(t testing.TB) *History {
	return &History{t: t, durables: map[string]*consumed{}, slots: map[string][]uint64{}, forgotten: map[string]bool{}}
}

// problem notes what is wrong with a store. The lock is held.
func (h *History) problem(store, format string, args ...any) {
	if !h.forgotten[store] && len(h.problems) < maxProblems {
		h.problems = append(h.problems, fmt.Sprintf(format, args...))
	}
}

// headLen is the length of what a body says about itself: publisher, size,
// sequence.
const headLen = 16

// body appends the body of a message: whoever has it can tell whether a byte of
// it was changed.
func body(dst []byte, publisher uint32, sequence uint64, size int) []byte {
	size = max(size, headLen)
	dst = binary.LittleEndian.AppendUint32(dst, publisher)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(size))
	dst = binary.LittleEndian.AppendUint64(dst, sequence)
	for i := headLen; i < size; i++ {
		dst = append(dst, byte(uint64(i)*7+sequence*31+uint64(publisher)))
	}
	return dst
}

// read tells which message a body is. It fails if it is not one that body makes.
func read(b []byte) (publisher uint32, sequence uint64, err error) {
	if len(b) < headLen {
		return 0, 0, fmt.Errorf("a body of %d bytes", len(b))
	}
	publisher, sequence = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[8:])
	size := binary.LittleEndian.Uint32(b[4:])
	if int(size) != len(b) || !bytes.Equal(b, body(nil, publisher, sequence, len(b))) {
		return 0, 0, fmt.Errorf("a body of %d bytes that says it is number %d of publisher %d, with %d bytes", len(b), sequence, publisher, size)
	}
	return publisher, sequence, nil
}

// slot notes that a message has an id, and complains if another one has, or if
// it has another. The lock is held.
func (h *History) slot(store string, id message.ID, p *Publishing, sequence uint64, where string) {
	if id.Epoch() != 0 || id.Counter() == 0 {
		h.problem(store, "%s: message %d of publisher %d in store %s has id %v: nothing here opens an epoch", where, sequence, p.index, store, id)
		return
	}
	slots := h.slots[store]
	for uint64(len(slots)) <= id.Counter() {
		slots = append(slots, 0)
	}
	h.slots[store] = slots
	mine := uint64(p.index+1)<<48 | sequence
	if was := slots[id.Counter()]; was != 0 && was != mine {
		h.problem(store, "%s: id %v of store %s is message %d of publisher %d, and was message %d of publisher %d",
			where, id, store, sequence, p.index, was&(1<<48-1), was>>48-1)
	}
	slots[id.Counter()] = mine
	if was := p.ids[sequence]; was != 0 && was != id {
		h.problem(store, "%s: message %d of publisher %d in store %s has id %v, and had id %v: it was stored twice", where, sequence, p.index, store, id, was)
	}
	p.ids[sequence] = id
}

// Confirmed is how many messages all publishers were confirmed.
func (h *History) Confirmed() (n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.publishers {
		n += p.confirmed
	}
	return n
}

// AwaitProgress waits until every publisher was confirmed something, and every
// durable delivered something, that was not there when it was called. Who does
// not get on is stuck.
func (h *History) AwaitProgress(limit time.Duration) {
	h.t.Helper()
	h.mu.Lock()
	confirmed, delivered := map[*Publishing]uint64{}, map[*consumed]uint64{}
	for _, p := range h.publishers {
		confirmed[p] = p.confirmed
	}
	for _, d := range h.durables {
		delivered[d] = d.deliveries
	}
	h.mu.Unlock()
	Await(h.t, limit, "progress", func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for p, was := range confirmed {
			if p.confirmed <= was && !p.ended && !h.forgotten[p.store] {
				return fmt.Errorf("publisher %d to %s is stuck at %d confirmed of %d", p.index, p.store, p.confirmed, len(p.outcomes))
			}
		}
		for d, was := range delivered {
			if d.deliveries <= was {
				return fmt.Errorf("durable %s of %s is stuck at %d deliveries, %d messages", d.name, d.store, d.deliveries, d.distinct)
			}
		}
		return nil
	})
}

// Finish stops the publishers, waits until each durable has delivered all that
// was confirmed, acknowledges it and says what was wrong.
func (h *History) Finish() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, p := range h.publishers {
		if h.forgotten[p.store] {
			continue
		}
		if err := p.Stop(ctx); err != nil {
			h.t.Errorf("publisher %d to %s does not end: %v", p.index, p.store, err)
		}
	}
	Await(h.t, time.Minute, "every durable to deliver what was confirmed", func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		var errs []error
		for _, d := range h.durables {
			errs = append(errs, d.complete())
		}
		return errors.Join(errs...)
	})
	for _, d := range h.durables {
		d.drain(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.judge()
	for _, problem := range h.problems {
		h.t.Error(problem)
	}
	for _, p := range h.publishers {
		h.t.Logf("publisher %d to %s: %d published, %d confirmed, longest wait for a confirmation %v",
			p.index, p.store, len(p.outcomes), p.confirmed, p.longest.Round(time.Millisecond))
	}
	for _, d := range h.durables {
		h.t.Logf("durable %s of %s: %d deliveries, %d messages, %d counted as possibly delivered before", d.name, d.store, d.deliveries, d.distinct, d.counted)
	}
}

// judge looks at what can only be seen at the end. The lock is held.
func (h *History) judge() {
	uncertain := map[string]bool{} // stores with a publish that did not succeed
	for _, p := range h.publishers {
		if h.forgotten[p.store] {
			continue
		}
		var last message.ID
		for sequence, outcome := range p.outcomes {
			if outcome != confirmed {
				uncertain[p.store] = true
				continue
			}
			if id := p.ids[sequence]; id != 0 {
				if id <= last {
					h.problem(p.store, "publisher %d: message %d has id %v, which is not above %v, the one before", p.index, sequence, id, last)
				}
				last = id
			}
		}
	}
	for store, slots := range h.slots {
		if uncertain[store] || h.forgotten[store] {
			continue
		}
		for id := 1; id < len(slots); id++ {
			if slots[id] == 0 {
				h.problem(store, "store %s: nothing has id %d, below %d: ids have a gap", store, id, len(slots)-1)
				break
			}
		}
	}
}
