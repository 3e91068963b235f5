package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/store/statefile"
)

// save saves cluster main, which is suspended, and returns the file.
func (n *node) save(m *perdurepb.SaveClusterRequest) ([]byte, *perdurepb.StateSaved, *statefile.Manifest) {
	n.t.Helper()
	m.Cluster = "main"
	file, saved, err := n.saving(m)
	if err != nil {
		n.t.Fatal(err)
	}
	var manifest statefile.Manifest
	if err := json.Unmarshal(saved.GetManifest(), &manifest); err != nil {
		n.t.Fatal(err)
	}
	return file, saved, &manifest
}

// loadStream is a load of which a test sends every frame.
type loadStream struct {
	n      *node
	stream perdurepb.Admin_LoadClusterClient
}

func (n *node) loading(open *perdurepb.LoadOpen) *loadStream {
	n.t.Helper()
	stream, err := n.admin.LoadCluster(n.ctx())
	if err != nil {
		n.t.Fatal(err)
	}
	l := &loadStream{n, stream}
	l.send(&perdurepb.LoadClusterRequest{Open: open})
	return l
}

// send sends a frame. What is wrong with the stream its other side says.
func (l *loadStream) send(m *perdurepb.LoadClusterRequest) {
	if err := l.stream.Send(m); err != nil && err != io.EOF {
		l.n.t.Error(err)
	}
}

// file sends a file in pieces.
func (l *loadStream) file(file []byte) {
	for len(file) > 10_000 {
		l.send(&perdurepb.LoadClusterRequest{Chunk: file[:10_000]})
		file = file[10_000:]
	}
	l.send(&perdurepb.LoadClusterRequest{Chunk: file, End: true})
}

// next returns the next frame that is not about progress alone.
func (l *loadStream) next() (*perdurepb.LoadClusterResponse, error) {
	for {
		m, err := l.stream.Recv()
		if err != nil || m.Verified != nil || m.Loaded != nil {
			return m, err
		}
	}
}

// load does what a client does.
func (n *node) load(open *perdurepb.LoadOpen, file []byte) (*perdurepb.StateLoaded, error) {
	n.t.Helper()
	open.Cluster = "main"
	l := n.loading(open)
	l.file(file)
	m, err := l.next()
	if err != nil {
		return nil, err
	}
	if m.Verified.GetLoad() == 0 {
		n.t.Fatalf("got %v, want verified", m)
	}
	if !open.DryRun {
		l.file(file)
	}
	if m, err = l.next(); err != nil {
		return nil, err
	}
	if _, err := l.next(); err != io.EOF {
		n.t.Errorf("after the end came %v", err)
	}
	return m.Loaded, nil
}

// used is what tests save: two stores, with everything that a state knows.
func used(t *testing.T) (n *node, publisher *publishing) {
	t.Helper()
	n = start(t, replace(t, testRealm, "durability: async", quickGrace))
	p, small := n.mustPublisher("flights"), n.mustPublisher("small")
	p.stored(1, 1, bodies("a", "b", "c"))
	p.stored(2, 1, bodies("d"))
	small.stored(1, 1, bodies("e", "f"))
	s := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "delays"})
	s.receive(4)
	if err := s.settle(&perdurepb.Settle{Acks: []uint64{1, 1, 4, 4}, Nacks: []*perdurepb.Nack{{First: 2, Last: 2}}, Token: 1}); err != nil {
		t.Fatal(err)
	}
	n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "own", Kind: perdurepb.Kind_KIND_SHARED})
	n.suspend()
	return n, p
}

