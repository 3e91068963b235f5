package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// LoadCluster implements perdurepb.AdminServer.
func (s *Server) LoadCluster(stream grpc.BidiStreamingServer[perdurepb.LoadClusterRequest, perdurepb.LoadClusterResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return receiveFault(err)
	}
	open := first.GetOpen()
	if open == nil || len(first.GetChunk()) > 0 {
		return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the first frame of a load must be open")
	}
	t, err := s.clusterTarget(open.GetCluster())
	if err != nil {
		return asFault(err)
	}
	slot := s.loads
	if open.GetAbort() {
		slot = nil // it is what ends the others
	}
	select {
	case slot <- struct{}{}:
		defer func() { <-s.loads }()
	default:
		if open.GetAbort() {
			break
		}
		return faultf(perdurepb.Reason_REASON_OVERLOADED, "server %s loads %d states already, as many as it does at a time; try later", s.config.Name, maxLoads)
	}
	l := &loading{s: s, t: t, open: open}
	var loaded *perdurepb.StateLoaded
	err = s.stateCall(stream.Context(), func() error { return stream.Send(&perdurepb.LoadClusterResponse{Progress: l.progress()}) }, func() error { return nil },
		func(ctx context.Context, send func(func() error) error) (err error) {
			l.in = s.receiveState(ctx, &l.bytes, stream.Recv)
			l.verified = func(v *perdurepb.LoadVerified) error {
				return send(func() error { return stream.Send(&perdurepb.LoadClusterResponse{Verified: v}) })
			}
			loaded, err = l.run(ctx)
			return err
		})
	if err == nil {
		err = stream.Send(&perdurepb.LoadClusterResponse{Loaded: loaded, Progress: l.progress()})
	}
	return s.stateEnd(stream.Context(), err, t.cluster, "loading")
}

// loading is one state on its way into a cluster. The file is read twice: all of it
// is checked before anything is replicated. The counts are read meanwhile.
type loading struct {
	s        *Server
	t        *target
	open     *perdurepb.LoadOpen
	in       *stateStream
	verified func(*perdurepb.LoadVerified) error

	load      uint64
	next      uint64 // the first part that the cluster does not have
	file      fileMark
	manifest  *statefile.Manifest
	durables  []statefile.Durable // of the file, without marks
	targets   []*statepb.LoadTarget
	names     []string // of the stores that targets are
	replace   bool     // what stores have, which is what was asked for
	suspended bool     // by this load: the cluster was empty, and nobody's
	before    bool     // the load had been committed before
	resumed   bool     // the cluster was, since

	bytes, messages, total atomic.Uint64
}

func (l *loading) progress() *perdurepb.StateProgress {
	return &perdurepb.StateProgress{Bytes: l.bytes.Load(), Messages: l.messages.Load(), TotalMessages: l.total.Load()}
}

func (l *loading) run(ctx context.Context) (*perdurepb.StateLoaded, error) {
	if l.open.GetAbort() {
		return &perdurepb.StateLoaded{}, l.abort(ctx)
	}
	if err := l.verify(); err != nil {
		return nil, err
	}
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(l.manifest)
	if err != nil {
		return nil, err
	}
	l.bytes.Store(0)
	l.messages.Store(0)
	if err := l.verified(&perdurepb.LoadVerified{Load: l.load, Manifest: manifest}); err != nil {
		return nil, err
	}
	if !l.before && !l.open.GetDryRun() {
		if err := l.replicate(ctx); err != nil && !l.elsewhere(ctx, err) {
			return nil, err
		}
		l.s.logger.Info("state loaded", "cluster", l.t.cluster.Name, "load", loadName(l.load), "hash", l.manifest.StateHash)
	}
	return l.loaded(), nil
}

func loadName(load uint64) string { return fmt.Sprintf("%016x", load) }

// maxMatchers bounds the matchers of a file, in bytes: they are compared with the
// definition when the file was read.
const maxMatchers = 64 << 20

