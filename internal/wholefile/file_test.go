package wholefile

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func root(t *testing.T) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// files reads everything in a directory.
func files(t *testing.T, r *os.Root) map[string]string {
	t.Helper()
	list, err := os.ReadDir(r.Name())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(r.Name(), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

func want(t *testing.T, r *os.Root, want map[string]string) {
	t.Helper()
	if got := files(t, r); !maps.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func write(t *testing.T, f *File, text string) {
	t.Helper()
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, r *os.Root, name string) *File {
	t.Helper()
	f, err := Create(r, name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReplace(t *testing.T) {
	r := root(t)
	for i, text := range []string{"one", "two", "three"} {
		f := create(t, r, "a")
		write(t, f, "something else, and longer")
		if err := f.Restart(); err != nil {
			t.Fatal(err)
		}
		write(t, f, text)
		before := []map[string]string{{}, {"a": "one"}, {"a": "two", "a.backup": "one"}}[i]
		before[".a.new"] = text
		want(t, r, before)
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := f.Discard(); err != nil || f.Size() != int64(len(text)) {
			t.Errorf("discarding what is done: %v; %d bytes", err, f.Size())
		}
	}
	want(t, r, map[string]string{"a": "three", "a.backup": "two"})
	info, err := r.Stat("a")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	f := create(t, r, "a")
	write(t, f, "four")
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]string{"a": "three", "a.backup": "two"})
}

// What a killed process has left does not keep the next one from writing.
func TestLeftovers(t *testing.T) {
	r := root(t)
	for _, name := range []string{".a.new", ".a.new.backup"} {
		if err := r.WriteFile(name, []byte("left over, and longer than what comes"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := create(t, r, "a")
	write(t, f, "new")
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]string{"a": "new"})
}

func TestOneWriter(t *testing.T) {
	r := root(t)
	f := create(t, r, "a")
	if _, err := Create(r, "a"); !errors.Is(err, ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	create(t, r, "b") // another file is another matter
	write(t, f, "first")
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f = create(t, r, "a")
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
}

// Nothing but a regular file is replaced, and no name or link leads out.
func TestNames(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "dir")
	outside := filepath.Join(parent, "outside")
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.WriteFile(outside, []byte("outside"), 0o600), os.Mkdir(filepath.Join(dir, "sub"), 0o700),
		os.Symlink(outside, filepath.Join(dir, "link")), os.Symlink(outside, filepath.Join(dir, ".planted.new")),
		os.Symlink(parent, filepath.Join(dir, "up")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // it was only written to
	for _, name := range []string{"../outside", outside, "link", "sub", "planted", "up/outside", "", ".", "..", "a\x00b", strings.Repeat("x", 300)} {
		if f, err := Create(r, name); err == nil {
			t.Errorf("%q can be written", name)
			_ = f.Discard()
		}
	}
	list, err := os.ReadDir(parent)
	if err != nil || len(list) != 2 {
		t.Errorf("%v (%v)", list, err)
	}
	b, err := os.ReadFile(outside)
	if err != nil || string(b) != "outside" {
		t.Errorf("outside holds %q (%v)", b, err)
	}
	// A link as the backup goes itself, not what it leads to.
	if err := os.Symlink(outside, filepath.Join(dir, "a.backup")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f := create(t, r, "a")
		write(t, f, "new")
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "outside" {
		t.Errorf("outside holds %q (%v)", b, err)
	}
	if list, err = os.ReadDir(dir); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".planted.new a a.backup link sub up" {
		t.Errorf("the directory has %s", got)
	}
}
