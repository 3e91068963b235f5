package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// startLoads does what --load asks for: where this server leads a cluster that
// nobody has used, it loads the newest saved state that one of the cluster's servers
// has, before any client is served there. nil does nothing.
//
// Who leads decides, from the state of the cluster: so it happens once, whichever
// servers were started with --load, and goes on under the next leader if this one
// ends meanwhile.
type startLoads struct {
	server  *Server
	choices *choices

	mu       sync.Mutex
	clusters map[uint64]*startLoad
}

// startLoad is how far it is decided what a cluster is to be.
type startLoad struct {
	decided bool
	busy    bool // somebody decides
	passed  int  // how often leadership was offered to who has a newer file
	failed  error
}

// maxPasses is how often leadership is offered to a server that does not take it.
const maxPasses = 5

func newStartLoads(s *Server) *startLoads {
	if !s.config.Load {
		return nil
	}
	return &startLoads{server: s, choices: newChoices(), clusters: map[uint64]*startLoad{}}
}

// of returns what is known of a cluster. The lock is held.
func (l *startLoads) of(cluster uint64) *startLoad {
	x := l.clusters[cluster]
	if x == nil {
		x = &startLoad{}
		l.clusters[cluster] = x
	}
	return x
}

// refuses is what clients of a cluster are told as long as it is not decided
// whether a saved state is loaded; nil then.
func (l *startLoads) refuses(c *catalog.ClusterView) *fault {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of(c.ID).decided {
		return nil
	}
	return faultf(perdurepb.Reason_REASON_SUSPENDED, "server %s was started with --load, and looks for a saved state of cluster %s", l.server.config.Name, c.Name)
}

// look begins to decide for a cluster whose service here runs, if it leads. It does
// not wait.
func (l *startLoads) look(ctx context.Context, v *catalog.View, h *hosted) {
	if l == nil || !h.group.Leads() || !l.take(h.cluster) {
		return
	}
	t := &target{cluster: v.ClusterByID(h.cluster), hosted: h}
	l.server.wg.Go(func() { l.give(h.cluster, l.decide(ctx, t)) })
}

// take reports whether somebody is to decide now.
func (l *startLoads) take(cluster uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.of(cluster)
	if x.decided || x.busy {
		return false
	}
	x.busy = true
	return true
}

func (l *startLoads) give(cluster uint64, decided bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.of(cluster)
	x.busy, x.decided = false, decided
}

// decide reports whether the cluster is as it is to be; else somebody looks again.
func (l *startLoads) decide(ctx context.Context, t *target) bool {
	log := l.server.logger.With("cluster", t.cluster.Name)
	err := l.load(ctx, t)
	switch {
	case err == nil:
		l.fail(t.cluster.ID, nil)
		return true
	case ctx.Err() != nil, errors.Is(err, errLookAgain), passing(err):
		log.Debug("a saved state is looked for again", "err", err)
		return false
	}
	// Nothing must be published where the state is to go.
	l.fail(t.cluster.ID, err)
	if _, e := t.propose(ctx, store.AppendSuspend(nil, int64(t.cluster.Tuning.SuspendGrace))); e != nil {
		log.Error("saved state not loaded; the cluster takes no clients", "err", errors.Join(err, e))
		return false
	}
	log.Error("saved state not loaded; the cluster is suspended: load another with perdure cluster load, or let it begin empty with perdure cluster resume", "err", err)
	return true
}

// errLookAgain says that it cannot be decided yet.
var errLookAgain = errors.New("server: not yet")

// passing reports whether an error is of the moment.
func passing(err error) bool {
	switch asFault(err).reason {
	case perdurepb.Reason_REASON_NOT_LEADER, perdurepb.Reason_REASON_NO_LEADER, perdurepb.Reason_REASON_OUTCOME_UNKNOWN,
		perdurepb.Reason_REASON_OVERLOADED, perdurepb.Reason_REASON_STOPPING, perdurepb.Reason_REASON_MAY_HAVE_FORGOTTEN:
		return true
	}
	return errors.Is(err, cluster.ErrStopped)
}

// load loads the newest state into the cluster, if it is empty and there is one.
func (l *startLoads) load(ctx context.Context, t *target) error {
	log := l.server.logger.With("cluster", t.cluster.Name)
	var revision, last uint64
	untouched, suspended := true, false
	if err := t.do(ctx, func(svc *service.Service) {
		revision, last, suspended = svc.Revision(), svc.LastLoad(), svc.Suspended()
		svc.Stores(func(st store.Store) bool {
			untouched = untouched && st.Untouched()
			return untouched
		})
	}); err != nil {
		return err
	}
	if revision == 0 {
		return errLookAgain // its stores are not there
	}
	if !untouched {
		return l.leave(ctx, t, l.server.newestState(t.cluster.Name), last, suspended)
	}
	found := l.choose(t.cluster.Name)
	own := found.file
	better, bad := l.better(ctx, t, own)
	if better != 0 && l.pass(ctx, t, better) {
		return errLookAgain
	}
	if bad = append(found.bad, bad...); own == nil && len(bad) > 0 {
		return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "no server has one that can be loaded: %s", strings.Join(bad, "; "))
	}
	if own == nil && better != 0 {
		return errLookAgain // what that server has is not given up
	}
	if own == nil {
		log.Info("the cluster begins empty: there is no saved state of it", "dir", l.server.stateDir())
		return nil
	}
	log.Info("saved state is loaded", "file", own.name, "hash", own.manifest.StateHash)
	for _, why := range bad {
		log.Warn("a saved state could not be loaded; an older one, or another server's, is", "why", why)
	}
	if err := l.replicate(ctx, t, own); err != nil {
		return fmt.Errorf("file %s: %w", own.name, err)
	}
	return l.finish(ctx, t, own, true)
}