// verify reads the file to its end.
func (l *loading) verify() error {
	matchers := 0
	r := func(x statefile.Record) error {
		switch x := x.(type) {
		case *statefile.Durable:
			if matchers += len(x.Matcher); matchers > maxMatchers {
				return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "the file has durables with matchers of more than %d MiB in all", maxMatchers>>20)
			}
			l.durables = append(l.durables, statefile.Durable{Store: x.Store, Name: x.Name, Kind: x.Kind, Matcher: x.Matcher, Dynamic: x.Dynamic})
		case *statefile.Batch:
			l.messages.Add(uint64(x.Count))
		}
		return nil
	}
	var err error
	if l.manifest, _, err = statefile.Verify(l.in, r); err != nil {
		return err
	}
	_, messages, _, _ := l.manifest.Totals()
	l.total.Store(messages)
	l.file = l.in.mark()
	return nil
}

// maxAhead is how far a state may be ahead of this server's clock: the time of the
// cluster would stand still for so long.
const maxAhead = 10 * time.Minute

// prepare finds out whether the state fits, and unless this is a dry run begins the
// load, or goes on with it.
func (l *loading) prepare(ctx context.Context) error {
	if ahead := time.Until(time.Unix(0, l.manifest.Time)); ahead > maxAhead {
		return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "the state is of %v, %v ahead of the clock of server %s: set that clock right",
			time.Unix(0, l.manifest.Time).UTC().Format(time.RFC3339), ahead.Round(time.Second), l.s.config.Name)
	}
	if len(l.manifest.Stores) == 0 {
		return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "the file has no stores")
	}
	var suspended, empty bool
	var fits error
	if err := l.t.do(ctx, func(svc *service.Service) {
		suspended, empty = svc.Suspended(), true
		svc.Stores(func(st store.Store) bool {
			empty = empty && st.Untouched()
			return empty
		})
		fits = l.look(svc.Machine)
	}); err != nil || fits != nil || l.before {
		return errors.Join(err, fits)
	}
	switch {
	case !suspended && !empty:
		name := l.t.cluster.Name
		return faultf(perdurepb.Reason_REASON_NOT_SUSPENDED, "cluster %s is not suspended, and has been used: perdure cluster suspend %s comes first", name, name)
	case l.open.GetDryRun():
		return nil
	}
	return l.begin(ctx, suspended)
}

// look names the load, and says why it cannot be, or finds that it was committed
// before. Whoever names it himself may ask at any time; else it is the last one again
// only until the cluster is resumed, since what is pending changes then.
func (l *loading) look(m *store.Machine) error {
	if err := l.assign(m); err != nil {
		return err
	}
	last := m.LastLoad()
	before, resumed := m.LoadBefore()
	unchanged := l.unchanged(m)
	l.load = l.open.GetLoad()
	switch again := l.derive(before); {
	case l.load == 0 && last != 0 && again == last && !resumed && unchanged == nil:
		l.load = again
	case l.load == 0:
		l.load = l.derive(last)
	case l.load == last && unchanged != nil:
		return unchanged
	}
	if l.before = l.load == last; l.before {
		l.resumed = resumed
		return nil
	}
	return l.fit(m)
}

// unchanged says which store was used since the state was loaded that is to be loaded
// now.
func (l *loading) unchanged(m *store.Machine) error {
	for i, from := range l.manifest.Stores {
		st, ok := m.Store(l.targets[i].Store)
		last := st.LastID()
		replaced := last.Counter() == 0 && last.Epoch() > message.ID(from.LastID).Epoch()
		if !ok || uint64(last) != uint64(from.LastID) && !replaced {
			return faultf(perdurepb.Reason_REASON_NOT_EMPTY, "this state was loaded into cluster %s before, and store %q has been used since: it is not loaded again", l.t.cluster.Name, l.names[i])
		}
	}
	return nil
}

// elsewhere reports whether a load that ended with err was committed by somebody who
// loads the same file at the same time.
func (l *loading) elsewhere(ctx context.Context, err error) bool {
	if ctx.Err() != nil || asFault(err).reason != perdurepb.Reason_REASON_NO_SUCH_LOAD {
		return false
	}
	var last uint64
	if l.t.do(ctx, func(svc *service.Service) { last = svc.LastLoad() }) != nil {
		return false
	}
	l.before = last == l.load
	return l.before
}

