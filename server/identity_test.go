package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := openIdentity(dir, "s1")
	if err != nil || first.Install == 0 {
		t.Fatalf("%+v: %v", first, err)
	}
	first.Server, first.Realm, first.Proposed = 7, realmID{1, 2}, realmID{3}
	if err := first.save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := openIdentity(dir, "s1")
	if err != nil || *again != *first {
		t.Fatalf("%+v, want %+v: %v", again, first, err)
	}
	other, err := openIdentity(t.TempDir(), "s1")
	if err != nil || other.Install == first.Install {
		t.Fatalf("another directory is install %d, too: %v", other.Install, err)
	}
	// No temporary file is left, and nobody else may read it.
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v: %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
}

func TestIdentityIsRefused(t *testing.T) {
	for what, content := range map[string]string{
		"nothing":        "",
		"no JSON":        "install: 1",
		"cut off":        `{"install": "12", "na`,
		"a bad realm id": `{"install": "12", "name": "s1", "realm": "abc"}`,
		"a bad number":   `{"install": "many", "name": "s1"}`,
		"no install":     `{"name": "s1"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openIdentity(dir, "s1"); err == nil || !strings.Contains(err.Error(), identityFile) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := t.TempDir()
	if _, err := openIdentity(dir, "s1"); err != nil {
		t.Fatal(err)
	}
	if _, err := openIdentity(dir, "s2"); err == nil || !strings.Contains(err.Error(), `"s1"`) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("of another server: %v", err)
	}
	if _, err := openIdentity(filepath.Join(dir, "missing"), "s1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// A write that fails leaves the old file, and no rubbish.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "taken", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(dir, "taken", []byte("y")); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("over a directory: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
