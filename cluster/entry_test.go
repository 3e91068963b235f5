package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

func sealed2() []byte {
	data := beginEntry(nil, 7, 1_700_000_000_000_000_000)
	data = appendCommand(data, []byte("o"), []byte("ne"))
	data = appendCommand(data, []byte{}, nil)
	sealEntry(data)
	return data
}

// The data of entries is in logs for ever: version 2 never changes.
func TestEntryGolden(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "entry-v2.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sealed2(); !bytes.Equal(got, golden) {
		t.Errorf("sealed as\n%x, version 2 is\n%x", got, golden)
	}
	var o opened
	if err := o.open(golden); err != nil {
		t.Fatal(err)
	}
	if o.decided != 7 || o.stamp != 1_700_000_000_000_000_000 || len(o.commands) != 2 || string(o.commands[0]) != "one" || len(o.commands[1]) != 0 {
		t.Errorf("opened as %+v", o)
	}
	for i, at := range o.offsets {
		if !bytes.HasPrefix(golden[at:], o.commands[i]) {
			t.Errorf("command %d is not at %d", i, at)
		}
	}
}

func TestEntryOfAnotherVersionStopsTheGroup(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"empty":       func(b []byte) []byte { return b[:0] },
		"header":      func(b []byte) []byte { return b[:entryHeaderSize-1] },
		"version":     func(b []byte) []byte { b[4] = 3; return b },
		"kind":        func(b []byte) []byte { b[5] = 9; return b },
		"compressed":  func(b []byte) []byte { b[6] = 1; return b },
		"encrypted":   func(b []byte) []byte { b[6] = 2; return b },
		"reserved":    func(b []byte) []byte { b[7] = 1; return b },
		"length":      func(b []byte) []byte { binary.LittleEndian.PutUint32(b[entryHeaderSize:], 1<<31); return b },
		"cut length":  func(b []byte) []byte { return b[:entryHeaderSize+2] },
		"cut command": func(b []byte) []byte { return b[:entryHeaderSize+5] },
		"cut trace":   func(b []byte) []byte { b[6] = entryTraced; return b[:entryHeaderSize+3] },
	} {
		var o opened
		if err := o.open(change(sealed2())); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for version, advice := range map[byte]string{1: "an earlier version wrote it", 3: "upgrade this server"} {
		data := sealed2()
		data[4] = version
		var o opened
		if err := o.open(data); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("version %d: %v, want the advice %q", version, err, advice)
		}
	}
	var o opened
	traced := beginEntry(nil, 1, 1)
	traced[6] = entryTraced
	traced = appendCommand(append(traced, make([]byte, entryTraceSize)...), []byte("x"), nil)
	if err := o.open(traced); err != nil || string(o.commands[0]) != "x" {
		t.Errorf("an entry with a trace id: %v %q", err, o.commands)
	}
}

// Whatever bit of an entry changes, its checksum says so, but that of an entry in
// which nothing changed.
func TestEntryCarriesItsSum(t *testing.T) {
	data := sealed2()
	if !bytes.Equal(data, SealEntry(7, 1_700_000_000_000_000_000, []byte("one"), nil)) {
		t.Error("SealEntry seals in another way than a leader")
	}
	e := &pb.Entry{Data: data}
	if sum, ok := EntrySum(e); !ok || sum != binary.LittleEndian.Uint32(data) || CheckEntry(data) != nil {
		t.Errorf("%08x %v, %v", sum, ok, CheckEntry(data))
	}
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		if err := CheckEntry(data); !errors.Is(err, ErrEntrySum) {
			t.Errorf("bit %d: %v", bit, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	for n := range entryHeaderSize {
		if _, ok := EntrySum(&pb.Entry{Data: data[:n]}); ok {
			t.Errorf("%d bytes carry a checksum", n)
		}
		if CheckEntry(data[:n]) == nil {
			t.Errorf("cut off after %d bytes", n)
		}
	}
	e.Type = pb.EntryConfChangeV2.Enum()
	if _, ok := EntrySum(e); ok {
		t.Error("a configuration change carries a checksum")
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(sealed2())
	f.Fuzz(func(t *testing.T, data []byte) {
		var o opened
		if o.open(data) != nil {
			return
		}
		for i, c := range o.commands {
			if at := int(o.offsets[i]); !bytes.Equal(data[at:at+len(c)], c) {
				t.Errorf("command %d is not at its offset %d", i, at)
			}
		}
	})
}

// sink is a Receiver that counts.
type sink struct{ pages, entries int }

func (s *sink) Meta() *pb.SnapshotMetadata { return &pb.SnapshotMetadata{} }
func (s *sink) Page(_, _ []byte) error     { s.pages++; return nil }
func (s *sink) Entry(uint64, []byte) error { s.entries++; return nil }
func (s *sink) Abort() error               { return nil }

// view is a Capture of two pages and an entry.
type view struct{}

func (view) Applied() uint64 { return 9 }
func (view) Close() error    { return nil }
func (view) Pages(yield func(key, value []byte) error) error {
	return errors.Join(yield([]byte("a"), []byte("1")), yield([]byte("b"), nil))
}
func (view) Entries(_ []Range, yield func(uint64, []byte) error) error {
	return yield(4, []byte(strings.Repeat("e", 100)))
}

func TestSnapshotStreamIsWholeOrRefused(t *testing.T) {
	var b bytes.Buffer
	if err := writeSnapshot(&b, view{}, nil); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	var s sink
	if err := readSnapshot(bytes.NewReader(whole), &s); err != nil || s.pages != 2 || s.entries != 1 {
		t.Fatalf("%v, %+v", err, s)
	}
	for cut := range len(whole) {
		if err := readSnapshot(bytes.NewReader(whole[:cut]), &sink{}); err == nil {
			t.Errorf("cut off at %d of %d, and taken", cut, len(whole))
		}
	}
	if err := readSnapshot(io.MultiReader(bytes.NewReader([]byte{9}), bytes.NewReader(whole)), &sink{}); !errors.Is(err, errSnapshot) {
		t.Errorf("an unknown kind: %v", err)
	}
}

func FuzzSnapshotStream(f *testing.F) {
	var b bytes.Buffer
	if err := writeSnapshot(&b, view{}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		_ = readSnapshot(bytes.NewReader(data), &sink{}) // must not panic
	})
}

func TestOptionsSayEverythingThatIsWrong(t *testing.T) {
	err := Options{HeartbeatTicks: 2, ElectionTicks: 5}.Validate()
	for _, want := range []string{"group id", "replica id", "tick is", "three heartbeats"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

func TestEdgesCollectWhatNobodyNeeds(t *testing.T) {
	e := edges{first: 5}
	died := func(yield func(uint64)) { yield(2); yield(3); yield(7) } // 7 is still in the log: it goes when first passes
	live := func(r Range, yield func(uint64)) {
		if r != (Range{5, 12}) {
			t.Errorf("asked for %v", r)
		}
		yield(8)
	}
	got := e.dead(12, died, live)
	want := []Range{{2, 4}, {5, 8}, {9, 12}}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestEdgesKnowHowMuchLiesBehind(t *testing.T) {
	var e edges
	for i := range uint64(100) {
		e.applied(i+1, 1<<20)
	}
	if got := e.behind(10 << 20); got != 90 {
		t.Errorf("10 MiB behind entry 100 of 1 MiB each lies %d, want 90", got)
	}
	if got := e.behind(1 << 40); got != 0 {
		t.Errorf("more than there is lies %d behind, want 0", got)
	}
}