// assign finds the stores that the ones of the file become.
func (l *loading) assign(m *store.Machine) error {
	rename := l.open.GetRename()
	used := map[string]string{}
	var stores []string
	m.Stores(func(st store.Store) bool {
		stores = append(stores, st.Name())
		return true
	})
	for _, from := range l.manifest.Stores {
		name := from.Name
		if to, ok := rename[name]; ok {
			name = to
		}
		to, ok := m.StoreByName(name)
		switch {
		case !ok:
			return faultf(perdurepb.Reason_REASON_NO_SUCH_STORE, "cluster %s has no store %q%s; --map %s=STORE loads it under another name, --store leaves it out", l.t.cluster.Name, name, suggest(name, stores), from.Name)
		case used[name] != "":
			return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "stores %q and %q of the file would both become %q", used[name], from.Name, name)
		}
		used[name] = from.Name
		l.targets = append(l.targets, &statepb.LoadTarget{Name: from.Name, Store: to.ID()})
		l.names = append(l.names, name)
	}
	for from := range rename {
		if !slices.ContainsFunc(l.manifest.Stores, func(s statefile.StoreSummary) bool { return s.Name == from }) {
			return faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the file has no store %q to be called %q", from, rename[from])
		}
	}
	return nil
}

// fit says why a store cannot become what the file has, and whether any has something
// that is replaced. Where none has, nothing is replaced that comes later: the operator
// has not seen it. Who goes on with the load finds the same.
func (l *loading) fit(m *store.Machine) error {
	for i, name := range l.names {
		to, _ := m.StoreByName(name) // assign has found it
		if l.replace = l.replace || !to.Untouched(); l.replace && !l.open.GetReplace() {
			return faultf(perdurepb.Reason_REASON_NOT_EMPTY, "store %q of cluster %s has been used; --replace puts the saved one in its place", name, l.t.cluster.Name)
		}
		for d := range l.durables {
			if saved := &l.durables[d]; saved.Store == uint32(i) {
				if why := to.Misfit(saved); why != "" {
					return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "%s: the definition of cluster %s must be as it was when the state was saved", why, l.t.cluster.Name)
				}
			}
		}
	}
	return nil
}

// derive names the load of this file into these stores, after the last that was
// committed: whoever loads it again goes on where that was interrupted.
func (l *loading) derive(last uint64) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "perdure load %x %d %016x %v", l.file, l.t.cluster.ID, last, l.open.GetReplace())
	for _, t := range l.targets {
		fmt.Fprintf(h, " %q %d", t.Name, t.Store)
	}
	return max(1, binary.LittleEndian.Uint64(h.Sum(nil)))
}

// begin begins the load, or finds out how far it has come. A cluster that nobody
// has used is suspended for it, which is refused if somebody has used it meanwhile: so
// whoever repeats this after its server died replaces nothing that was confirmed.
func (l *loading) begin(ctx context.Context, suspended bool) error {
	if !suspended {
		r, err := propose(ctx, l.t.hosted.group, store.AppendSuspendUnused(nil, int64(l.t.cluster.Tuning.SuspendGrace)))
		if err != nil {
			return err
		}
		l.suspended = r.Code == store.OK
		if !l.suspended {
			return l.refused(r)
		}
	}
	err := l.propose(ctx)
	if err == nil || !l.suspended || errors.Is(err, context.Canceled) {
		return err
	}
	if _, e := l.t.propose(ctx, store.AppendResume(nil)); e != nil {
		l.s.logger.Warn("cluster stays suspended: its load did not begin", "cluster", l.t.cluster.Name, "err", e)
	}
	return err
}

func (l *loading) propose(ctx context.Context) error {
	if _, err := l.t.awaitQuiet(ctx); err != nil {
		return err
	}
	r, err := propose(ctx, l.t.hosted.group, store.AppendLoadBegin(nil, &statepb.LoadBegin{
		Load: l.load, StateHash: l.manifest.StateHash, LastSession: l.manifest.LastSession, Time: l.manifest.Time,
		Replace: l.replace, Stores: l.targets,
	}))
	switch {
	case err != nil:
		return err
	case r.Code != store.OK:
		return l.refused(r)
	}
	l.next = r.Last
	l.s.logger.Info("state is being loaded", "cluster", l.t.cluster.Name, "load", loadName(l.load), "from_part", l.next)
	return nil
}

