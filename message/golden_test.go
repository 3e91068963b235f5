package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var writeMissing = flag.Bool("write-missing", false, "write golden files that do not exist; existing ones are never rewritten")

// goldenBatches are the batches in testdata. Logs and saved states are read
// for ever, so what these files say is for ever too: add rows, change none.
func goldenBatches() map[string][]*Message {
	everything := new(Message).
		SetString("string", "Größe").SetInt("int", -2).SetFloat("float", 1.5).SetBool("bool", true).
		SetBytes("bytes", []byte{0, 255}).SetTime("time", time.Unix(1_700_000_000, 123_456_789)).
		SetNested("message", new(Message).SetInt("int", 1).SetNested("empty", nil)).
		Set("strings", Strings([]string{"a", ""})).Set("ints", Ints([]int64{1, -1})).
		Set("floats", Floats([]float64{0.5})).Set("bools", Bools([]bool{true, false})).
		Set("byteses", BytesArray([][]byte{{1}, nil})).Set("times", Times([]time.Time{time.Unix(-1, 1)})).
		Set("messages", NestedArray([]*Message{new(Message).SetBool("bool", false), nil})).
		Set("none", Strings(nil)).SetString("long", strings.Repeat("0123456789", 13)).
		SetHeader("trace", "t-1").SetHeader("string", "")
	everything.Body = []byte("body")
	everything.TTL, everything.DeliverAt, everything.Key = time.Minute, time.Unix(1_700_000_001, 5), "key"
	later := &Message{TTL: time.Hour, Body: []byte("later")}
	text := &Message{Body: bytes.Repeat([]byte("the same text again and "), 50)}
	for i := range 20 {
		text.SetString("field"+string(rune('a'+i)), "the same text again")
	}
	return map[string][]*Message{
		"v1-opaque":     {{Body: []byte("one")}, {}, {Body: []byte("three")}},
		"v1-everything": {everything, {}, {Key: "k"}, later, new(Message).SetInt("int", 9)},
		"v1-s2":         {text, text},
		"v1-zstd":       {text, text},
	}
}

func goldenOptions(name string) Options {
	switch name {
	case "v1-s2":
		return Options{Head: CompressS2, Body: CompressS2}
	case "v1-zstd":
		return Options{Head: CompressZstd, Body: CompressZstd}
	}
	return Options{}
}

func TestGolden(t *testing.T) {
	for name, msgs := range goldenBatches() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".golden")
			file, err := os.ReadFile(path)
			built := encode(t, goldenOptions(name), msgs...).Bytes()
			if errors.Is(err, fs.ErrNotExist) && *writeMissing {
				file = []byte(hex.Dump(built))
				err = os.WriteFile(path, file, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			raw := undump(t, file)
			sameMessages(t, parse(t, raw), msgs)
			// What compressors write may change with their version; what they
			// read may not.
			if goldenOptions(name) == (Options{}) && !bytes.Equal(built, raw) {
				t.Fatalf("the builder now writes\n%s", hex.Dump(built))
			}
		})
	}
}

// undump reads what hex.Dump wrote.
func undump(t *testing.T, dump []byte) []byte {
	t.Helper()
	var raw []byte
	for line := range strings.Lines(string(dump)) {
		if len(line) < 60 {
			t.Fatalf("short line %q", line)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(line[8:60]), ""))
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b...)
	}
	return raw
}
