package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What can wait takes a quarter of the time, however its pieces are cut.
func TestPaced(t *testing.T) {
	for _, piece := range []time.Duration{10 * time.Microsecond, time.Millisecond, 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			breathe, began := paced(t.Context()), time.Now()
			const work = 2 * time.Second
			for range work / piece {
				time.Sleep(piece) // it works
				if err := breathe(); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took < paceShare*work*95/100 || took > paceShare*work {
				t.Errorf("pieces of %v: %v of work take %v", piece, work, took)
			}
		})
	}
}

// It does not rest for what it only waited for, and it ends when it is to end.
func TestPacedWaitsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		breathe := paced(ctx)
		time.Sleep(time.Hour)
		began := time.Now()
		if err := breathe(); err != nil || time.Since(began) > time.Second {
			t.Errorf("it rests for %v: %v", time.Since(began), err)
		}
		over := errors.New("over")
		cancel(over)
		if err := breathe(); !errors.Is(err, over) {
			t.Errorf("it ends with %v", err)
		}
		time.Sleep(paceLonger)
		if err := breathe(); !errors.Is(err, over) {
			t.Errorf("it ends with %v", err)
		}
	})
}
