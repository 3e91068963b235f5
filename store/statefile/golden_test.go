package statefile

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/message"
)

var writeGolden = flag.Bool("golden", false, "write the file of this version, if there is none yet")

// TestGoldenFilesAreRead reads the file of every version there was, and compares
// what is in it with what was in it when it was written.
func TestGoldenFilesAreRead(t *testing.T) {
	if *writeGolden {
		newGolden(t)
	}
	files, err := filepath.Glob("testdata/*.state")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(name, ".state") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(t, file); got != string(want) {
			t.Errorf("%s: read\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestFormatIsThatOfItsGolden writes the states of the golden files again: a
// change of the format needs another version.
func TestFormatIsThatOfItsGolden(t *testing.T) {
	for name, records := range goldenStates(t) {
		want, err := os.ReadFile(name + ".state")
		if err != nil {
			t.Fatal(err)
		}
		// Compressed bytes are the encoder's business; what is in them is not.
		if got := save(t, records); dump(t, got) != dump(t, want) {
			t.Errorf("%s is written as\n%s\nwas\n%s", name, dump(t, got), dump(t, want))
		}
	}
}

// goldenStates are the states of the golden files of this version: one with
// something of everything, and the same a little later.
func goldenStates(t *testing.T) map[string][]Record {
	name := fmt.Sprintf("testdata/v%d", formatVersion)
	later := goldenState(t)
	later[1].(*Store).Counter += 5 // nobody wanted these
	later[2].(*Durable).Acked += 2
	later[5].(*Pending).Runs = []Run{{message.MakeID(2, 7), 1}}
	later[8].(*Counts).Ended = later[8].(*Counts).Ended[1:]
	later[9].(*Session).Idle += 1e9
	later = slices.Delete(later, 11, 12)
	return map[string][]Record{name: goldenState(t), name + "-later": later}
}

// goldenState has something of everything.
func goldenState(t *testing.T) []Record {
	batch := func(store uint32, first message.ID, values ...string) *Batch {
		var b message.Builder
		for _, v := range values {
			m := &message.Message{Body: []byte("body of " + v)}
			if err := b.Add(m.SetString("k", v).SetInt("n", int64(len(v)))); err != nil {
				t.Fatal(err)
			}
		}
		data := b.AppendTo(nil, message.Options{})
		return &Batch{Store: store, First: first, Count: uint32(len(values)), Stamp: 1_700_000_000_000_000_000, Len: uint32(len(data)), Bytes: data}
	}
	second := message.MakeID(2, 1)
	return []Record{
		&Store{Name: "airports", Epoch: 2, Counter: 7},
		&Store{Name: "flights", Counter: 70_000},
		&Durable{Store: 0, Name: "audit", Kind: 1, Prefetch: 1024, Watermark: second + 3, Matched: 9, Acked: 6,
			Attachments: 4, Attachment: [3]uint64{4, 1 << 60, 3}, Marks: []byte{1, 3, 1}},
		&Durable{Store: 1, Name: "all", Kind: 2, Prefetch: 256, Matched: 70_000, Acked: 69_998, Marks: []byte{0}},
		&Durable{Store: 1, Name: "delays", Kind: 2, Prefetch: 9, Dynamic: true, Matcher: `{"k":"a"}`, Template: "some",
			Matched: 1, Marks: []byte{0}},
		&Pending{Durable: 0, Runs: []Run{{second, 2}, {second + 6, 1}}},
		&Pending{Durable: 1, Runs: []Run{{69_999, 2}}},
		&Pending{Durable: 2, Runs: []Run{{69_999, 1}}},
		&Counts{Durable: 0, Ended: []Ended{{second, 2}, {second + 6, 300}}},
		&Session{ID: 3, Store: 1, Last: 2, Attempt: 2, Closed: true, Idle: 5e9,
			Outcomes: []Outcome{{1, 69_998, true, 1 << 63}, {69_999, 2, false, 7}}},
		&Session{ID: 9, Store: 0, Attempt: 1},
		batch(0, second, "x", "y", "z"),
		batch(0, second+6, "late"),
		batch(1, 69_999, "a", strings.Repeat("long ", 200)),
	}
}

func newGolden(t *testing.T) {
	for name, records := range goldenStates(t) {
		if _, err := os.Stat(name + ".state"); err == nil {
			t.Fatalf("%s.state is there, and stays as it is", name)
		}
		file := save(t, records)
		for path, content := range map[string][]byte{name + ".state": file, name + ".txt": []byte(dump(t, file))} {
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// dump shows what is in a file, blocks included.
func dump(t *testing.T, file []byte) string {
	t.Helper()
	var out strings.Builder
	m, totals, err := Verify(bytes.NewReader(file), func(r Record) error {
		fmt.Fprintf(&out, "%v %x", r.Section(), r.appendTo(nil))
		if b, ok := r.(*Batch); ok {
			fmt.Fprintf(&out, " %x", b.Bytes)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%d blocks, %d records, %d bytes\n%s", text, totals.Blocks, totals.Records, totals.Content, out.String())
}
