package bench

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSweep: what a run that was killed has left goes; what somebody uses, or
// may never have been ours, stays.
func TestSweep(t *testing.T) {
	parent := t.TempDir()
	lay := func(name string, locked bool) *os.File {
		t.Helper()
		dir := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Join(dir, "s1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if !locked {
			return nil
		}
		f, err := claim(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	used := lay(dirPrefix+"used", true)
	defer used.Close()
	if err := lay(dirPrefix+"dead", true).Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	if err := lay("other", true).Close(); err != nil {
		t.Fatal(err)
	}
	lay(dirPrefix+"unmarked", false)
	if err := os.Symlink(filepath.Join(parent, "other"), filepath.Join(parent, dirPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	sweep(parent)
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"other", dirPrefix + "link", dirPrefix + "unmarked", dirPrefix + "used"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	sweep(filepath.Join(parent, "nowhere"))
}

// TestStartSweeps: servers that start find the leftovers, and these leave none.
func TestStartSweeps(t *testing.T) {
	parent := t.TempDir()
	dead := filepath.Join(parent, dirPrefix+"dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := claim(dead)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := StartServers(t.Context(), filepath.Join(parent, "nothing"), 1, "async", ServerOptions{Dir: parent}); err == nil {
		t.Error("nothing was started")
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("%v left, %v", left, err)
	}
}
