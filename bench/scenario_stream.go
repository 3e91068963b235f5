package bench

import (
	"context"
	"time"
)

// holdPoll is how soon a publisher looks again whether the backlog has shrunk.
const holdPoll = 200 * time.Microsecond

// stream publishes and consumes together, closed loop: publishers wait while too
// much is not consumed.
func stream(r *run) (*Figures, error) {
	if err := r.consumeAll(); err != nil {
		return nil, err
	}
	if err := r.feedAll(); err != nil {
		return nil, err
	}
	bound := int64(r.load.Backlog)
	if bound == 0 {
		bound = DefaultBound
	}
	for _, f := range r.feeds {
		f.stamped, f.hold = true, r.holdAbove(bound)
	}
	r.start(true, false)
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	f, err := r.window(r.consumed)
	if err != nil {
		return nil, err
	}
	f.Backlog, f.Durables = int(bound), r.load.Durables
	return r.finish(f)
}

// holdAbove returns what makes a publisher wait while more than bound messages
// are confirmed and not consumed.
func (r *run) holdAbove(bound int64) func(context.Context) error {
	return func(ctx context.Context) error {
		for r.confirmed()-r.consumed() > bound && !r.over.Load() {
			if err := r.sleep(holdPoll); err != nil {
				return err
			}
		}
		return nil
	}
}
