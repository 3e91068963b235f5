package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/store/statefile"
)

// savedState is a state file of this server.
type savedState struct {
	name     string
	mark     fileMark
	manifest *statefile.Manifest
}

// stateAge is what another server says about its newest state of a cluster.
type stateAge struct {
	Found   bool   `json:"found"`
	Time    int64  `json:"time"`    // of the cluster, when it was saved
	Applied uint64 `json:"applied"` // entries
}

func (f *savedState) age() stateAge {
	if f == nil {
		return stateAge{}
	}
	return stateAge{Found: true, Time: f.manifest.Time, Applied: f.manifest.Applied}
}

// newer reports whether a is of a later state than b.
func (a stateAge) newer(b stateAge) bool {
	if a.Found != b.Found {
		return a.Found
	}
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Applied, b.Applied)) > 0
}

// savedStates returns the state files of a cluster. One that cannot be read is an
// error only if it is what the service is saved into: nobody knows of which cluster
// another one is.
func (s *Server) savedStates(cluster, service string) (list []*savedState, err error) {
	entries, err := os.ReadDir(s.stateDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fileFault("read the state directory", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), stateSuffix) || checkStateName(e.Name()) != nil {
			continue
		}
		f, err := s.openSaved(e.Name())
		switch {
		case err == nil && f.manifest.Cluster == cluster:
			list = append(list, f)
		case err != nil && e.Name() == stateFileName(cluster, service):
			return nil, fmt.Errorf("file %s: %w", e.Name(), err)
		case err != nil:
			s.logger.Warn("state file not looked at", "file", e.Name(), "err", err)
		}
	}
	return list, nil
}

// openSaved reads what a state file says it is. That it is true is found out when
// it is loaded.
func (s *Server) openSaved(name string) (*savedState, error) {
	f, err := s.readState(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, s.fileFault("read "+name, err)
	}
	saved := &savedState{name: name, mark: fileMark{size: info.Size()}}
	if _, err := f.ReadAt(saved.mark.tail[:], max(0, info.Size()-markBytes)); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.fileFault("read "+name, err)
	}
	r, err := statefile.NewReader(bufio.NewReaderSize(f, chunkBytes))
	if err != nil {
		return nil, err
	}
	saved.manifest = r.Manifest()
	return saved, nil
}

// newestState returns the newest state file of a cluster that this server has, nil
// if there is none.
func (s *Server) newestState(cluster, service string) (*savedState, error) {
	list, err := s.savedStates(cluster, service)
	var newest *savedState
	for _, f := range list {
		if newest == nil || f.age().newer(newest.age()) {
			newest = f
		}
	}
	return newest, err
}

// loadedState is told to servers that may have the state that was loaded.
type loadedState struct {
	Cluster string `json:"cluster"`
	Hash    string `json:"hash"`
}

// stateLoaded renames the files of a state that was loaded.
func (s *Server) stateLoaded(m loadedState) {
	list, err := s.savedStates(m.Cluster, "")
	if err != nil {
		s.logger.Warn("loaded state files not renamed", "cluster", m.Cluster, "err", err)
	}
	for _, f := range list {
		if f.manifest.StateHash != m.Hash {
			continue
		}
		if _, err := s.markLoaded(f.name); err != nil {
			s.logger.Warn("a loaded state file was not renamed", "file", f.name, "err", err)
		}
	}
}

// onSaved answers another server that was started with --load. One that was not
// has nothing to load.
func (s *Server) onSaved(body []byte) ([]byte, error) {
	var cluster string
	if err := json.Unmarshal(body, &cluster); err != nil {
		return nil, err
	}
	var newest *savedState
	if s.startLoads != nil {
		var err error
		if newest, err = s.newestState(cluster, ""); err != nil {
			return nil, err
		}
	}
	return json.Marshal(newest.age())
}

// onLoaded hears of a state that was loaded because of --load.
func (s *Server) onLoaded(body []byte) error {
	var m loadedState
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	if s.startLoads != nil {
		s.stateLoaded(m)
	}
	return nil
}

