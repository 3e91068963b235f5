package bench

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/client"
)

// lagPoll is how often servers are asked how far they are. To answer costs them
// something.
const lagPoll = 20 * time.Millisecond

// replicate publishes as fast as is confirmed and watches the followers: entries
// and bytes that reach a majority, and how far the others are behind the leader.
// Then a follower stands still while more is published: how fast does it catch
// up?
func replicate(r *run) (*Figures, error) {
	if err := r.feedAll(); err != nil {
		return nil, err
	}
	admin, err := r.admin()
	if err != nil {
		return nil, err
	}
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	w := &lagWatch{r: r, admin: admin}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() { w.watch(ctx) })
	f, err := r.window(r.confirmed)
	cancel()
	watching.Wait()
	if err != nil {
		return nil, err
	}
	f, err = r.finish(f)
	if err != nil {
		return nil, err
	}
	f.More = w.more()
	if r.load.Servers != nil && len(r.load.Servers.Names()) > 1 {
		r.over.Store(false) // the same publishers go on
		err = r.catchUp(admin, int(f.MsgsPerSec*r.load.Duration.Seconds()), f.More)
	}
	return f, err
}

// catchUp pauses a follower, publishes count messages, or the default backlog if
// that is less, and measures how fast the follower gets them.
func (r *run) catchUp(admin *client.Admin, count int, more map[string]float64) error {
	follower, err := r.follower(admin)
	if err != nil {
		return err
	}
	count = max(1, min(count, r.load.backlog()))
	if err := r.load.Servers.Pause(follower); err != nil {
		return err
	}
	if err := r.publishMore("publish", count); err != nil {
		return err
	}
	if err := r.load.Servers.Resume(follower); err != nil {
		return err
	}
	began := time.Now()
	r.enter("catch up", func() int64 { return 0 })
	if err := r.caughtUp(admin, follower); err != nil {
		return err
	}
	catchUpRates(more, count, r.load.Size, time.Since(began))
	return nil
}

// catchUpRates says how fast count messages came.
func catchUpRates(more map[string]float64, count, size int, took time.Duration) {
	rate := ratio(float64(count), took.Seconds())
	more["catchup_messages"], more["catchup_s"] = float64(count), rounded(took.Seconds())
	more["catchup_msgs_per_s"], more["catchup_mb_per_s"] = math.Round(rate), rounded(rate*float64(size)/1e6)
}

// lagWatch notes how many entries followers are behind.
type lagWatch struct {
	r           *run
	admin       *client.Admin
	lags        []uint64 // of each follower at each look
	first, last uint64   // commit of the leader
	voters      int
	began, now  time.Time
}

func (w *lagWatch) watch(ctx context.Context) {
	tick := time.NewTicker(lagPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := w.admin.Status(ctx)
		if err != nil || !w.r.measuring.Load() {
			continue // the run says what is wrong
		}
		if c := clusterOf(s, w.r.load.Endpoint); c != nil {
			w.note(c, time.Now())
		}
	}
}

// note takes one look. The servers were asked one after another, so a follower
// that answered later than the leader may be ahead of it: that is no lag.
func (w *lagWatch) note(c *client.ClusterStatus, now time.Time) {
	var leader uint64
	for _, s := range c.Services {
		if s.Server == c.Leader {
			leader = s.LastIndex
			if w.first == 0 {
				w.first, w.began = s.Commit, now
			}
			w.last, w.now = s.Commit, now
		}
	}
	w.voters = len(c.Services)
	for _, s := range c.Services {
		if s.Server != c.Leader && s.LastIndex > 0 {
			w.lags = append(w.lags, leader-min(leader, s.LastIndex))
		}
	}
}

// more returns what was seen.
func (w *lagWatch) more() map[string]float64 {
	entries := ratio(float64(w.last-w.first), w.now.Sub(w.began).Seconds())
	slices.Sort(w.lags)
	m := map[string]float64{
		"voters": float64(w.voters), "entries_per_s": rounded(entries),
		"lag_p50_entries": float64(quantile(w.lags, 0.50)), "lag_p99_entries": float64(quantile(w.lags, 0.99)),
		"lag_looks": float64(len(w.lags)),
	}
	// At the rate of the run, what is missing takes so long to come.
	m["lag_p99_ms"] = rounded(1000 * ratio(m["lag_p99_entries"], entries))
	return m
}

// quantile returns the value below which q of a sorted list lies; 0 of none.
func quantile(sorted []uint64, q float64) uint64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// clusterOf finds the cluster that holds the store of an endpoint of the bench,
// which have the same name; else the only one that has stores.
func clusterOf(s *client.Status, endpoint string) *client.ClusterStatus {
	var only *client.ClusterStatus
	for i := range s.Clusters {
		c := &s.Clusters[i]
		for _, store := range c.Stores {
			if store.Name == endpoint {
				return c
			}
			only = c
		}
	}
	return only
}
