package bench

import (
	"context"
	"time"
)

// Pacer says when the messages of an open loop are to go: evenly, at a rate, and
// never later because something before was slow. One goroutine uses it.
type Pacer struct {
	rate  float64 // a second
	start time.Time
	next  int64
}

// NewPacer returns a pacer whose first message is due at start. rate is messages
// a second, above 0.
func NewPacer(rate float64, start time.Time) *Pacer { return &Pacer{rate: rate, start: start} }

// Wait waits until the next message is due, and returns when that was meant to
// be. It does not wait for what is due already.
func (p *Pacer) Wait(ctx context.Context) (time.Time, error) {
	meant := p.due()
	for {
		if err := ctx.Err(); err != nil {
			return meant, context.Cause(ctx)
		}
		ahead := time.Until(meant)
		if ahead <= 0 {
			return meant, nil
		}
		pause(min(ahead, 100*time.Millisecond)) // ctx is looked at in between
	}
}

// due returns when the next message is meant to go, and counts it.
func (p *Pacer) due() time.Time {
	// From the start, not from the one before: rounding does not add up.
	meant := p.start.Add(time.Duration(float64(p.next) / p.rate * float64(time.Second)))
	p.next++
	return meant
}
