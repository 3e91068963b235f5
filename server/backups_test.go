package server

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/store/statefile"
)

// A service saves its state again and again and keeps the newest files; nothing
// else in the directory goes.
func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	config := single(t)
	config.StateDir = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(config.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-240 * time.Hour)
	stay := []string{"main.main-1.state", "mine.txt", backupFileName("main", "main-2", long), backupFileName("main", "main-1", long) + loadedSuffix,
		backupFileName("main", "main-1", time.Now().Add(240*time.Hour))}
	gone := []string{backupFileName("main", "main-1", long), "." + backupFileName("main", "main-1", long.Add(time.Hour)) + ".new"}
	for _, name := range slices.Concat(stay, gone) {
		if err := os.WriteFile(filepath.Join(config.StateDir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := open(t, config)
	n.apply(strings.Replace(testRealm, "durability: async", "durability: async\n    backup: {every: 1s, keep: 1}", 1))
	n.mustPublisher("flights").stored(1, 1, bodies("a", "b"))
	names := func() (out []string) {
		list, err := os.ReadDir(config.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if !slices.Contains(stay, e.Name()) {
				out = append(out, e.Name())
			}
		}
		return out
	}
	var seen []string
	n.until("several backups come and go", func() bool {
		for _, name := range names() {
			if _, ok := backupMade("main", "main-1", name); ok && !slices.Contains(seen, name) {
				seen = append(seen, name)
			}
		}
		return len(seen) > 3
	})
	n.stop()
	left := names()
	if len(left) == 0 || len(left) > 2 { // the last may not be over
		t.Errorf("%v are left", left)
	}
	for _, name := range stay {
		if b, err := os.ReadFile(filepath.Join(config.StateDir, name)); err != nil || string(b) != "old" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	newest, err := os.ReadFile(filepath.Join(config.StateDir, left[len(left)-1]))
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := statefile.Verify(bytes.NewReader(newest), nil)
	if err != nil || m.Cluster != "main" || m.Applied == 0 || !strings.Contains(m.Definition, "main-1") {
		t.Errorf("%+v, %v", m, err)
	}
}

// A backup that fails takes nothing with it.
func TestScheduledBackupFails(t *testing.T) {
	t.Parallel()
	config := single(t)
	config.StateDir = filepath.Join(t.TempDir(), "state")
	old := filepath.Join(config.StateDir, backupFileName("main", "main-1", time.Now().Add(-240*time.Hour)))
	if err := os.Mkdir(config.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := open(t, config)
	if err := os.RemoveAll(config.StateDir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.StateDir, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.apply(strings.Replace(testRealm, "durability: async", "durability: async\n    backup: {every: 1h, keep: 1}", 1))
	n.until("a backup fails", func() bool { return strings.Contains(n.log.String(), "backup failed") })
	if b, err := os.ReadFile(config.StateDir); err != nil || string(b) != "no directory" {
		t.Errorf("%q, %v", b, err)
	}
}

// Only so many states are saved at a time, and others wait; who gives up does.
func TestSavesWait(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	for range maxImages {
		n.images <- struct{}{}
	}
	ctx, cancel := context.WithCancel(n.ctx())
	stream, err := n.admin.SaveCluster(ctx, &perdurepb.SaveClusterRequest{Cluster: "main", Online: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.Progress == nil || m.Saved != nil { // a second later
		t.Errorf("while others save: %v, %v", m, err)
	}
	cancel()
	n.until("the call is over", func() bool {
		_, err := stream.Recv()
		return err != nil
	})
	n.apply(strings.Replace(testRealm, "durability: async", "durability: async\n    backup: {every: 1h, keep: 1}", 1))
	n.until("the server's own backup is made, which waits for nobody", func() bool { return len(n.states()) == 1 })
	if len(n.images) != maxImages {
		t.Errorf("%d are counted", len(n.images))
	}
	<-n.images
	if _, saved, err := n.saving(&perdurepb.SaveClusterRequest{Cluster: "main", Online: true}); err != nil || saved == nil {
		t.Errorf("%v, %v", saved, err)
	}
}

// A client that does not read what it has asked for does not pin the log for ever.
func TestSaveIsNotRead(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.readPatience = 200 * time.Millisecond
	p := n.mustPublisher("flights")
	noise := make([]byte, 60<<10)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(40) {
		for k := range noise {
			noise[k] = byte(rnd.Uint32())
		}
		p.stored(i+1, 1, bodies(string(noise)))
	}
	stream, err := n.admin.SaveCluster(n.ctx(), &perdurepb.SaveClusterRequest{Cluster: "main", Online: true})
	if err != nil {
		t.Fatal(err)
	}
	n.until("it is being saved", func() bool { return len(n.images) == 1 })
	n.until("it is given up", func() bool { return len(n.images) == 0 })
	for err == nil {
		_, err = stream.Recv()
	}
	wantReason(t, err, perdurepb.Reason_REASON_CLIENT_TIMEOUT)
}

// An online save of what goes on being published is a state that verifies.
func TestSaveOnline(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.mustPublisher("flights").stored(1, 1, bodies("a", "b", "c"))
	stream, err := n.admin.SaveCluster(n.ctx(), &perdurepb.SaveClusterRequest{Cluster: "main", Online: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Saved != nil {
			if m.Progress.Messages != 3 || m.Progress.TotalMessages != 3 || m.Progress.Bytes != m.Saved.Bytes {
				t.Errorf("in the end %v", m)
			}
			break
		}
	}
	file, saved, err := n.saving(&perdurepb.SaveClusterRequest{Cluster: "main", Online: true})
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := statefile.Verify(bytes.NewReader(file), nil)
	if err != nil || saved.Bytes != uint64(len(file)) {
		t.Fatalf("%v, %v", saved, err)
	}
	if i := slices.IndexFunc(m.Stores, func(s statefile.StoreSummary) bool { return s.Name == "flights" }); i < 0 || m.Stores[i].Messages != 3 {
		t.Errorf("%+v", m)
	}
}
