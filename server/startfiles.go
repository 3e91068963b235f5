package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm/catalog"
	"github.com/perdure/perdure/store/statefile"
)

// savedState is a state file of this server.
type savedState struct {
	name     string
	mark     fileMark
	manifest *statefile.Manifest
}

// stateAge is what another server says about its newest state of a cluster that can
// be loaded, and what is wrong with newer ones.
type stateAge struct {
	Found   bool     `json:"found"`
	Time    int64    `json:"time"`    // of the cluster, when it was saved
	Applied uint64   `json:"applied"` // entries
	Hash    string   `json:"hash"`    // of the state
	Busy    bool     `json:"busy"`    // it is reading them: nothing else is said
	Bad     []string `json:"bad"`
}

func (f *savedState) age() stateAge {
	if f == nil {
		return stateAge{}
	}
	return stateAge{Found: true, Time: f.manifest.Time, Applied: f.manifest.Applied, Hash: f.manifest.StateHash}
}

// compare is above 0 where a is of a later state than b, 0 where they are of the same:
// the servers of a cluster save one state, but not at the same moment.
func (a stateAge) compare(b stateAge) int {
	switch {
	case a.Found != b.Found && a.Found:
		return 1
	case a.Found != b.Found:
		return -1
	case a.Hash == b.Hash:
		return 0
	}
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Applied, b.Applied))
}

// savedStates returns the state files of a cluster, and what is wrong with those
// that its services here are saved into; of another one that cannot be read nobody
// knows of which cluster it is.
func (s *Server) savedStates(cluster string) (list []*savedState, bad []string) {
	entries, err := os.ReadDir(s.stateDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []string{s.fileFault("read the state directory", err).text}
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), stateSuffix) || checkStateName(e.Name()) != nil {
			continue
		}
		f, err := s.openSaved(e.Name())
		switch {
		case err == nil && f.manifest.Cluster == cluster:
			list = append(list, f)
		case err != nil:
			s.logger.Warn("state file not looked at", "file", e.Name(), "err", err)
			if s.savesInto(cluster, e.Name()) {
				bad = append(bad, s.badState(e.Name(), err))
			}
		}
	}
	return list, bad
}

// savesInto reports whether a service of a cluster on this server is saved into a
// file of that name.
func (s *Server) savesInto(cluster, name string) bool {
	c := s.realm.view().Cluster(cluster)
	return c != nil && slices.ContainsFunc(c.Services, func(svc catalog.ServiceView) bool {
		return svc.ServerName == s.config.Name && name == stateFileName(cluster, svc.Name)
	})
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
// if there is none. Nobody has read it to its end.
func (s *Server) newestState(cluster string) (newest *savedState) {
	list, _ := s.savedStates(cluster)
	for _, f := range list {
		if len(f.missing()) == 0 && (newest == nil || f.age().compare(newest.age()) > 0) {
			newest = f
		}
	}
	return newest
}

// loadedState is told to servers that may have the state that was loaded.
type loadedState struct {
	Cluster string `json:"cluster"`
	Hash    string `json:"hash"`
	Time    int64  `json:"time"`    // of the cluster, when it was saved
	Applied uint64 `json:"applied"` // entries
}

// stateLoaded renames the files of a state that was loaded, and of older ones: nobody
// is to load those later, over what became of this one.
func (s *Server) stateLoaded(m loadedState) {
	loaded := stateAge{Found: true, Time: m.Time, Applied: m.Applied, Hash: m.Hash}
	list, _ := s.savedStates(m.Cluster)
	for _, f := range list {
		if f.age().compare(loaded) > 0 {
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
	var age stateAge
	if s.startLoads != nil {
		if found := s.startLoads.ask(cluster); found != nil {
			age = found.file.age()
			age.Bad = found.bad
		} else {
			age.Busy = true
		}
	}
	return json.Marshal(age)
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
// none, and what is wrong with states of other servers. Servers that do not answer in
// time are done without.
func (l *startLoads) better(ctx context.Context, t *target, own *savedState) (replica uint64, bad []string) {
	best := own.age()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(savedPatience, cancel)
	defer patience.Stop()
	for _, svc := range t.cluster.Services {
		if svc.ServerName == l.server.config.Name {
			continue
		}
		age := l.askOther(ctx, t, svc, patience)
		bad = append(bad, age.Bad...)
		if age.Found && age.compare(best) > 0 {
			best, replica = age, svc.ReplicaID
		}
	}
	return replica, bad
}

// askOther asks a server which state it has, until it has read what it finds.
func (l *startLoads) askOther(ctx context.Context, t *target, svc catalog.ServiceView, patience *time.Timer) stateAge {
	body, _ := json.Marshal(t.cluster.Name) // a string is JSON
	for {
		var age stateAge
		answer, err := l.server.transport.Call(ctx, svc.ServerID, callSaved, body)
		if err == nil {
			err = json.Unmarshal(answer, &age)
		}
		if err == nil && !age.Busy {
			return age
		}
		if err == nil {
			patience.Reset(savedPatience)
		}
		select {
		case <-ctx.Done():
			l.server.logger.Warn("a server does not say whether it has a saved state", "cluster", t.cluster.Name, "of", svc.ServerName, "err", err)
			return stateAge{}
		case <-time.After(savedAgain):
		}
	}
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
