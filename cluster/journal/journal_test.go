package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// rig is a journal with what it should hold.
type rig struct {
	t     testing.TB
	fs    vfs.FS
	opts  Options
	j     *Journal
	all   []Record // appended, in order; those released are gone
	at    []Position
	nonce uint32
}

func newRig(t testing.TB, fs vfs.FS, segment int64) *rig {
	if err := fs.MkdirAll("j", 0o755); err != nil {
		t.Fatal(err)
	}
	if root, err := fs.OpenDir(""); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, fs: fs, opts: Options{Dir: "j", FS: fs, SegmentBytes: segment, Spares: 2}}
	r.open()
	return r
}

// open opens the journal and returns what it replays.
func (r *rig) open() (got []Record, at []Position) {
	r.t.Helper()
	got, at, err := r.try()
	if err != nil {
		r.t.Fatal(err)
	}
	return got, at
}

func (r *rig) try() (got []Record, at []Position, err error) {
	r.nonce += 0x9e3779b9
	r.opts.Nonce = r.nonce
	r.j, err = Open(r.opts, func(rec Record, p Position) error {
		rec.Data = bytes.Clone(rec.Data)
		got, at = append(got, rec), append(at, p)
		return nil
	})
	return got, at, err
}

func (r *rig) append(recs ...Record) {
	r.t.Helper()
	var err error
	if r.at, err = r.j.Append(r.at, recs); err != nil {
		r.t.Fatal(err)
	}
	r.all = append(r.all, recs...)
}

