package dispatch

import (
	"testing"

	"github.com/perdure/perdure/message"
)

func TestNothingIsAllocatedInSteadyState(t *testing.T) {
	for name, turns := range map[string]*turn{
		"standard": newTurn(Standard, 1, 500),
		"shared":   newTurn(Shared, 3, 7),
	} {
		for range 10 {
			turns.run()
		}
		if n := testing.AllocsPerRun(1000, turns.run); n > 0 {
			t.Errorf("%s: %v allocations in a turn", name, n)
		}
	}
}

func TestTenMillionHeldAreFewRuns(t *testing.T) {
	const n = 10_000_000
	src := &stretch{low: 1, high: n, batch: 50_000, bytes: 10}
	d := New(Shared, src)
	for sub := range uint64(10) {
		if err := d.Attach(sub, Credit{n / 10, n}); err != nil {
			t.Fatal(err)
		}
	}
	out := d.Next(1, nil)
	if held := d.Held().Held; held != n {
		t.Fatalf("%d held", held)
	}
	if len(out) > 300 || len(d.claims.all()) > 300 {
		t.Fatalf("%d deliveries, %d claims", len(out), len(d.claims.all()))
	}
	for sub := range uint64(10) {
		if held := d.Unacked(sub); held != n/10 {
			t.Errorf("%d holds %d", sub, held)
		}
		d.Detach(sub, nil)
	}
	if spans := d.free.all(); len(spans) != 1 || spans[0].size() != n {
		t.Fatalf("given back: %d runs", len(spans))
	}
}

// Nacks one by one with one delay are one run, in either order, and what they
// leave behind in the heap of delays does not add up.
func TestDelaysStayInProportion(t *testing.T) {
	const n = 20_000
	for _, descending := range []bool{false, true} {
		src := &stretch{low: 1, high: n, batch: 1000, bytes: 10}
		d := New(Standard, src)
		if err := d.Attach(1, Credit{n, n * 10}); err != nil {
			t.Fatal(err)
		}
		d.Next(1, nil)
		for i := range message.ID(n) {
			id := i + 1
			if descending {
				id = n - i
			}
			d.Nack(1, id, id, 1000*DelayStep-int64(i), nil) // within one step, nearly
		}
		if spans := len(d.claims.all()); spans > 10 || len(d.delays) > minSweep {
			t.Errorf("descending %t: %d runs, %d delays", descending, spans, len(d.delays))
		}
		d.Gone(1, n)
		if due := d.Deadline(); due != 0 || len(d.delays) != 0 {
			t.Errorf("deadline %d of nothing, %d delays", due, len(d.delays))
		}
	}

	// Messages that are settled long before their delay is over.
	turns := newTurn(Shared, 1, 1)
	for i := range int64(n) {
		turns.src.publish(turns.d)
		id := turns.src.high
		turns.d.Next(1, nil)
		turns.d.Nack(1, id, id, (1_000_000+i)*DelayStep, nil)
		turns.d.Gone(id, id)
		turns.src.low = id + 1
		turns.d.Grant(1, Credit{1, 128})
	}
	if len(turns.d.delays) > minSweep {
		t.Errorf("%d delays of nothing", len(turns.d.delays))
	}
}

// A trickle is shared evenly, however quickly it is acknowledged.
func TestTrickleIsShared(t *testing.T) {
	turns := newTurn(Shared, 4, 1)
	got := make(map[uint64]int)
	for range 400 {
		turns.run()
		for _, o := range turns.out {
			got[o.Sub] += int(o.Messages)
		}
	}
	for sub, n := range got {
		if n != 100 {
			t.Errorf("%d got %d of 400", sub, n)
		}
	}
}

// A subscriber that never acknowledges costs its window, not the durable.
func TestStalledSubscriberStopsNobody(t *testing.T) {
	turns := newTurn(Shared, 2, 10)
	var other uint64
	for range 1000 {
		turns.src.publish(turns.d)
		for _, o := range turns.d.Next(1, nil) {
			if o.Sub == 1 {
				continue
			}
			other += o.Messages
			for _, s := range o.Spans {
				turns.d.Ack(2, s.First, s.Last, nil)
				turns.d.Gone(s.First, s.Last)
			}
			turns.d.Grant(2, Credit{o.Messages, o.Bytes})
		}
	}
	stalled := turns.d.Unacked(1)
	if stalled == 0 || stalled > 1024 || other != 10_000-stalled {
		t.Errorf("stalled has %d, the other had %d of 10000", stalled, other)
	}
}

// However often and much is granted, credit does not overflow.
func TestCreditSaturates(t *testing.T) {
	src := &stretch{low: 1, high: 10, batch: 1, bytes: 1}
	d := New(Shared, src)
	all := ^uint64(0)
	if err := d.Attach(1, Credit{all, all}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		d.Grant(1, Credit{all, all})
	}
	if out := d.Next(1, nil); len(out) != 10 {
		t.Errorf("%d deliveries", len(out))
	}
	if w, ok := d.WantWatermark(); ok {
		t.Errorf("wants %v of nothing", w)
	}
}

// Few of the ids are wanted: the watermark goes on by messages.
func TestWatermarkOfASparseDurable(t *testing.T) {
	rec := newRecord()
	for range 300 {
		rec.publish(100, 100, func(i int) bool { return i == 0 })
	}
	d := New(Standard, rec)
	if err := d.Attach(1, Credit{10, 1000}); err != nil {
		t.Fatal(err)
	}
	if w, ok := d.WantWatermark(); !ok || w != raiseRuns*100+1 {
		t.Errorf("wants %v, %t", w, ok)
	}
}

func TestRangesToTheEnd(t *testing.T) {
	top := ^message.ID(0)
	src := &stretch{low: 1, high: 10, batch: 5, bytes: 1}
	d := New(Standard, src)
	if err := d.Attach(1, Credit{10, 100}); err != nil {
		t.Fatal(err)
	}
	d.Next(1, nil)
	if got, v := d.Nack(1, 6, top, 0, nil); len(got) != 1 || v != OK || got[0] != (Run{6, 10}) {
		t.Errorf("nack: %v, %d", got, v)
	}
	d.Released(0, top)
	if got, v := d.Ack(1, 0, top, nil); len(got) != 1 || v != OK || got[0] != (Run{1, 10}) {
		t.Errorf("ack: %v, %d", got, v)
	}
	if got, v := d.Ack(1, 7, 3, nil); len(got) != 0 || v != OK {
		t.Errorf("empty ack: %v, %d", got, v)
	}
	d.Gone(0, top)
	if where := d.Held(); where != (Totals{}) {
		t.Errorf("left: %+v", where)
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"a kind that does not exist": func() { New(0, newRecord()) },
		"pending without a batch": func() {
			rec := newRecord()
			rec.publish(1, 1, nil)
			rec.batches, rec.watermark = nil, 1
			d := New(Shared, rec)
			if err := d.Attach(1, Credit{1, 1}); err != nil {
				t.Fatal(err)
			}
			d.Next(1, nil)
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// A batch without a count or without bytes costs something.
func TestMessageBytes(t *testing.T) {
	for b, want := range map[Batch]uint64{
		{}:                     1,
		{Count: 10}:            1,
		{Count: 10, Bytes: 11}: 2,
		{Count: 3, Bytes: 9}:   3,
	} {
		if got := b.MessageBytes(); got != want {
			t.Errorf("%+v: %d bytes, want %d", b, got, want)
		}
	}
}
