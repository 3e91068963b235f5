package bench

import (
	"context"
	"time"
)

// drain publishes a backlog that nobody consumes, and then times how fast it is
// received and explicitly acknowledged, from subscribing until every
// acknowledgement is confirmed.
func drain(r *run) (*Figures, error) {
	backlog := r.load.backlog()
	if err := r.fill(backlog); err != nil {
		return nil, err
	}
	from, err := r.begin(nil)
	if err != nil {
		return nil, err
	}
	if err := r.consumeAll(); err != nil {
		return nil, err
	}
	for _, g := range r.groups {
		g.want.Store(int64(backlog))
	}
	r.enter("drain", r.consumed)
	r.start(false, false)
	for _, g := range r.groups {
		select {
		case <-g.done:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
	received := time.Since(from.at)
	if err := r.drainEach(); err != nil {
		return nil, err
	}
	to, err := r.end(r.consumed)
	if err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Backlog, f.Durables = backlog, r.load.Durables
	f.More = map[string]float64{"received_s": rounded(received.Seconds()), "repeated": float64(r.repeated())}
	f, err = r.finish(f)
	if f != nil {
		// The times are those of filling, which is not what is measured.
		f.Times, f.P50, f.P99, f.Max, f.Measured = nil, 0, 0, 0, 0
	}
	return f, err
}

// fill publishes a backlog with the load's publishers.
func (r *run) fill(backlog int) error {
	if err := r.feedAll(); err != nil {
		return err
	}
	return r.publishMore("fill", backlog)
}

// publishMore publishes count messages with the publishers that there are.
func (r *run) publishMore(phase string, count int) error {
	r.enter(phase, r.confirmed)
	r.publish(func(f *feed, ctx context.Context) error {
		return f.stream(ctx, share(count, len(r.feeds), f.number-1))
	})
	r.publishing.Wait()
	return context.Cause(r.ctx)
}

// repeated returns how many messages may have been delivered before.
func (r *run) repeated() int64 {
	var n int64
	for _, g := range r.groups {
		n += g.repeated.Load()
	}
	return n
}
