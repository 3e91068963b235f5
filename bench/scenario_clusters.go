package bench

import (
	"context"
	"time"
)

// clusters publishes to several clusters at once, each with publishers of its
// own. Nobody is attached.
func clusters(r *run) (*Figures, error) {
	for i := range r.load.Clusters {
		for range r.load.Publishers {
			if _, err := r.feedTo(numbered(r.load.Endpoint, i)); err != nil {
				return nil, err
			}
		}
	}
	send := r.sender()
	r.publish(func(f *feed, ctx context.Context) error { return send(f, ctx, untilOver) })
	f, err := r.window(r.confirmed)
	if err != nil {
		return nil, err
	}
	f.Clusters = r.load.Clusters
	return r.finish(f)
}

// idle does nothing, and says what servers with clusters spend on that.
func idle(r *run) (*Figures, error) {
	admin, err := r.admin()
	if err != nil {
		return nil, err
	}
	status, err := admin.Status(r.ctx)
	if err != nil {
		return nil, err
	}
	none := func() int64 { return 0 }
	r.enter("settle", none)
	settle := r.load.Warmup
	if r.load.Servers != nil { // else it is not known how old the clusters are
		settle += formed(len(status.Clusters))
	}
	if err := r.sleep(settle); err != nil {
		return nil, err
	}
	from, err := r.begin(nil)
	if err != nil {
		return nil, err
	}
	r.enter("idle", none)
	if err := r.sleep(r.load.Duration); err != nil {
		return nil, err
	}
	to, err := r.end(nil)
	if err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Size, f.Publishers, f.Window, f.Batch = 0, 0, 0, 0
	f.Clusters, f.Warmup, f.Duration = r.load.Clusters, r.load.Warmup.Seconds(), r.load.Duration.Seconds()
	if own := clusterOf(status, r.load.Endpoint); own != nil {
		f.Durability = own.Durability
	}
	f.More = map[string]float64{"cores_per_server": cores(from, to), "settled_s": rounded(settle.Seconds())}
	return f, nil
}

// formed is how long new clusters are given until what came with forming them is
// over: they elect, write their first checkpoints, and 10 s later compare them.
func formed(clusters int) time.Duration {
	return min(time.Duration(clusters)*20*time.Millisecond, 20*time.Second)
}

// cores is how many processors one server kept busy between two moments.
func cores(from, to moment) float64 {
	used := (to.servers.CPU - from.servers.CPU).Seconds()
	return rounded(ratio(used, to.at.Sub(from.at).Seconds()*float64(to.servers.Servers)))
}
