package server

import (
	"context"
	"time"
)

// Of work that can wait: how much it does at a time, and what share of one processor
// it takes at most.
const (
	paceSlice  = 2 * time.Millisecond
	paceShare  = 4 // a quarter
	paceLonger = 50 * time.Millisecond
)

// paced returns what work that can wait calls between small pieces: it rests for
// three times as long as it worked. So whoever is in a hurry finds the processor
// free, and the more others have to do, the longer it rests: it measures time, not
// work. Its error is why ctx ended.
func paced(ctx context.Context) func() error {
	since := time.Now()
	return func() error {
		worked := time.Since(since)
		if worked < paceSlice {
			return context.Cause(ctx)
		}
		// A piece that took long waited for something else: that is no work.
		rest := time.NewTimer((paceShare - 1) * min(worked, paceLonger))
		defer rest.Stop()
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		since = time.Now()
		return context.Cause(ctx)
	}
}