func (r *rig) sync() {
	r.t.Helper()
	if err := r.j.Sync(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.j.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func same(a, b Record) bool {
	return a.Kind == b.Kind && a.Type == b.Type && a.Generation == b.Generation && a.Index == b.Index && a.Term == b.Term && a.More == b.More && a.Summed == b.Summed && bytes.Equal(a.Data, b.Data)
}

func record(rng *rand.Rand, most int) Record {
	r := Record{Kind: Kind(1 + rng.IntN(3)), Type: uint8(rng.IntN(3)), Generation: rng.Uint32(), Index: rng.Uint64(), Term: rng.Uint64(), Data: make([]byte, rng.IntN(most+1))}
	for i := range r.Data {
		r.Data[i] = byte(rng.Uint32())
	}
	if r.Summed = len(r.Data) >= 4 && rng.IntN(2) == 0; r.Summed {
		sum(r.Data)
	}
	return r
}

// sum makes data carry its checksum.
func sum(data []byte) {
	binary.LittleEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
}

func TestRecordsComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newRig(t, vfs.NewMem(), MinSegmentBytes)
	for range 300 {
		var recs []Record
		for range rng.IntN(6) {
			recs = append(recs, record(rng, 900))
		}
		if rng.IntN(30) == 0 {
			recs = append(recs, record(rng, 3*MinSegmentBytes)) // more than a segment
		}
		r.append(recs...)
		if rng.IntN(40) == 0 {
			r.close()
			got, at := r.open()
			if !slices.EqualFunc(got, r.all, same) || !slices.Equal(at, r.at) {
				t.Fatalf("%d records came back, want %d", len(got), len(r.all))
			}
		}
	}
	if st := r.j.Stats(); st.Segments < 20 {
		t.Errorf("only %+v", st)
	}
	for i, p := range r.at {
		got, err := r.j.Read(p)
		if err != nil || !same(got, r.all[i]) {
			t.Fatalf("record %d at %v: %+v, %v", i, p, got, err)
		}
	}
	if _, err := r.j.Append(nil, []Record{{Data: make([]byte, MaxData+1)}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := r.j.Append(nil, []Record{{Summed: true, Data: make([]byte, 3)}}); err == nil {
		t.Error("three bytes carry a checksum")
	}
	if got, err := r.j.Read(Position{r.at[0].Segment, r.at[0].Offset + 8, 1}); err == nil {
		t.Errorf("read %+v where there is none", got)
	}
	r.close()
	if _, err := r.j.Append(nil, []Record{{}}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := r.j.Read(r.at[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestReleasedSegmentsAreWrittenAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	r := newRig(t, vfs.NewMem(), MinSegmentBytes)
	for range 2000 {
		r.append(record(rng, 500))
		last := r.at[len(r.at)-1].Segment
		// All but the last three segments go.
		for len(r.at) > 0 && r.at[0].Segment+3 < last {
			if err := r.j.Release(r.at[0].Segment); err != nil {
				t.Fatal(err)
			}
			gone := r.at[0]
			for len(r.at) > 0 && r.at[0].Segment == gone.Segment {
				r.at, r.all = r.at[1:], r.all[1:]
			}
			if _, err := r.j.Read(gone); !errors.Is(err, ErrReleased) {
				t.Fatalf("read what was released: %v", err)
			}
		}
	}
	if err := r.j.Release(r.at[len(r.at)-1].Segment); err == nil {
		t.Error("the segment that is written was released")
	}
	if st := r.j.Stats(); st.Segments > 4 || st.Spares > 2 {
		t.Errorf("%+v", st)
	}
	r.close()
	if got, _ := r.open(); !slices.EqualFunc(got, r.all, same) {
		t.Fatalf("%d records came back, want %d", len(got), len(r.all))
	}
	names, err := r.fs.List("j")
	if err != nil || len(names) > 7 {
		t.Errorf("files %v, %v", names, err)
	}
}

// Whatever a crash leaves, everything synced is there, and what else is there is
// the beginning of what was appended after.
func TestCrashes(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 7))
		fs := vfs.NewCrashableMem()
		r := newRig(t, fs, MinSegmentBytes)
		synced := 0
		for range 120 {
			switch rng.IntN(12) {
			case 0, 1, 2, 3, 4, 5, 6:
				var recs []Record
				for range 1 + rng.IntN(4) {
					recs = append(recs, record(rng, 1200))
				}
				r.append(recs...)
			case 7, 8:
				r.sync()
				synced = len(r.all)
			case 9, 10: // only what is on disk may be released, by its caller's rules
				if len(r.at) == 0 || synced == 0 {
					break
				}
				first := r.at[0].Segment
				n := 0
				for n < len(r.at) && r.at[n].Segment == first {
					n++
				}
				if n < synced && n < len(r.at) {
					if err := r.j.Release(first); err != nil {
						t.Fatal(err)
					}
					r.at, r.all, synced = r.at[n:], r.all[n:], synced-n
				}
			case 11:
				lost := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rand.New(rand.NewPCG(seed, rng.Uint64()))})
				_ = r.j.Close() // of the machine that is gone
				fs = lost
				r.opts.FS = fs
				got, at := r.open()
				// What a crash undid of the release of a segment comes back first.
				for len(got) > 0 && len(r.at) > 0 && at[0].Segment < r.at[0].Segment {
					got, at = got[1:], at[1:]
				}
				if len(got) < synced || len(got) > len(r.all) || !slices.EqualFunc(got, r.all[:len(got)], same) {
					t.Fatalf("seed %d: %d records after a crash; %d were appended, %d synced", seed, len(got), len(r.all), synced)
				}
				r.all, r.at, synced = r.all[:len(got)], at, len(got)
			}
		}
		r.close()
	}
}

// Every flipped bit in what a later record says was on disk is found; elsewhere
// the journal ends before it, or the bit was nobody's.
func TestFlippedBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for range 400 {
		fs := vfs.NewMem()
		r := newRig(t, fs, MinSegmentBytes)
		for range 12 {
			r.append(record(rng, 700))
		}
		r.sync()
		safe := len(r.all)
		r.append(record(rng, 200)) // says so
		last := r.at[len(r.at)-1]
		r.close()
		at := rng.IntN(safe)
		p := r.at[at]
		file, err := fs.OpenReadWrite(fs.PathJoin("j", segmentName(p.Segment)), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		where := int64(p.Offset) + rng.Int64N(int64(recordHeader+p.Length))
		if rng.IntN(8) == 0 {
			where = rng.Int64N(segmentHeader)
		}
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, where); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << rng.IntN(8)
		if _, err := file.WriteAt(b, where); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		got, _, err := r.try()
		if where >= int64(p.Offset)+recordHeader && err == nil {
			// Only the data is bad: the others come whole.
			if len(got) == len(r.all) && got[at].Damaged && got[at].Data == nil {
				got[at] = r.all[at]
			}
			if !slices.EqualFunc(got, r.all, same) {
				t.Fatalf("a flipped bit in the data of record %d at %v: %d records", at, p, len(got))
			}
			continue
		}
		if !errors.As(err, &corrupt) {
			t.Fatalf("a flipped bit at %d/%d of record %d, the last is at %v: %d records, %v", p.Segment, where, at, last, len(got), err)
		}
	}
}

