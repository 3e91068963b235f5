package journal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Whatever bit of a record changes, in data that carries its checksum or not, Read,
// Scan and Open find it.
func TestEveryBitOfARecord(t *testing.T) {
	fs := vfs.NewMem()
	r := newRig(t, fs, MinSegmentBytes)
	rng := rand.New(rand.NewPCG(8, 1))
	for range 6 {
		r.append(record(rng, 60))
	}
	carries := make([]byte, 40)
	sum(carries)
	r.append(Record{Kind: 1, Index: 7, Data: bytes.Repeat([]byte("x"), 40)}, Record{Kind: 1, Index: 8, Summed: true, Data: carries})
	r.sync()
	r.append(record(rng, 20)) // says that they were on disk
	r.close()
	name := fs.PathJoin("j", segmentName(1))
	whole := contents(t, fs, name)
	for _, n := range []int{6, 7} {
		p := r.at[n]
		for bit := range 8 * (recordHeader + int(p.Length)) {
			b := bytes.Clone(whole)
			b[int(p.Offset)+bit/8] ^= 1 << (bit % 8)
			flipped(t, r, b, n, bit)
		}
	}
}

// flipped opens a journal of which a bit of record n changed on disk, and one that
// it changed of while the journal was open.
func flipped(t *testing.T, r *rig, b []byte, n, bit int) {
	t.Helper()
	fs := vfs.NewMem()
	write(t, fs, fs.PathJoin("j", segmentName(1)), b)
	x := &rig{t: t, fs: fs, opts: Options{Dir: "j", FS: fs, SegmentBytes: MinSegmentBytes}}
	got, _, err := x.try()
	var corrupt *CorruptError
	if bit/8 < recordHeader {
		if !errors.As(err, &corrupt) {
			t.Fatalf("bit %d of record %d, in its header: %v", bit, n, err)
		}
		return
	}
	if err != nil || len(got) != len(r.all) || !got[n].Damaged || len(got[n].Data) != 0 || got[n-1].Damaged || got[n+1].Damaged {
		t.Fatalf("bit %d of record %d: %d records, %v", bit, n, len(got), err)
	}
	if _, err := x.j.Read(r.at[n]); !errors.As(err, &corrupt) {
		t.Fatalf("bit %d of record %d, read: %v", bit, n, err)
	}
	err = x.j.Scan(1, func(rec Record, p Position) error {
		if p == r.at[n] {
			t.Fatalf("bit %d of record %d, scanned: %+v", bit, n, rec)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("bit %d of record %d: scan: %v", bit, n, err)
	}
	x.close()
}

// The checksum that data carries is taken as it is: that it was wrong when it was
// appended is found by who reads.
func TestCarriedChecksumIsTrustedAndCompared(t *testing.T) {
	r := newRig(t, vfs.NewMem(), MinSegmentBytes)
	wrong := []byte("....0123456789abcdef")
	sum(wrong)
	wrong[10] ^= 1
	r.append(Record{Kind: 1, Index: 1, Summed: true, Data: wrong})
	r.sync()
	r.append(Record{Kind: 1, Index: 2})
	var corrupt *CorruptError
	if _, err := r.j.Read(r.at[0]); !errors.As(err, &corrupt) {
		t.Errorf("read: %v", err)
	}
	r.close()
	if got, _ := r.open(); len(got) != 2 || !got[0].Damaged || got[1].Damaged {
		t.Errorf("replayed %+v", got)
	}
	r.close()
}

// BenchmarkAppend appends records of 64 KiB, with and without their checksum.
func BenchmarkAppend(b *testing.B) {
	for name, summed := range map[string]bool{"computes": false, "carries": true} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, vfs.NewMem(), 8<<20)
			data := make([]byte, 64<<10)
			sum(data)
			recs := []Record{{Kind: 1, Summed: summed, Data: data}}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				at, err := r.j.Append(nil, recs)
				if err != nil {
					b.Fatal(err)
				}
				if n := at[0].Segment; n > 2 {
					if err := r.j.Release(n - 2); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
