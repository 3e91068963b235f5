package bench

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestPacerKeepsItsRate(t *testing.T) {
	start := time.Now().Add(-time.Hour)
	p := NewPacer(3, start)
	var last time.Time
	for range 3001 {
		var err error
		if last, err = p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// 3,000 steps of a third of a second: what is rounded does not add up.
	if got := last.Sub(start); got != 1000*time.Second {
		t.Errorf("message 3001 was due after %v, want 1000 s", got)
	}
}

// TestPacerChargesStalls is about coordinated omission: after a stall, messages
// go at once, and each has the time at which it was meant to go.
func TestPacerChargesStalls(t *testing.T) {
	const rate, stalled = 1000, 1000 // messages: a second
	now := time.Now()
	p := NewPacer(rate, now.Add(-stalled*time.Second/rate))
	times := newTimes()
	for range stalled {
		meant, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record(times, now.Sub(meant))
	}
	// They waited from a second down to a millisecond. Times from when they went
	// would all be next to nothing.
	if p50 := times.ValueAtQuantile(50); p50 < 490_000 || p50 > 510_000 {
		t.Errorf("p50 is %d us, want about 500,000", p50)
	}
	if p99 := times.ValueAtQuantile(99); p99 < 980_000 {
		t.Errorf("p99 is %d us, want at least 980,000", p99)
	}
}

func TestPacerEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("over")
	cancel(why)
	if _, err := NewPacer(1, time.Now().Add(time.Hour)).Wait(ctx); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
}
