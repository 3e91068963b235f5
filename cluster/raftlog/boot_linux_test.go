package raftlog

import (
	"path/filepath"
	"testing"
)

func TestBootID(t *testing.T) {
	id, err := bootID()
	if err != nil || len(id) < 8 {
		t.Error(id, err)
	}
	if kind, err := networkFS(t.TempDir()); kind != "" || err != nil {
		t.Error(kind, err)
	}
	if _, err := networkFS(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}
