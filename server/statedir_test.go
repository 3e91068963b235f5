package server

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

func TestStateFiles(t *testing.T) {
	t.Parallel()
	n := start(t, testRealm)
	n.suspend()
	file, saved, _ := n.save(&perdurepb.SaveClusterRequest{ToServer: true})
	if saved.File != "main.main-1.state" || file != nil {
		t.Fatalf("saved %v and %d bytes sent", saved, len(file))
	}
	read := func(name string) (file []byte, err error) {
		stream, err := n.admin.ReadState(n.ctx(), &perdurepb.ReadStateRequest{Name: name})
		for err == nil {
			var m *perdurepb.ReadStateResponse
			m, err = stream.Recv()
			file = append(file, m.GetChunk()...)
		}
		if err == io.EOF {
			err = nil
		}
		return file, err
	}
	if file, err := read(saved.File); err != nil || uint64(len(file)) != saved.Bytes {
		t.Errorf("read %d bytes (%v)", len(file), err)
	}
	dir := filepath.Join(n.config.Data, "state")
	for _, err := range []error{
		os.Symlink(filepath.Join(n.config.Data, "server.json"), filepath.Join(dir, "link")), os.Symlink("..", filepath.Join(dir, "up")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o700), syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Mkdir(filepath.Join(dir, "main.main-1.state.loaded"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]perdurepb.Reason{
		"main.state": perdurepb.Reason_REASON_NO_SUCH_FILE, "link": perdurepb.Reason_REASON_FILE_FAILED, "sub": perdurepb.Reason_REASON_FILE_FAILED,
		"fifo": perdurepb.Reason_REASON_FILE_FAILED, "up/server.json": perdurepb.Reason_REASON_INVALID_NAME, "../server.json": perdurepb.Reason_REASON_INVALID_NAME,
		"..": perdurepb.Reason_REASON_INVALID_NAME, ".main.new": perdurepb.Reason_REASON_INVALID_NAME, "": perdurepb.Reason_REASON_INVALID_NAME,
		"/etc/passwd": perdurepb.Reason_REASON_INVALID_NAME, "a\x00b": perdurepb.Reason_REASON_INVALID_NAME, "ä": perdurepb.Reason_REASON_INVALID_NAME,
		strings.Repeat("x", 65): perdurepb.Reason_REASON_INVALID_NAME, strings.Repeat("x", 64): perdurepb.Reason_REASON_NO_SUCH_FILE,
	} {
		_, err := read(name)
		e := wantReason(t, err, want)
		_, err = n.admin.MarkLoaded(n.ctx(), &perdurepb.MarkLoadedRequest{Name: name})
		wantReason(t, err, want)
		if strings.Contains(e.Message, n.config.Data) {
			t.Errorf("a path is shown: %s", e.Message)
		}
	}
	_, err := n.admin.MarkLoaded(n.ctx(), &perdurepb.MarkLoadedRequest{Name: saved.File})
	wantReason(t, err, perdurepb.Reason_REASON_FILE_FAILED)
	if err := os.Remove(filepath.Join(dir, "main.main-1.state.loaded")); err != nil {
		t.Fatal(err)
	}
	r, err := n.admin.MarkLoaded(n.ctx(), &perdurepb.MarkLoadedRequest{Name: saved.File})
	if err != nil || r.Name != "main.main-1.state.loaded" {
		t.Errorf("renamed to %v (%v)", r, err)
	}
	if _, err := read(r.GetName()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, saved.File), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := n.admin.MarkLoaded(n.ctx(), &perdurepb.MarkLoadedRequest{Name: saved.File}); err != nil || r.Name != "main.main-1.state.loaded.2" {
		t.Errorf("the second is renamed to %v (%v)", r, err)
	}
	if again, err := read("main.main-1.state.loaded"); err != nil || string(again) == "another" {
		t.Errorf("the first is %d bytes (%v)", len(again), err)
	}
	// A file that others write is not touched, and what cannot be written is said.
	if err := os.Mkdir(filepath.Join(dir, saved.File), 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err = n.saving(&perdurepb.SaveClusterRequest{Cluster: "main", ToServer: true})
	wantReason(t, err, perdurepb.Reason_REASON_FILE_FAILED)
}

// Names of clusters and services may have letters that file names do not.
func TestStateFileNames(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("n", 100)
	for _, tc := range [][2]string{
		{"main", "main-1"}, {"a.b", "c"}, {"a", "b.c"}, {"..", ".."}, {"../..", "etc"}, {"a/b", "c"}, {"a_b", "c"}, {"ä", "ö"}, {"a\x00", "b"},
		{long, long}, {long, long + "1"}, {long + "1", long}, {".hidden", "x"}, {"main", "main-1.state"}, {"ab", "c"}, {"a", "bc"},
	} {
		name := stateFileName(tc[0], tc[1])
		key := tc[0] + "|" + tc[1]
		if err := checkStateName(name); err != nil || len(name) > 57 || !strings.HasSuffix(name, ".state") {
			t.Errorf("%q: %q (%v)", key, name, err)
		}
		if seen[name] != "" {
			t.Errorf("%q and %q are both %q", key, seen[name], name)
		}
		seen[name] = key
	}
	if name := stateFileName("main", "main-1"); name != "main.main-1.state" {
		t.Errorf("%q", name)
	}
}
