package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/store/statefile"
)

// choices are what this server would load, of its state files, into each cluster. A
// file is read to its end before it is chosen, which takes seconds where it is large:
// who asks for another server is told that it is busy meanwhile.
type choices struct {
	mu      sync.Mutex
	sound   map[fileMark]error // of files that were read
	asked   map[string]*choice // by cluster, until somebody has heard it
	reading map[string]bool
}

// choice is the newest file that can be loaded, nil if there is none, and what is
// wrong with those that would come before it.
type choice struct {
	file *savedState
	bad  []string
}

func newChoices() *choices {
	return &choices{sound: map[fileMark]error{}, asked: map[string]*choice{}, reading: map[string]bool{}}
}

// ask returns the choice for a cluster, nil as long as files are read.
func (l *startLoads) ask(cluster string) *choice {
	c := l.choices
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.asked[cluster]; found != nil {
		delete(c.asked, cluster)
		return found
	}
	if !c.reading[cluster] {
		c.reading[cluster] = true
		l.server.wg.Go(func() {
			found := l.choose(cluster)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asked[cluster], c.reading[cluster] = found, false
		})
	}
	return nil
}

// choose looks for the newest file that can be loaded.
func (l *startLoads) choose(cluster string) *choice {
	list, bad := l.server.savedStates(cluster)
	found := &choice{bad: bad}
	slices.SortStableFunc(list, func(a, b *savedState) int { return -a.age().compare(b.age()) })
	for _, f := range list {
		err := l.loadable(f)
		if err == nil {
			found.file = f
			break
		}
		l.server.logger.Warn("a saved state is passed over", "cluster", cluster, "file", f.name, "err", err)
		found.bad = append(found.bad, l.server.badState(f.name, err))
	}
	return found
}

// loadable says why a file is not to be loaded by --load: something in it is wrong,
// or only some of the cluster's stores were saved.
func (l *startLoads) loadable(f *savedState) error {
	if missing := f.missing(); len(missing) > 0 {
		return faultf(perdurepb.Reason_REASON_LOAD_REFUSED, "it was saved without store %s; perdure cluster load loads what it has", strings.Join(missing, ", "))
	}
	l.choices.mu.Lock()
	err, known := l.choices.sound[f.mark]
	l.choices.mu.Unlock()
	if known {
		return err
	}
	if err = l.read(f); !errors.Is(err, errStops) {
		l.choices.mu.Lock()
		l.choices.sound[f.mark] = err
		l.choices.mu.Unlock()
	}
	return err
}

// badState says what is wrong with a file.
func (s *Server) badState(name string, err error) string {
	return fmt.Sprintf("file %s of server %s: %s", name, s.config.Name, asFault(err).text)
}

// missing returns the stores that the cluster had when f was saved, and f has not.
func (f *savedState) missing() (names []string) {
	r, err := realm.Parse(f.name, []byte(f.manifest.Definition))
	if err != nil {
		return nil // a definition of another version, for people
	}
	c := r.Cluster(f.manifest.Cluster)
	if c == nil {
		return nil
	}
	for _, s := range c.Stores {
		if !slices.ContainsFunc(f.manifest.Stores, func(has statefile.StoreSummary) bool { return has.Name == s.Name }) {
			names = append(names, s.Name)
		}
	}
	return names
}

// read reads all of a file, as long as the server does not stop.
func (l *startLoads) read(f *savedState) error {
	file, err := l.server.readState(f.name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	_, _, err = statefile.Verify(bufio.NewReaderSize(&stoppable{l.server, file}, chunkBytes), nil)
	return err
}

// errStops ends what a server reads when it stops.
var errStops = errors.New("the server stops")

type stoppable struct {
	server *Server
	in     io.Reader
}

func (r *stoppable) Read(b []byte) (int, error) {
	if r.server.stopping() {
		return 0, errStops
	}
	return r.in.Read(b)
}

// why says why the saved state of a cluster was not loaded, "" if it was, or nobody
// has tried here.
func (l *startLoads) why(cluster uint64) string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x := l.of(cluster); x.failed != nil {
		return "its saved state was not loaded: " + asFault(x.failed).text + "; load another with perdure cluster load, or let it begin empty with perdure cluster resume"
	}
	return ""
}

// fail notes why the saved state of a cluster is not loaded.
func (l *startLoads) fail(cluster uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(cluster).failed = err
}
