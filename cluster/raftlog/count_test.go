package raftlog

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSyncs counts what reaches the file system, Pebble's own syncs included.
func TestSyncs(t *testing.T) {
	e, err := Open(Options{Dir: "d", Mode: Sync, FS: vfs.NewMem(), AllowNetworkFS: true})
	if err != nil {
		t.Fatal(err)
	}
	begun := e.Syncs()
	if begun == 0 {
		t.Error("an engine was made without a sync")
	}
	if err := create(e, 7, 1); err != nil {
		t.Error(err)
	}
	made := e.Syncs()
	if made <= begun {
		t.Errorf("%d syncs, %d after a copy was made durable", begun, made)
	}
	if s, ok := e.shelf.(*pebbleShelf); ok {
		if err := s.db.Set([]byte("k"), nil, pebble.Sync); err != nil {
			t.Error(err)
		}
		if n := e.Syncs(); n != made+1 {
			t.Errorf("%d syncs after one write of Pebble's, want %d", n, made+1)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
