package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm/catalog"
)

const (
	// backupsLook is the longest that nobody looks whether a backup is due: the
	// clock may have been set, and files removed.
	backupsLook = time.Minute
	// backupsAgain is how soon a backup that failed is tried again.
	backupsAgain = time.Minute
)

// backups saves the states of the services here whose clusters want that, one after
// the other, into the state directory. What was made when is in the names of the
// files, and nowhere else.
type backups struct {
	server *Server
	logger *slog.Logger
	failed map[[2]uint64]time.Time // by cluster and replica: when
}

func (s *Server) runBackups(ctx context.Context) {
	b := &backups{server: s, logger: s.logger, failed: map[[2]uint64]time.Time{}}
	timer := time.NewTimer(backupsLook)
	defer timer.Stop()
	for {
		v, changed := s.realm.watch()
		timer.Reset(b.pass(ctx, v))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		}
	}
}

// pass makes the backups that are due, and returns how long nothing else will be.
func (b *backups) pass(ctx context.Context, v *catalog.View) time.Duration {
	wait := backupsLook
	if v == nil || !v.Founded {
		return wait
	}
	for i := range v.Clusters {
		c := &v.Clusters[i]
		if c.Backup.Every == 0 {
			continue
		}
		for place, svc := range c.Services {
			h := b.server.reconciler.find(c.ID, svc.ReplicaID)
			if svc.ServerName != b.server.config.Name {
				continue
			}
			if h == nil || !h.running() {
				wait = min(wait, reconcileEvery) // it may soon
				continue
			}
			t := &target{cluster: c, hosted: h}
			left, err := b.look(ctx, t, backupPlan{c.Backup, place, len(c.Services)})
			if ctx.Err() != nil {
				return wait
			}
			if err != nil {
				b.failed[[2]uint64{h.cluster, h.replica}] = time.Now()
				b.logger.Error("backup failed", "cluster", c.Name, "service", h.name, "err", err, "again_in", backupsAgain)
			}
			wait = min(wait, left)
		}
	}
	return wait
}

// look makes a backup of a service if one is due, and returns when the next one is.
func (b *backups) look(ctx context.Context, t *target, p backupPlan) (time.Duration, error) {
	now := time.Now()
	key := [2]uint64{t.hosted.cluster, t.hosted.replica}
	if left := backupsAgain - now.Sub(b.failed[key]); left > 0 && left <= backupsAgain {
		return left, nil
	}
	delete(b.failed, key)
	made, err := b.made(t)
	if err != nil {
		return backupsAgain, err
	}
	if due := p.due(now, made); due.After(now) {
		return due.Sub(now), nil
	}
	v := &saving{s: b.server, t: t, m: &perdurepb.SaveClusterRequest{Online: true, ToServer: true}, own: true, file: backupFileName(t.cluster.Name, t.hosted.name, now)}
	if _, err := v.run(ctx); err != nil {
		return backupsAgain, err
	}
	if made, err = b.made(t); err == nil {
		err = b.prune(t, p.surplus(now, made))
	}
	now = time.Now()
	return max(0, p.due(now, made).Sub(now)), err
}

// made returns when the backups of a service that are there were begun. What a
// process left that was killed while it made one is removed.
func (b *backups) made(t *target) (made []time.Time, err error) {
	err = b.inDir(func(dir *os.Root) error {
		entries, err := fs.ReadDir(dir.FS(), ".")
		if err != nil {
			return b.server.fileFault("list its state directory", err)
		}
		for _, e := range entries {
			name := e.Name()
			if at, ok := backupMade(t.cluster.Name, t.hosted.name, name); ok {
				made = append(made, at)
			}
			whole := strings.TrimSuffix(strings.TrimPrefix(name, "."), ".new")
			if _, ok := backupMade(t.cluster.Name, t.hosted.name, whole); ok && name == "."+whole+".new" {
				if err := dir.Remove(name); err != nil {
					return b.server.fileFault("remove "+name, err)
				}
			}
		}
		return nil
	})
	return made, err
}

// prune removes backups of a service.
func (b *backups) prune(t *target, gone []time.Time) error {
	if len(gone) == 0 {
		return nil
	}
	return b.inDir(func(dir *os.Root) error {
		for _, at := range gone {
			name := backupFileName(t.cluster.Name, t.hosted.name, at)
			if err := dir.Remove(name); err != nil {
				return b.server.fileFault("remove "+name, err)
			}
			b.logger.Info("backup removed", "cluster", t.cluster.Name, "service", t.hosted.name, "file", name)
		}
		return nil
	})
}

func (b *backups) inDir(f func(*os.Root) error) error {
	dir, err := b.server.openStateDir()
	if err != nil {
		return err
	}
	return errors.Join(f(dir), dir.Close())
}