// A journal that is cut anywhere ends there, if nothing says that more was on
// disk.
func TestCutAnywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	fs := vfs.NewMem()
	r := newRig(t, fs, 1<<20)
	for range 8 {
		r.append(record(rng, 60))
	}
	name := fs.PathJoin("j", segmentName(r.at[0].Segment))
	whole := contents(t, fs, name)
	end := r.at[7].Offset + uint32(recordSize(int(r.at[7].Length)))
	for cut := range int(end) {
		other := vfs.NewMem()
		write(t, other, name, whole[:cut])
		x := &rig{t: t, fs: other, opts: Options{Dir: "j", FS: other, SegmentBytes: 1 << 20}}
		got, _ := x.open()
		want := 0
		for want < 8 && int(r.at[want].Offset)+recordHeader+int(r.at[want].Length) <= cut {
			want++
		}
		if len(got) != want || !slices.EqualFunc(got, r.all[:want], same) {
			t.Fatalf("cut at %d of %d: %d records, want %d", cut, end, len(got), want)
		}
		// It goes on, and is whole the next time.
		x.append(r.all[7])
		x.close()
		if got, _ := x.open(); len(got) != want+1 || !same(got[want], r.all[7]) {
			t.Fatalf("cut at %d: %d records the next time, want %d", cut, len(got), want+1)
		}
		x.close()
	}
}

// A group is there whole or not at all, wherever it is cut, and lies in one
// segment.
func TestGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	fs := vfs.NewMem()
	r := newRig(t, fs, MinSegmentBytes)
	var ends []int // of groups, in records
	for range 40 {
		n := 1 + rng.IntN(5)
		if rng.IntN(10) == 0 {
			n = 20 // more than a segment
		}
		var recs []Record
		for i := range n {
			rec := record(rng, 600)
			rec.More = i < n-1
			recs = append(recs, rec)
		}
		r.append(recs...)
		ends = append(ends, len(r.all))
		if first := r.at[len(r.at)-n].Segment; first != r.at[len(r.at)-1].Segment {
			t.Fatalf("a group is in segments %d to %d", first, r.at[len(r.at)-1].Segment)
		}
	}
	last := r.at[len(r.at)-1].Segment
	name := fs.PathJoin("j", segmentName(last))
	whole := contents(t, fs, name)
	for cut := segmentHeader; cut < len(whole); cut += 1 + rng.IntN(40) {
		other := vfs.NewMem()
		for n := uint64(1); n < last; n++ {
			write(t, other, fs.PathJoin("j", segmentName(n)), contents(t, fs, fs.PathJoin("j", segmentName(n))))
		}
		write(t, other, name, whole[:cut])
		x := &rig{t: t, fs: other, opts: Options{Dir: "j", FS: other, SegmentBytes: MinSegmentBytes}}
		got, _ := x.open()
		if !slices.EqualFunc(got, r.all[:len(got)], same) || !slices.Contains(ends, len(got)) {
			t.Fatalf("cut at %d: %d records, groups end at %v", cut, len(got), ends)
		}
		more := Record{Kind: 1, Data: []byte("more")}
		x.append(more)
		x.close()
		if again, _ := x.open(); len(again) != len(got)+1 || !same(again[len(got)], more) {
			t.Fatalf("cut at %d: %d records the next time, want %d", cut, len(again), len(got)+1)
		}
		x.close()
	}
}