const (
	// savedPatience is how long a server looks for others that may have a newer state.
	savedPatience = 10 * time.Second
	// savedAgain is how long it waits before it asks again who did not answer.
	savedAgain = 200 * time.Millisecond
)

// better returns the replica whose server has a newer state than own, 0 if there is
// none. Servers that do not answer in time are done without.
func (l *startLoads) better(ctx context.Context, t *target, own *savedState) (replica uint64) {
	ctx, cancel := context.WithTimeout(ctx, savedPatience)
	defer cancel()
	best := own.age()
	body, _ := json.Marshal(t.cluster.Name) // a string is JSON
	for _, svc := range t.cluster.Services {
		if svc.ServerName == l.server.config.Name {
			continue
		}
		var age stateAge
		for {
			answer, err := l.server.transport.Call(ctx, svc.ServerID, callSaved, body)
			if err == nil {
				err = json.Unmarshal(answer, &age)
			}
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				l.server.logger.Warn("a server does not say whether it has a saved state", "cluster", t.cluster.Name, "of", svc.ServerName, "err", err)
			case <-time.After(savedAgain):
				continue
			}
			break
		}
		if age.newer(best) {
			best, replica = age, svc.ReplicaID
		}
	}
	return replica
}

// pass gives leadership to who has a newer state. It reports whether it is to be
// looked at again, here or there.
func (l *startLoads) pass(ctx context.Context, t *target, replica uint64) bool {
	l.mu.Lock()
	x := l.of(t.cluster.ID)
	x.passed++
	again := x.passed <= maxPasses
	l.mu.Unlock()
	if !again {
		l.server.logger.Warn("another server has a newer saved state, and does not come to lead", "cluster", t.cluster.Name)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if err := t.hosted.group.HandOver(ctx, map[uint64]int{replica: 1}); err != nil {
		l.server.logger.Info("leadership not given to who has a newer saved state", "cluster", t.cluster.Name, "err", err)
	}
	return true
}

// tell tells another server which state was loaded, so that it does not load it
// later. It goes on until that has heard it, or this server stops.
func (l *startLoads) tell(ctx context.Context, server uint64, m loadedState) {
	body, _ := json.Marshal(m) // two texts are JSON
	for tries := 0; ; tries++ {
		_, err := l.server.transport.Call(ctx, server, callLoaded, body)
		if err == nil || ctx.Err() != nil {
			return
		}
		if tries == 0 {
			l.server.logger.Info("a server is not told yet that its saved state was loaded", "cluster", m.Cluster, "to", server, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconcileEvery):
		}
	}
}

// replicate loads a file as a client would.
func (l *startLoads) replicate(ctx context.Context, t *target, f *savedState) error {
	file, err := l.server.readState(f.name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x := &loading{s: l.server, t: t, open: &perdurepb.LoadOpen{Cluster: t.cluster.Name}}
	x.verified = func(*perdurepb.LoadVerified) error { return nil }
	x.in = l.server.receiveState(ctx, new(atomic.Uint64), framesOf(file))
	_, err = x.run(ctx)
	return err
}

// framesOf yields a file in the frames in which a client sends it, twice. A frame
// stays as it is until the next but one is asked for.
func framesOf(file io.ReadSeeker) func() (*perdurepb.LoadClusterRequest, error) {
	buffers := [2][]byte{make([]byte, chunkBytes), make([]byte, chunkBytes)}
	turn, came := 0, 0
	return func() (*perdurepb.LoadClusterRequest, error) {
		if came == 2 {
			return nil, io.EOF
		}
		turn = 1 - turn
		n, err := io.ReadFull(file, buffers[turn])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if end {
			came++
			_, err = file.Seek(0, io.SeekStart)
		}
		if err != nil {
			return nil, err
		}
		return &perdurepb.LoadClusterRequest{Chunk: buffers[turn][:n], End: end}, nil
	}
}
