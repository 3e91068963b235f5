package journal

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Data that looks like a record, which says that more was on disk, does not make an
// opening take the journal's end for damage: neither in a torn tail nor in what a
// file held before.
func TestForgedRecords(t *testing.T) {
	fs := vfs.NewCrashableMem()
	r := newRig(t, fs, MinSegmentBytes)
	evil, _ := appendRecordHeader(nil, &Record{Kind: 1}, 1<<60, 1<<61, 0, 0)
	var data []byte
	for range 20 {
		data = append(data, evil...)
	}
	for range 3 { // three segments, all of it synced
		r.append(Record{Kind: 1, Data: make([]byte, 2000)})
		r.append(Record{Kind: 1, Data: data})
	}
	r.sync()
	for _, n := range r.j.Full() {
		if err := r.j.Release(n); err != nil {
			t.Fatal(err)
		}
	}
	r.append(Record{Kind: 1, Data: make([]byte, 1500)})
	r.append(Record{Kind: 1, Data: make([]byte, 100)})
	r.sync()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	o := r.opts
	o.FS = crashed
	if _, err := Open(o, func(Record, Position) error { return nil }); err != nil {
		t.Fatal("kill -9, then: ", err)
	}
}