// A state comes back as it was: messages under their ids, what is pending and how
// often it came, and what a publisher was told.
func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	n, p := used(t)
	file, saved, manifest := n.save(&perdurepb.SaveClusterRequest{})
	if sum := sha256.Sum256(file); int(saved.Bytes) != len(file) || !bytes.Equal(saved.Sha256, sum[:]) || saved.File != "" || saved.Server != "s1" || saved.Service != "main-1" {
		t.Errorf("saved %v", saved)
	}
	if !strings.Contains(manifest.Definition, "suspend_grace: 20ms") || manifest.Cluster != "main" || manifest.Revision != 1 {
		t.Errorf("manifest %+v", manifest)
	}

	other := start(t, replace(t, testRealm, "durability: async", "durability: sync"))
	for _, dry := range []bool{true, false} {
		loaded, err := other.load(&perdurepb.LoadOpen{DryRun: dry}, file)
		if err != nil || loaded.StateHash != manifest.StateHash || loaded.Messages != 6 || int(loaded.Bytes) != len(file) {
			t.Fatalf("loaded %v (%v)", loaded, err)
		}
		var stores []string
		for _, st := range loaded.Stores {
			stores = append(stores, fmt.Sprintf("%s<%s %d %d %d", st.Name, st.From, st.Messages, st.Durables, st.Pending))
		}
		if got := fmt.Sprint(stores); got != "[flights<flights 4 4 6 loose<loose 0 1 0 small<small 2 1 2]" {
			t.Errorf("stores %s", got)
		}
		if other.reconciler.all()[0].suspended.Load() == dry {
			t.Errorf("dry run %v: suspended %v", dry, !dry)
		}
	}
	_, _, again := other.save(&perdurepb.SaveClusterRequest{})
	if again.StateHash != manifest.StateHash {
		t.Errorf("state hash %s, want %s", again.StateHash, manifest.StateHash)
	}
	other.resume()
	p, err := other.publisher(&perdurepb.PublishOpen{Endpoint: "flights", Session: p.opened.Session})
	if err != nil {
		t.Fatal(err)
	}
	if o := p.publish(1, 1, bodies("a", "b", "c")); !o.Duplicate || o.FirstId != 1 {
		t.Errorf("a batch from before: %v", o)
	}
	p.stored(3, 1, bodies("g"))
	s := other.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: "flights", Durable: "delays"})
	d := s.frame().GetDelivery()
	if got := fmt.Sprint(d.GetIds(), d.GetCounted(), d.GetEnded()); got != "[2 3] [0] [1]" {
		t.Errorf("delays gets %s", got)
	}
}

// Only some stores are saved, and stores are loaded under other names.
func TestLoadUnderOtherNames(t *testing.T) {
	t.Parallel()
	n, _ := used(t)
	file, _, manifest := n.save(&perdurepb.SaveClusterRequest{Stores: []string{"small"}, Service: "main-1"})
	if len(manifest.Stores) != 1 || manifest.Stores[0].Name != "small" {
		t.Fatalf("manifest %+v", manifest)
	}
	_, _, err := n.saving(&perdurepb.SaveClusterRequest{Cluster: "main", Stores: []string{"smal"}})
	if e := wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_STORE); !strings.Contains(e.Message, `"small"`) {
		t.Errorf("no suggestion: %s", e.Message)
	}
	for name, rename := range map[string]map[string]string{`"small"`: {"smal": "loose"}, "gone": {"small": "gone"}} {
		_, err := n.load(&perdurepb.LoadOpen{Rename: rename}, file)
		if e := reasonOf(t, err); !strings.Contains(e.Message, name) && !strings.Contains(e.Message, "smal") {
			t.Errorf("%v: %s", rename, e.Message)
		}
	}
	loaded, err := n.load(&perdurepb.LoadOpen{Rename: map[string]string{"small": "loose"}}, file)
	if err != nil || loaded.Stores[0].Name != "loose" || loaded.Stores[0].From != "small" {
		t.Fatalf("loaded %v (%v)", loaded, err)
	}
	n.resume()
	for endpoint, want := range map[string]string{"loose": "[1 2]", "small": "[1 2]"} {
		if got := n.mustSubscriber(&perdurepb.SubscribeOpen{Endpoint: endpoint}).receive(2); fmt.Sprint(got) != want {
			t.Errorf("%s has %v", endpoint, got)
		}
	}
	both, _, _ := func() ([]byte, *perdurepb.StateSaved, *statefile.Manifest) {
		n.suspend()
		return n.save(&perdurepb.SaveClusterRequest{Stores: []string{"small", "loose"}})
	}()
	_, err = n.load(&perdurepb.LoadOpen{Replace: true, Rename: map[string]string{"small": "loose"}}, both)
	if e := wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT); !strings.Contains(e.Message, "both") {
		t.Errorf("two stores become one: %s", e.Message)
	}
}

