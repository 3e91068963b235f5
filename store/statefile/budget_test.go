package statefile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/perdure/perdure/durable"
	"github.com/perdure/perdure/message"
)

// bomb is a file that is much smaller than what its pending set takes where it is
// loaded.
func bomb(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, &Manifest{Cluster: "x", Time: 1, Summary: Summary{StateHash: "x", Stores: []StoreSummary{}}})
	if err != nil {
		t.Fatal(err)
	}
	put := func(r Record) {
		if err := w.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	const ids = 12 << 20
	put(&Store{Name: "s", Counter: message.MaxCounter})
	var marks durable.Marks
	put(&Durable{Name: "d", Kind: durable.KindShared, Prefetch: 100, Matched: ids, Marks: marks.AppendTo(nil)})
	p := &Pending{}
	for i := range message.ID(ids) {
		if p.Runs = append(p.Runs, Run{First: (i + 1) << 16, N: 1}); len(p.Runs) == MaxRuns {
			put(p)
			p.Runs = p.Runs[:0]
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBomb: a small file does not take the memory of a large state, neither when it
// is checked nor when its blocks are read without.
func TestBomb(t *testing.T) {
	file := bomb(t)
	if len(file) > 200_000 {
		t.Fatalf("a file of %d bytes is no bomb", len(file))
	}
	refused := func(err error) {
		t.Helper()
		var wrong *Error
		if !errors.As(err, &wrong) || wrong.Code != Altered || wrong.Section != SectionPending || wrong.Position == 0 || !strings.Contains(wrong.Reason, "MiB") {
			t.Errorf("it ended with %v", err)
		}
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most, n := before.HeapAlloc, 0
	_, _, err := Verify(bytes.NewReader(file), func(Record) error {
		if n++; n%1024 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
		return nil
	})
	refused(err)
	if grown := (most - before.HeapAlloc) >> 20; grown > 150 {
		t.Errorf("a file of %d bytes took %d MiB", len(file), grown)
	}
	r, err := NewReader(bytes.NewReader(file))
	for err == nil {
		_, err = r.Next()
	}
	refused(err)
	if errors.Is(err, io.EOF) {
		t.Error("its blocks were all handed out")
	}
}

// feed gives a durable's pending set to what checks and counts it.
func feed(s *soundness, h *holding, owner uint32, step, n uint64, total int) error {
	p := &Pending{Durable: owner}
	for i := range uint64(total) {
		run := Run{First: message.ID(1 + i*step), N: n}
		if p.Runs = append(p.Runs, run); len(p.Runs) < MaxRuns && i+1 < uint64(total) {
			continue
		}
		h.begin(owner)
		for _, run := range p.Runs {
			h.add(run)
		}
		if err := errors.Join(s.put(p), heldLimit.allow("loaded", h.bytes, 0)); err != nil {
			return err
		}
		p.Runs = p.Runs[:0]
	}
	return nil
}

// TestBudgetIsEnough: what clusters have passes, however well it compresses.
func TestBudgetIsEnough(t *testing.T) {
	for name, tc := range map[string]struct {
		durables int
		step, n  uint64
		runs     int
	}{
		"5 million sparse messages":           {1, 1 << 16, 1, 5_000_000},
		"50 million in long runs":             {10, 10_001, 10_000, 5000},
		"each second of 4 million, 5 times":   {5, 2, 1, 2_000_000},
		"1000 durables with 3000 messages":    {1000, 100, 1, 3000},
		"one run of all that there ever were": {100, 1 << 40, 1 << 39, 100},
	} {
		t.Run(name, func(t *testing.T) {
			var size int64
			s, h := soundness{size: &size, limit: keptLimit}, holding{}
			for i := range tc.durables {
				s.durables = append(s.durables, &soundDurable{})
				if err := feed(&s, &h, uint32(i), tc.step, tc.n, tc.runs); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestBudgetOfChecking: what is kept is bounded by itself, and by what was read.
func TestBudgetOfChecking(t *testing.T) {
	size := int64(0)
	s := soundness{size: &size, limit: limit{100_000, 8}, durables: []*soundDurable{{}, {}}}
	if err := feed(&s, &holding{}, 0, 1<<16, 1, 24_000); err != nil {
		t.Errorf("96 kB of 100: %v", err)
	}
	if err := feed(&s, &holding{}, 1, 1<<16, 1, 24_000); err == nil {
		t.Error("200 kB of 100 pass")
	}
	s = soundness{size: &size, limit: limit{100_000, 8}, durables: []*soundDurable{{}, {}}}
	size = 13_000
	for owner := range uint32(2) {
		if err := feed(&s, &holding{}, owner, 1<<16, 1, 24_000); err != nil {
			t.Errorf("of a file of %d bytes: %v", size, err)
		}
	}
}

// TestPendingDoesNotWrap: pairs of a durable and a message that are more than a
// number can say are not taken for the few that are in batches.
func TestPendingDoesNotWrap(t *testing.T) {
	b := newBatch(t, rand.New(rand.NewPCG(1, 1)), 10)
	b.First, b.Stamp = 1, 1
	s := soundness{time: 1, size: new(int64), limit: keptLimit}
	records := []Record{&Store{Name: "s", Epoch: math.MaxUint16}}
	sizes := []uint64{math.MaxInt64, math.MaxInt64, 3*uint64(b.Count) + 2}
	for i, n := range sizes {
		records = append(records, &Durable{Name: strconv.Itoa(i), Kind: durable.KindShared, Prefetch: 1, Matched: n, Marks: []byte{0}})
	}
	for i, n := range sizes {
		records = append(records, &Pending{Durable: uint32(i), Runs: []Run{{First: 1, N: n}}})
	}
	for _, r := range append(records, b) {
		if err := s.put(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.end(&Manifest{}); err == nil || !strings.Contains(err.Error(), "in a batch") {
		t.Errorf("messages are pending in no batch: %v", err)
	}
}
