package bench

import (
	"context"

	"github.com/perdure/perdure/message"
)

// match publishes messages with a field whose values take turns, so that each
// durable wants one in Matchers. Nobody is attached.
func match(r *run) (*Figures, error) {
	matchers := max(1, r.load.Matchers)
	if err := r.feedAll(); err != nil {
		return nil, err
	}
	for _, f := range r.feeds {
		f.message.SetInt(matchedField, 0)
		f.prepare = func(m *message.Message, i int) {
			m.Fields[0].Value = message.Int(int64(i % matchers))
		}
	}
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	f, err := r.window(r.confirmed)
	if err != nil {
		return nil, err
	}
	f.Matchers = matchers
	return r.finish(f)
}
