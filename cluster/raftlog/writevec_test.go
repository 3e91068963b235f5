package raftlog

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// whole holds that no write goes over a multiple of folioBytes.
type whole struct {
	vfs.File
	t *testing.T
}

func (w whole) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 || off/folioBytes != (off+int64(len(p))-1)/folioBytes {
		w.t.Errorf("%d bytes at %d", len(p), off)
	}
	return w.File.WriteAt(p, off)
}

func TestWriteVecInFolios(t *testing.T) {
	fs := vfs.NewMem()
	file, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f := &diskFile{File: whole{file, t}, disk: newDisk(&Options{FS: fs, Mode: Sync}), name: "f"}
	for _, sizes := range [][]int{{1}, {100, folioBytes - 101}, {folioBytes, 1, 0, 5}, {3 * folioBytes}, {7, 2*folioBytes + 9, 12}} {
		var pieces [][]byte
		end, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, size := range sizes {
			pieces, want = append(pieces, make([]byte, size)), want+size
		}
		if n, err := f.WriteVec(pieces, end.Size()); n != want || err != nil {
			t.Errorf("%v: %d, %v", sizes, n, err)
		}
	}
}

// Pieces come to lie one behind the other, in a file of the system as in one of
// memory, however many there are.
func TestWriteVec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	o := testOptions(t, Async, vfs.Default)
	name := filepath.Join(t.TempDir(), "f")
	for _, to := range []struct {
		fs   vfs.FS
		mode Mode
	}{{vfs.Default, Async}, {vfs.NewMem(), Async}, {vfs.Default, Sync}, {vfs.NewMem(), Sync}} {
		name := name + to.mode.String()
		if to.fs != vfs.Default {
			name = "f"
		}
		file, err := newDisk(&Options{FS: to.fs, Mode: to.mode, Logger: o.Logger, Fatal: o.Fatal}).OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for _, count := range []int{1, 7, 3000} {
			var pieces [][]byte
			at := int64(len(want))
			for range count {
				size := rng.IntN(300)
				if rng.IntN(50) == 0 { // as large as what is written at once, and larger
					size = rng.IntN(5) * folioBytes / 2
				}
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, size)
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
	if info, err := os.Stat("f"); err == nil {
		t.Errorf("a file of memory is on the disk: %v", info)
	}
}
