package bench

import (
	"errors"
	"time"

	"github.com/perdure/perdure/client"
)

// recovery puts a backlog aside and kills all servers: how long until they are
// ready, and until a message is confirmed? Then it kills a follower, publishes as
// much again, and starts it: how fast does it catch up? The messages and their
// rate are those of catching up.
func recovery(r *run) (*Figures, error) {
	backlog := r.load.backlog()
	if err := r.fill(backlog); err != nil {
		return nil, err
	}
	if r.feeds[0].receipt.Durability == client.Memory {
		return nil, errors.New("servers that kept messages in memory are fenced when they start again: use async or sync")
	}
	more := map[string]float64{}
	if err := r.restartAll(more); err != nil {
		return nil, err
	}
	admin, err := r.admin()
	if err != nil {
		return nil, err
	}
	follower, err := r.follower(admin)
	if err != nil {
		return nil, err
	}
	if err := r.lastWords(follower); err != nil {
		return nil, err
	}
	if err := r.load.Servers.Kill(follower); err != nil {
		return nil, err
	}
	before := r.confirmed()
	if err := r.publishMore("publish", backlog); err != nil {
		return nil, err
	}
	from, err := r.begin(nil)
	if err != nil {
		return nil, err
	}
	r.enter("catch up", func() int64 { return 0 })
	if err := r.load.Servers.Start(follower); err != nil {
		return nil, err
	}
	if err := r.ready(); err != nil {
		return nil, err
	}
	more["follower_ready_s"] = rounded(time.Since(from.at).Seconds())
	if err := r.caughtUp(admin, follower); err != nil {
		return nil, err
	}
	missed := r.confirmed() - before
	to, err := r.end(func() int64 { return missed })
	if err != nil {
		return nil, err
	}
	f := r.figures(from, to)
	f.Backlog = backlog
	f, err = r.finish(f)
	if f != nil {
		f.More = more
		f.Times, f.P50, f.P99, f.Max, f.Measured = nil, 0, 0, 0, 0 // of filling
	}
	return f, err
}

// restartAll kills all servers and starts them.
func (r *run) restartAll(more map[string]float64) error {
	s := r.load.Servers
	r.enter("restart", func() int64 { return 0 })
	for _, name := range s.Names() {
		if err := s.Kill(name); err != nil {
			return err
		}
	}
	began := time.Now()
	for _, name := range s.Names() {
		if err := s.Start(name); err != nil {
			return err
		}
	}
	if err := r.ready(); err != nil {
		return err
	}
	more["restart_s"] = rounded(time.Since(began).Seconds())
	if err := r.publishMore("confirm", len(r.feeds)); err != nil {
		return err
	}
	more["confirmed_s"] = rounded(time.Since(began).Seconds())
	return nil
}

// follower returns a server that does not lead.
func (r *run) follower(admin *client.Admin) (string, error) {
	s, err := admin.Status(r.ctx)
	if err != nil {
		return "", err
	}
	cluster := clusterOf(s, r.load.Endpoint)
	if cluster == nil || cluster.Leader == "" {
		return "", errors.New("status names no leader")
	}
	for _, service := range cluster.Services {
		if service.Server != cluster.Leader {
			return service.Server, nil
		}
	}
	return "", errors.New("there is no follower: use 3 servers")
}

// caughtUp waits until a server has what its leader had when it was asked first.
func (r *run) caughtUp(admin *client.Admin, server string) error {
	var goal uint64
	for {
		s, err := admin.Status(r.ctx)
		if err != nil {
			return err
		}
		if cluster := clusterOf(s, r.load.Endpoint); cluster != nil {
			for _, service := range cluster.Services {
				if service.Server == cluster.Leader && goal == 0 {
					goal = service.Commit
				}
			}
			for _, service := range cluster.Services {
				if service.Server == server && goal > 0 && service.Applied >= goal {
					return nil
				}
			}
		}
		if err := r.sleep(readyPoll); err != nil {
			return err
		}
	}
}
