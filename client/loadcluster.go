package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// LoadRequest says what LoadCluster loads, and how.
type LoadRequest struct {
	// Open begins to read the file. It is called twice, and again where another
	// server has to go on; each time the same bytes come.
	Open func() (io.ReadCloser, error)
	// Replace puts the state also in the place of what a suspended cluster has.
	Replace bool
	// DryRun finds out whether the state would be loaded, and changes nothing.
	DryRun bool
	// Load names the load, where it is not to be named by what is loaded: one that
	// the cluster has completed last is not done again.
	Load uint64
	// Rename says what stores of the file are called in the cluster, where that is
	// another name.
	Rename map[string]string
	// Progress, if not nil, is told every second or so.
	Progress func(StateProgress)
}

// LoadedState is what LoadCluster has loaded, or in a dry run would.
type LoadedState struct {
	StateHash string
	Bytes     uint64 // of the file
	Messages  uint64
	Stores    []LoadedStore
	Manifest  []byte // of the file, JSON

	// Before says that this load had been committed before, and nothing was done now;
	// Resumed, that the cluster was resumed since then.
	Before, Resumed bool
}

// LoadedStore is a store of a LoadedState.
type LoadedStore struct {
	Name     string
	From     string // as the file calls it
	Messages uint64
	Durables uint64
	Pending  uint64
}

// LoadCluster makes what a state file holds the state of a cluster that nobody has
// used, or of a suspended one. Nothing of it is seen before all of it is there. If the
// leader changes it goes on with the next one; who calls it again with the same file
// and the same request, after it has failed, goes on where it was. The cluster is
// suspended afterwards.
//
// A file that is not whole and right is ErrStateTruncated, ErrStateAltered,
// ErrStateForeign or ErrStateNewer; one that does not fit ErrLoadRefused,
// ErrNotEmpty, ErrNoSuchStore or ErrNotSuspended. Then nothing was changed.
func (a *Admin) LoadCluster(ctx context.Context, cluster string, r LoadRequest) (*LoadedState, error) {
	again := false // some server was sent the file a second time: it may have committed the load
	load := r.Load // or as the first server names it
	start := time.Now()
	l, err := askSince(ctx, a.c, "load cluster", reads, &start, func(ctx context.Context, admin perdurepb.AdminClient) (*LoadedState, error) {
		ctx, heard, end := listen(ctx, &start)
		defer end()
		ctx, fail := context.WithCancelCause(ctx)
		stream, err := admin.LoadCluster(ctx)
		if err != nil {
			fail(nil)
			return nil, err
		}
		s := &stateSender{open: r.Open, send: stream.Send, again: make(chan struct{}), over: make(chan struct{})}
		open := &perdurepb.LoadOpen{Cluster: cluster, Replace: r.Replace, DryRun: r.DryRun, Rename: r.Rename, Load: load}
		go s.run(ctx, open, fail)
		defer func() {
			fail(nil)
			<-s.over
		}()
		var manifest []byte
		verified := false
		for {
			m, err := stream.Recv()
			if err != nil {
				return nil, broken(ctx, err)
			}
			heard()
			if p := m.GetProgress(); p != nil && r.Progress != nil {
				r.Progress(StateProgress{Bytes: p.Bytes, Messages: p.Messages, TotalMessages: p.TotalMessages, Loading: verified})
			}
			if v := m.GetVerified(); v != nil && !verified {
				verified, manifest = true, v.Manifest
				if !r.DryRun {
					load, again = v.Load, true
					close(s.again)
				}
			}
			if l := m.GetLoaded(); l != nil {
				return loadedState(l, manifest), nil
			}
		}
	})
	// Whoever refuses the load by its name knows that nobody has committed it.
	var answered *Error
	if err != nil && again && (!errors.As(err, &answered) || answered.Retryable) {
		err = unknown(err)
	}
	return l, err
}

func loadedState(l *perdurepb.StateLoaded, manifest []byte) *LoadedState {
	out := &LoadedState{StateHash: l.StateHash, Bytes: l.Bytes, Messages: l.Messages, Manifest: manifest, Before: l.Before, Resumed: l.Resumed}
	for _, s := range l.Stores {
		out.Stores = append(out.Stores, LoadedStore{Name: s.Name, From: s.From, Messages: s.Messages, Durables: s.Durables, Pending: s.Pending})
	}
	return out
}

// stateSender sends a file, and when it is told to the same file again.
type stateSender struct {
	open  func() (io.ReadCloser, error)
	send  func(*perdurepb.LoadClusterRequest) error
	again chan struct{}
	over  chan struct{} // closed when run has returned

	mu sync.Mutex // one frame at a time
}

// alive is how often a server hears that a file is still being read: it takes a
// client for lost that says nothing for several times as long.
const alive = 10 * time.Second

// keepAlive sends frames without content until stop is closed.
func (s *stateSender) keepAlive(stop <-chan struct{}) {
	ticker := time.NewTicker(alive)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if s.put(&perdurepb.LoadClusterRequest{}) != nil {
			return
		}
	}
}

func (s *stateSender) put(m *perdurepb.LoadClusterRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(m)
}

// run ends with ctx, or calls fail where the file cannot be read.
func (s *stateSender) run(ctx context.Context, open *perdurepb.LoadOpen, fail context.CancelCauseFunc) {
	defer close(s.over)
	if s.put(&perdurepb.LoadClusterRequest{Open: open}) != nil {
		return // who receives hears why
	}
	stop := make(chan struct{})
	var idle sync.WaitGroup
	idle.Go(func() { s.keepAlive(stop) })
	defer func() {
		close(stop)
		idle.Wait()
	}()
	for range 2 {
		sent, err := s.file()
		if err != nil {
			fail(ownFile(err))
		}
		if err != nil || !sent {
			return
		}
		select {
		case <-s.again:
		case <-ctx.Done():
			return
		}
	}
}

// stateChunk is how much of a file is sent at a time.
const stateChunk = 256 << 10

// file sends the file from its first byte to its last. sent is false if the server
// does not want it any more.
func (s *stateSender) file() (sent bool, err error) {
	in, err := s.open()
	if err != nil {
		return false, err
	}
	defer func() {
		if e := in.Close(); err == nil {
			err = e
		}
	}()
	for buf := make([]byte, stateChunk); ; {
		n, err := io.ReadFull(in, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return false, err
		}
		if s.put(&perdurepb.LoadClusterRequest{Chunk: buf[:n], End: end}) != nil {
			return false, nil
		}
		if end {
			return true, nil
		}
	}
}

// AbortLoad ends the load that is under way in a cluster, and forgets what has come
// of it. If there is none it is ErrNoSuchLoad.
func (a *Admin) AbortLoad(ctx context.Context, cluster string) error {
	start := time.Now()
	_, err := askSince(ctx, a.c, "abort load", repeats, &start, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.StateLoaded, error) {
		ctx, heard, end := listen(ctx, &start)
		defer end()
		stream, err := admin.LoadCluster(ctx)
		if err != nil {
			return nil, err
		}
		// What is wrong with the stream its other side says.
		_ = stream.Send(&perdurepb.LoadClusterRequest{Open: &perdurepb.LoadOpen{Cluster: cluster, Abort: true}})
		for {
			m, err := stream.Recv()
			if err != nil {
				return nil, broken(ctx, err)
			}
			heard()
			if m.GetLoaded() != nil {
				return m.Loaded, nil
			}
		}
	})
	return err
}