// many publishes so much that a state has several parts, and saves it.
func many(t *testing.T, n *node) (file []byte, manifest *statefile.Manifest) {
	t.Helper()
	p := n.mustPublisher("flights")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(40) {
		body := make([]byte, 50_000)
		for j := range body {
			body[j] = byte(rng.Uint32())
		}
		p.stored(i+1, 1, bodies(string(body)))
	}
	n.suspend()
	file, _, manifest = n.save(&perdurepb.SaveClusterRequest{})
	return file, manifest
}

// begin sends the file once, and the second time a part of it, of which the leader
// replicates what it can.
func (n *node) begin(open *perdurepb.LoadOpen, file []byte, part int) (l *loadStream, load uint64) {
	n.t.Helper()
	open.Cluster = "main"
	l = n.loading(open)
	l.file(file)
	m, err := l.next()
	if err != nil || m.Verified == nil {
		n.t.Fatalf("%v (%v)", m, err)
	}
	l.send(&perdurepb.LoadClusterRequest{Chunk: file[:part]})
	return l, m.Verified.Load
}

// parts is how many parts of a load under way the leader has applied.
func (n *node) parts() (next uint64) {
	n.t.Helper()
	for _, h := range n.reconciler.all() {
		if err := h.group.Do(n.ctx(), func(cluster.Now) { _, next = h.service.Load() }); err != nil {
			n.t.Fatal(err)
		}
	}
	return next
}

