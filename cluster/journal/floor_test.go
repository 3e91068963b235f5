package journal

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Segments below the floor are not read by Open; their records still are by
// position and by Scan, and they can be released.
func TestFloor(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	r := newRig(t, vfs.NewMem(), MinSegmentBytes)
	for range 60 {
		r.append(record(rng, 700))
	}
	full := r.j.Full()
	floor := full[len(full)/2]
	if err := r.j.Raise(floor); err != nil {
		t.Fatal(err)
	}
	r.close()
	// Nothing below it is looked at, be it ever so damaged.
	first := slices.IndexFunc(r.at, func(p Position) bool { return p.Segment == full[0] })
	flip(t, r.opts.FS, segmentName(full[0]), int64(r.at[first].Offset))
	r.opts.Floor = floor
	got, _ := r.open()
	from := slices.IndexFunc(r.at, func(p Position) bool { return p.Segment >= floor })
	if !slices.EqualFunc(got, r.all[from:], same) {
		t.Fatalf("%d records from the floor on, want %d", len(got), len(r.all)-from)
	}
	for i, p := range r.at {
		rec, err := r.j.Read(p)
		if i == first {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				t.Errorf("the damaged record: %v", err)
			}
		} else if err != nil || !same(rec, r.all[i]) {
			t.Errorf("record %d at %v: %v", i, p, err)
		}
	}
	for _, n := range full[1:] {
		i := slices.IndexFunc(r.at, func(p Position) bool { return p.Segment == n })
		err := r.j.Scan(n, func(rec Record, p Position) error {
			if p != r.at[i] || !same(rec, r.all[i]) {
				t.Errorf("segment %d has record %d at %v, want %v", n, i, p, r.at[i])
			}
			i++
			return nil
		})
		if err != nil || i < len(r.at) && r.at[i].Segment == n {
			t.Errorf("segment %d ends before record %d: %v", n, i, err)
		}
	}
	var corrupt *CorruptError
	if err := r.j.Scan(full[0], func(Record, Position) error { return nil }); !errors.As(err, &corrupt) {
		t.Errorf("the damaged segment: %v", err)
	}
	for _, n := range full {
		if err := r.j.Release(n); err != nil {
			t.Fatal(err)
		}
	}
	last := slices.IndexFunc(r.at, func(p Position) bool { return p.Segment > full[len(full)-1] })
	r.close()
	if got, _ = r.open(); !slices.EqualFunc(got, r.all[last:], same) {
		t.Errorf("%d records after the release, want %d", len(got), len(r.all)-last)
	}
	r.close()
}

// A floor that nobody raised is refused: what lay before it may never have been
// on disk.
func TestFloorThatNobodyRaised(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 1))
	r := newRig(t, vfs.NewMem(), MinSegmentBytes)
	for range 20 {
		r.append(record(rng, 700))
	}
	numbers := append(r.j.Full(), r.at[len(r.at)-1].Segment)
	r.close()
	r.opts.Floor = numbers[len(numbers)-1]
	var corrupt *CorruptError
	if _, _, err := r.try(); !errors.As(err, &corrupt) {
		t.Errorf("%v", err)
	}
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	b := contents(t, fs, fs.PathJoin("j", name))
	b[at] ^= 1
	write(t, fs, fs.PathJoin("j", name), b)
}

// Zeros are written ahead of small appends, not of large ones, and are no records.
func TestAhead(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 1))
	r := newRig(t, vfs.NewMem(), 1<<20)
	r.close()
	r.opts.Ahead = 64 << 10
	r.open()
	size := func() int64 {
		info, err := r.fs.Stat(r.fs.PathJoin("j", segmentName(r.j.Current())))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	r.append(record(rng, 100))
	first := size()
	if first < r.opts.Ahead {
		t.Errorf("the file has %d bytes, and %d were to be written ahead", first, r.opts.Ahead)
	}
	for range 50 {
		r.append(record(rng, 100))
	}
	if size() != first {
		t.Errorf("the file grew to %d though there was room", size())
	}
	for range 2000 {
		r.append(record(rng, 100))
	}
	end := int64(r.at[len(r.at)-1].Offset)
	if size() < end+100 || size() > end+2*r.opts.Ahead {
		t.Errorf("the file has %d bytes, the last record is at %d", size(), end)
	}
	large := record(rng, 100)
	large.Data, large.Summed = make([]byte, 300<<10), false
	r.append(large)
	if end := int64(r.at[len(r.at)-1].Offset) + recordHeader + 300<<10; size() > end+align {
		t.Errorf("the file has %d bytes behind a large record that ends at %d", size(), end)
	}
	r.close()
	if got, _ := r.open(); !slices.EqualFunc(got, r.all, same) {
		t.Errorf("%d records come back, want %d", len(got), len(r.all))
	}
	r.close()
}
