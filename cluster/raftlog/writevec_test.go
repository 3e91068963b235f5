package raftlog

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pieces come to lie one behind the other, in a file of the system as in one of
// memory, however many there are.
func TestWriteVec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	o := testOptions(t, Async, vfs.Default)
	name := filepath.Join(t.TempDir(), "f")
	for _, fs := range []vfs.FS{vfs.Default, vfs.NewMem()} {
		if fs != vfs.Default {
			name = "f"
		}
		file, err := newDisk(&Options{FS: fs, Logger: o.Logger, Fatal: o.Fatal}).OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for _, count := range []int{1, 7, 3000} {
			var pieces [][]byte
			at := int64(len(want))
			for range count {
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(300))
				pieces, want = append(pieces, p), append(want, p...)
			}
			if n, err := file.(*diskFile).WriteVec(pieces, at); err != nil || int64(n) != int64(len(want))-at {
				t.Fatal(n, err)
			}
		}
		got := make([]byte, len(want))
		if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes differ: %v", len(want), err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(name); err == nil {
		t.Errorf("a file of memory is on the disk: %v", info)
	}
}