// refused says what a command of the load came to.
func (l *loading) refused(r store.Result) *fault {
	f := resultFault(r)
	name := l.t.cluster.Name
	switch r.Code {
	case store.Loading:
		f.text = fmt.Sprintf("another file, or this one with other flags, is being loaded into cluster %s: repeat that command, or end it with perdure cluster load %s --abort", name, name)
	case store.NotEmpty:
		if !l.replace && l.open.GetReplace() {
			f.text += fmt.Sprintf("; somebody has just used cluster %s: perdure cluster suspend %[1]s comes first", name)
			break
		}
		f.text += "; --replace puts the saved one in its place"
	case store.NoSuchLoad:
		f.text = fmt.Sprintf("the load into cluster %s was ended by somebody else", name)
	case store.SequenceGap:
		f = faultf(perdurepb.Reason_REASON_OUTCOME_UNKNOWN, "a part of the state was lost on its way: %s", r.Detail)
	}
	return f
}

// abort ends whatever load is under way.
func (l *loading) abort(ctx context.Context) error {
	var load uint64
	if err := l.t.do(ctx, func(svc *service.Service) { load, _ = svc.Load() }); err != nil {
		return err
	}
	if load == 0 {
		return faultf(perdurepb.Reason_REASON_NO_SUCH_LOAD, "nothing is being loaded into cluster %s", l.t.cluster.Name)
	}
	_, err := l.t.propose(ctx, store.AppendLoadAbort(nil, load))
	if err == nil {
		l.s.logger.Info("load aborted", "cluster", l.t.cluster.Name, "load", loadName(load))
	}
	return err
}

// loaded is what the client is told in the end.
func (l *loading) loaded() *perdurepb.StateLoaded {
	_, messages, _, _ := l.manifest.Totals()
	out := &perdurepb.StateLoaded{StateHash: l.manifest.StateHash, Bytes: uint64(l.file.size), Messages: messages, Before: l.before, Resumed: l.resumed}
	for i, from := range l.manifest.Stores {
		st := &perdurepb.StoreLoaded{From: from.Name, Messages: from.Messages, Durables: uint64(len(from.Durables))}
		if len(l.names) > i {
			st.Name = l.names[i]
		}
		for _, d := range from.Durables {
			st.Pending += d.Pending
		}
		out.Stores = append(out.Stores, st)
	}
	return out
}

// replicate reads the file again and replicates its blocks, then commits.
func (l *loading) replicate(ctx context.Context) error {
	l.in.rewind()
	r, err := statefile.NewReader(l.in)
	if err != nil {
		return l.altered(ctx, err)
	}
	w := partWindow{l: l}
	var parts uint64
	for ; ; parts++ {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return l.altered(ctx, errors.Join(err, w.drain(ctx)))
		}
		if err := w.put(ctx, parts, b); err != nil {
			return err
		}
	}
	if err := w.drain(ctx); err != nil {
		return err
	}
	if l.in.mark() != l.file {
		return l.altered(ctx, errChanged)
	}
	result, err := propose(ctx, l.t.hosted.group, store.AppendLoadCommit(nil, l.load, parts))
	if err == nil && result.Code != store.OK {
		err = l.refused(result)
	}
	return err
}

// errChanged says that a file is right by itself, and another one than before.
var errChanged = faultf(perdurepb.Reason_REASON_INVALID_ARGUMENT, "the file that came the second time is not the one that came the first time")

// altered ends a load whose file is not what it was when it was verified. A client
// that has gone may come back with the rest of it.
func (l *loading) altered(ctx context.Context, err error) error {
	var wrong *statefile.Error
	if errors.As(err, &wrong) || errors.Is(err, errChanged) {
		if _, e := l.t.propose(ctx, store.AppendLoadAbort(nil, l.load)); e != nil {
			l.s.logger.Warn("load not aborted", "cluster", l.t.cluster.Name, "err", e)
		}
	}
	return err
}