// A load that was interrupted goes on where it was, if it is the same; nothing of it
// is seen before, and nothing else happens meanwhile.
func TestLoadInterrupted(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	file, manifest := many(t, n)
	_, err := n.load(&perdurepb.LoadOpen{Abort: true}, nil)
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_LOAD)

	other := start(t, testRealm)
	l, load := other.begin(&perdurepb.LoadOpen{}, file, len(file)/2)
	other.until("half of it is there", func() bool { return other.parts() >= 4 })
	_, _, err = other.saving(&perdurepb.SaveClusterRequest{Cluster: "main"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_LOADING); !strings.Contains(e.Message, "--abort") {
		t.Errorf("saving meanwhile: %s", e.Message)
	}
	_, err = other.admin.ResumeCluster(other.ctx(), &perdurepb.ResumeClusterRequest{Cluster: "main"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_LOADING); !strings.Contains(e.Message, "--abort") {
		t.Errorf("resuming meanwhile: %s", e.Message)
	}
	small, _, _ := n.save(&perdurepb.SaveClusterRequest{Stores: []string{"small"}})
	_, err = other.load(&perdurepb.LoadOpen{}, small)
	wantReason(t, err, perdurepb.Reason_REASON_LOADING)
	if err := l.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err = l.next()
	wantReason(t, err, perdurepb.Reason_REASON_INVALID_ARGUMENT)
	if stats := other.stores(other.ctx(), other.reconciler.all()[0]); stats[0].Messages != 0 {
		t.Errorf("something is seen: %v", stats)
	}

	before := other.parts()
	other.stop()
	other = open(t, other.config)
	other.until("it leads", func() bool { _, err := other.clusterTarget("main"); return err == nil })
	if at := other.parts(); at != before || before < 4 {
		t.Errorf("%d parts, there were %d", at, before)
	}
	l, again := other.begin(&perdurepb.LoadOpen{}, file, len(file)/3)
	if again != load || !strings.Contains(other.log.String(), fmt.Sprintf("from_part=%d", before)) {
		t.Errorf("load %016x goes on as %016x", load, again)
	}
	l.file(file[len(file)/3:])
	m, err := l.next()
	if err != nil || m.Loaded.GetStateHash() != manifest.StateHash {
		t.Fatalf("%v (%v)", m, err)
	}
	// Who did not hear that it was done asks again.
	if loaded, err := other.load(&perdurepb.LoadOpen{Load: load}, file); err != nil || loaded.StateHash != manifest.StateHash {
		t.Errorf("again: %v (%v)", loaded, err)
	}
	// But another load of the same file is another one.
	_, err = other.load(&perdurepb.LoadOpen{Rename: map[string]string{"small": "loose", "loose": "small"}}, file)
	wantReason(t, err, perdurepb.Reason_REASON_NOT_EMPTY)
	l, again = other.begin(&perdurepb.LoadOpen{Replace: true}, file, len(file)/2)
	if again == load {
		t.Error("it has the same name")
	}
	other.until("it began", func() bool { return other.parts() > 0 })
	if _, err := l.abort(other); err != nil {
		t.Fatal(err)
	}
	l.send(&perdurepb.LoadClusterRequest{Chunk: file[len(file)/2:], End: true})
	_, err = l.next()
	wantReason(t, err, perdurepb.Reason_REASON_NO_SUCH_LOAD)
	other.nothingLoaded()
	if _, _, m := other.save(&perdurepb.SaveClusterRequest{}); m.StateHash != manifest.StateHash {
		t.Errorf("state hash %s, want %s", m.StateHash, manifest.StateHash)
	}
}

// abort ends the load under way.
func (l *loadStream) abort(n *node) (*perdurepb.LoadClusterResponse, error) {
	return n.loading(&perdurepb.LoadOpen{Cluster: "main", Abort: true}).next()
}

// Each server saves what its service has: at one entry the same. A load goes on
// under another leader.
func TestSaveAndLoadThreeServers(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	nodes[0].apply(threeRealm)
	first := leader(t, nodes)
	file, manifest := many(t, first)
	var hashes []string
	for i := range 2 {
		for at, n := range nodes {
			n.until("it knows of the cluster", func() bool { return n.forming() == nil && n.realm.view().Cluster("main") != nil })
			_, saved, m := n.save(&perdurepb.SaveClusterRequest{Service: fmt.Sprintf("main-%d", at+1), ToServer: true, Applied: manifest.Applied})
			hashes = append(hashes, m.StateHash)
			if m.Applied != manifest.Applied || saved.File != fmt.Sprintf("main.main-%d.state", at+1) || saved.Server != n.config.Name {
				t.Errorf("%s saved %v of entry %d, want %d", n.config.Name, saved, m.Applied, manifest.Applied)
			}
			b, err := os.ReadFile(filepath.Join(n.config.Data, "state", saved.File))
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(b); !bytes.Equal(sum[:], saved.Sha256) {
				t.Errorf("%s: the file on disk is not what was saved", n.config.Name)
			}
			list, err := os.ReadDir(filepath.Join(n.config.Data, "state"))
			if err != nil || len(list) != i+1 {
				t.Errorf("%s has %v (%v)", n.config.Name, list, err)
			}
		}
	}
	if slices.Sort(hashes); hashes[0] != manifest.StateHash || hashes[0] != hashes[len(hashes)-1] {
		t.Errorf("hashes %v, want %s", hashes, manifest.StateHash)
	}
	for _, n := range nodes {
		if n != first {
			n.until("it names the leader", func() bool {
				_, _, err := n.saving(&perdurepb.SaveClusterRequest{Cluster: "main"})
				return wantReason(t, err, perdurepb.Reason_REASON_NOT_LEADER).Leader.GetAddress() == first.ClientAddr()
			})
		}
	}
	_, _, err := nodes[0].saving(&perdurepb.SaveClusterRequest{Cluster: "main", Service: "main-2"})
	if e := wantReason(t, err, perdurepb.Reason_REASON_NOT_LEADER); e.Leader.GetAddress() != nodes[1].ClientAddr() {
		t.Errorf("s1 names %v", e.Leader)
	}

	l, load := first.begin(&perdurepb.LoadOpen{Replace: true}, file, len(file)/2)
	first.until("half of it is there", func() bool { return first.parts() >= 4 })
	go first.stop()
	_, err = l.next()
	if e := reasonOf(t, err); !e.Retryable || e.Leader.GetServer() == first.config.Name {
		t.Errorf("the load ends with %v", e)
	}
	first.stop()
	second := leader(t, slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == first }))
	before := second.parts()
	loaded, err := second.load(&perdurepb.LoadOpen{Replace: true, Load: load}, file)
	if err != nil || loaded.StateHash != manifest.StateHash || before < 4 {
		t.Fatalf("loaded %v (%v), from part %d on", loaded, err, before)
	}
	third := open(t, first.config)
	for at, n := range nodes {
		if n == first {
			n = third
			n.until("it runs", func() bool { return n.reconciler.all() != nil && n.reconciler.all()[0].running() })
		}
		n.until("it has loaded it, and opened an epoch", func() bool {
			_, saved, err := n.saving(&perdurepb.SaveClusterRequest{Cluster: "main", Service: fmt.Sprintf("main-%d", at+1), ToServer: true})
			return err == nil && strings.Contains(string(saved.Manifest), `"epoch":1,"last_id"`)
		})
	}
}
