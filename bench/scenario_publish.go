package bench

import "context"

// publish sends as fast as is confirmed. Nobody is attached to the durable that
// keeps the messages.
func publish(r *run) (*Figures, error) {
	if err := r.feedAll(); err != nil {
		return nil, err
	}
	send := r.sender()
	if r.load.Count > 0 {
		return r.publishCount(send)
	}
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	f, err := r.window(r.confirmed)
	if err != nil {
		return nil, err
	}
	return r.finish(f)
}

// publishCount publishes a number of messages in place of a time.
func (r *run) publishCount(send func(f *feed, ctx context.Context, n int) error) (*Figures, error) {
	all := func(count int) error {
		r.publish(func(f *feed, ctx context.Context) error {
			return send(f, ctx, share(count, len(r.feeds), f.number-1))
		})
		r.publishing.Wait()
		return context.Cause(r.ctx)
	}
	r.enter("warm-up", r.confirmed)
	if err := all(max(1, r.load.Count/warmUp)); err != nil {
		return nil, err
	}
	from, err := r.begin(r.confirmed)
	if err != nil {
		return nil, err
	}
	r.enter("measure", func() int64 { return r.confirmed() - from.messages })
	r.measuring.Store(true)
	if err := all(r.load.Count); err != nil {
		return nil, err
	}
	to, err := r.end(r.confirmed)
	if err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Count = r.load.Count
	return r.finish(f)
}

// share is the part of count that one of n, number i, has.
func share(count, n, i int) int {
	part := count / n
	if i < count%n {
		part++
	}
	return part
}