func contents(t testing.TB, fs vfs.FS, name string) []byte {
	file, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := file.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, fs vfs.FS, name string, b []byte) {
	if err := fs.MkdirAll("j", 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(bytes.Clone(b)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// The format of version 1 is pinned.
func TestGolden(t *testing.T) {
	fs := vfs.NewMem()
	r := newRig(t, fs, MinSegmentBytes)
	r.append(Record{Kind: 1, Type: 2, Generation: 3, Index: 4, Term: 5, Data: []byte("hello")}, Record{Kind: 2, Generation: 3})
	r.sync()
	r.append(Record{Kind: 1, Generation: 3, Index: 5, Term: 5, Data: []byte("0123456789abcdef")})
	carries := []byte("....0123456789abcdef")
	sum(carries)
	r.append(Record{Kind: 1, Generation: 3, Index: 6, Term: 5, Summed: true, Data: carries})
	last := r.at[3]
	b := contents(t, fs, fs.PathJoin("j", segmentName(1)))[:int64(last.Offset)+recordSize(int(last.Length))]
	want, err := os.ReadFile("testdata/v1.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.Dump(b); got != string(want) {
		t.Errorf("the format has changed:\n%s", got)
	}
}

// A write that fails ends the journal.
func TestFailedWritesEndIt(t *testing.T) {
	fs := &failing{FS: vfs.NewMem()}
	r := newRig(t, fs, MinSegmentBytes)
	r.append(Record{Kind: 1, Data: []byte("x")})
	fs.err = errors.New("no such luck")
	if err := r.j.Sync(); !errors.Is(err, fs.err) {
		t.Errorf("sync: %v", err)
	}
	fs.err = nil
	if _, err := r.j.Append(nil, []Record{{Kind: 1}}); err == nil || err.Error() != fmt.Sprintf("journal: sync %s: no such luck", segmentName(1)) {
		t.Errorf("append after a failed sync: %v", err)
	}
	if err := r.j.Sync(); err == nil {
		t.Error("a second sync succeeded")
	}
	if err := r.j.Close(); err == nil {
		t.Error("close says that all is well")
	}
}

// failing fails syncs with err.
type failing struct {
	vfs.FS
	err error
}

func (f *failing) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return &failingFile{file, f}, err
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failingFile) SyncData() error {
	if f.fs.err != nil {
		return f.fs.err
	}
	return f.File.SyncData()
}

func FuzzOpen(f *testing.F) {
	fs := vfs.NewMem()
	r := newRig(f, fs, MinSegmentBytes)
	rng := rand.New(rand.NewPCG(5, 1))
	for range 4 {
		r.append(record(rng, 40))
		r.sync()
	}
	whole := contents(f, fs, fs.PathJoin("j", segmentName(1)))
	f.Add(whole)
	for _, p := range r.at {
		if p.Length > 0 {
			damaged := bytes.Clone(whole)
			damaged[p.Offset+recordHeader] ^= 1
			f.Add(damaged)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		write(t, fs, fs.PathJoin("j", segmentName(1)), b)
		x := &rig{t: t, fs: fs, nonce: 7, opts: Options{Dir: "j", FS: fs, SegmentBytes: MinSegmentBytes}}
		got, at, err := x.try()
		if err != nil {
			return
		}
		for i, p := range at {
			rec, err := x.j.Read(p)
			if got[i].Damaged {
				// It was on disk, as a later record says: reading it names the damage.
				if damage := (*CorruptError)(nil); !errors.As(err, &damage) || damage.Segment != p.Segment || damage.Offset != int64(p.Offset) {
					t.Errorf("damaged record at %v: %v", p, err)
				}
			} else if err != nil || !same(rec, got[i]) {
				t.Errorf("record at %v: %v", p, err)
			}
		}
		more := Record{Kind: 1, Data: []byte("more")}
		x.append(more)
		x.close()
		again, _ := x.open()
		if !slices.EqualFunc(again, append(got, more), func(a, b Record) bool { return same(a, b) && a.Damaged == b.Damaged }) {
			t.Errorf("the next time %v, want %v and one more", again, got)
		}
		x.close()
	})
}