// leave leaves a cluster that holds something as it is: but where that is the saved
// state itself, because the one who loaded it ended before the cluster was resumed,
// or since the servers still have what was saved when they were shut down.
func (l *startLoads) leave(ctx context.Context, t *target, own *savedState, last uint64, suspended bool) error {
	log := l.server.logger.With("cluster", t.cluster.Name)
	switch {
	case own == nil:
		log.Info("the cluster is left as it is: it holds something, and there is no saved state of it here")
		return nil
	case suspended:
		same, err := l.holds(ctx, t, own)
		if errors.Is(err, errLookAgain) || ctx.Err() != nil {
			return errors.Join(errLookAgain, err)
		} else if err != nil {
			log.Warn("a saved state is not compared with what the cluster holds", "file", own.name, "err", err)
		}
		if same {
			log.Info("the cluster holds the saved state", "file", own.name, "hash", own.manifest.StateHash)
			return l.finish(ctx, t, own, true)
		}
	case last != 0 && l.loadOf(t, own) == last:
		return l.finish(ctx, t, own, false)
	}
	log.Warn("the cluster is left as it is: it holds something, and not the saved state; perdure cluster load --replace loads that", "file", own.name, "suspended", suspended)
	return nil
}

// loadOf names the load of a file into a cluster that had loaded nothing before; 0
// if it does not fit.
func (l *startLoads) loadOf(t *target, f *savedState) uint64 {
	x := &loading{s: l.server, t: t, open: &perdurepb.LoadOpen{Cluster: t.cluster.Name}, file: f.mark, manifest: f.manifest}
	for _, from := range f.manifest.Stores {
		i := slices.IndexFunc(t.cluster.Stores, func(s catalog.StoreView) bool { return s.Name == from.Name })
		if i < 0 {
			return 0
		}
		x.targets = append(x.targets, &statepb.LoadTarget{Name: from.Name, Store: t.cluster.Stores[i].ID})
	}
	return x.derive(0)
}

// ofDelivery are differences that are none of content: who led since a state was
// saved, and who has gone, changes them in a cluster that is suspended, too.
var ofDelivery = []string{"marks", "watermark", "attachments", "attachment"}

// holds reports whether a cluster holds what a file does.
func (l *startLoads) holds(ctx context.Context, t *target, f *savedState) (bool, error) {
	file, err := l.server.readState(f.name)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // it was only read
	if _, _, err := statefile.Verify(bufio.NewReaderSize(file, chunkBytes), nil); err != nil {
		return false, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return false, l.server.fileFault("read "+f.name, err)
	}
	capture, err := t.hosted.group.Capture(ctx)
	if err != nil {
		return false, errors.Join(errLookAgain, err)
	}
	image, err := service.OpenImage(capture, func() error { return context.Cause(ctx) })
	if err != nil {
		return false, errors.Join(errLookAgain, err)
	}
	defer func() { _ = image.Close() }() // it was only read
	out, in := io.Pipe()
	saved := make(chan struct{})
	l.server.spawn(func() {
		defer close(saved)
		_, _, err := image.Save(in, statefile.Manifest{Cluster: t.cluster.Name})
		in.CloseWithError(err)
	})
	defer func() {
		_ = out.Close() // it ends who writes
		<-saved
	}()
	_, err = statefile.Diff(bufio.NewReaderSize(file, chunkBytes), out, math.MaxInt, func(d statefile.Difference) error {
		if slices.Contains(ofDelivery, d.What) {
			return nil
		}
		l.server.logger.Info("the cluster differs from its saved state", "cluster", t.cluster.Name, "file", f.name, "store", d.Store, "durable", d.Durable, "what", d.What)
		return errDiffers
	})
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// errDiffers ends a comparison.
var errDiffers = errors.New("server: the states differ")

// finish resumes the cluster where that is wanted, and renames the file, here and
// wherever the same state is.
func (l *startLoads) finish(ctx context.Context, t *target, own *savedState, resume bool) error {
	if resume {
		if _, err := t.propose(ctx, store.AppendResume(nil)); err != nil {
			return err
		}
		l.server.logger.Info("cluster resumed with its saved state", "cluster", t.cluster.Name, "hash", own.manifest.StateHash)
	}
	m := loadedState{Cluster: t.cluster.Name, Hash: own.manifest.StateHash, Time: own.manifest.Time, Applied: own.manifest.Applied}
	l.server.stateLoaded(m)
	for _, svc := range t.cluster.Services {
		if svc.ServerName != l.server.config.Name {
			l.server.wg.Go(func() { l.tell(ctx, svc.ServerID, m) })
		}
	}
	return nil
}
