package bench

import "context"

// backlog puts messages aside that stay pending, and then publishes as fast as
// is confirmed: what pends is not to cost anything. 0 messages are the measure.
func backlog(r *run) (*Figures, error) {
	if r.load.Backlog > 0 {
		if err := r.fill(r.load.Backlog); err != nil {
			return nil, err
		}
	} else if err := r.feedAll(); err != nil {
		return nil, err
	}
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	f, err := r.window(r.confirmed)
	if err != nil {
		return nil, err
	}
	f.Backlog = r.load.Backlog
	return r.finish(f)
}
