package flights

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// digest is the SHA-256 of the uncompressed source file.
const digest = "aab1073129b5e6e6a10cc21fd960b82808be385276d868b0e0c6d661f1eafb8c"

func TestLines(t *testing.T) {
	lines, err := Lines()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != Count {
		t.Fatalf("%d lines, want %d", len(lines), Count)
	}
	sum := sha256.New()
	origins, destinations := make(map[string]bool), make(map[string]bool)
	for i, line := range lines {
		var f struct {
			Date, Origin, Destination string
			Delay, Distance           *int64
		}
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if f.Date == "" || f.Origin == "" || f.Destination == "" || f.Delay == nil || f.Distance == nil {
			t.Fatalf("line %d lacks a member: %s", i+1, line)
		}
		if cap(line) != len(line) {
			t.Fatalf("line %d: an append would run into the next line", i+1)
		}
		origins[f.Origin], destinations[f.Destination] = true, true
		sum.Write(line)
		sum.Write([]byte("\n"))
	}
	if len(origins) != 220 || len(destinations) != 223 {
		t.Errorf("%d origins and %d destinations, want 220 and 223", len(origins), len(destinations))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		t.Errorf("digest %s, want %s", got, digest)
	}
}
