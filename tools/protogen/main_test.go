package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lay writes files into a new folder and returns it.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	base = `syntax = "proto3";
package a.v1;
option go_package = "example.com/api/a/v1;apb";
// Point is a place.
message Point { int64 x = 1; }
`
	user = `syntax = "proto3";
package b.v1;
import "api/a/v1/a.proto";
import "google/protobuf/timestamp.proto";
option go_package = "example.com/api/b/v1;bpb";
message Line { a.v1.Point from = 1; google.protobuf.Timestamp at = 2; }
service Lines { rpc Draw(Line) returns (Line); }
`
)

// TestLife follows a repository from its first generation over an edit to a
// deleted source.
func TestLife(t *testing.T) {
	// Whatever the order of the sources, plugins want imports first.
	root := lay(t, map[string]string{"api/b/v1/b.proto": user, "api/a/v1/a.proto": base})
	ctx := t.Context()

	if err := run(ctx, root, true); !errors.Is(err, errDiffers) {
		t.Fatalf("check before the first generation: %v, want %v", err, errDiffers)
	}
	if err := run(ctx, root, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api/a/v1/a.pb.go", "api/b/v1/b.pb.go", "api/b/v1/b_grpc.pb.go"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "api/a/v1/a.pb.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "// Point is a place.") {
		t.Error("the comment of the source is not in the Go code")
	}
	if err := run(ctx, root, true); err != nil {
		t.Fatalf("check after generation: %v", err)
	}

	edited := strings.Replace(base, "int64 x = 1;", "int64 x = 1; int64 y = 2;", 1)
	if err := os.WriteFile(filepath.Join(root, "api/a/v1/a.proto"), []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, root, true); !errors.Is(err, errDiffers) {
		t.Fatalf("check after an edit: %v, want %v", err, errDiffers)
	}

	if err := os.Remove(filepath.Join(root, "api/b/v1/b.proto")); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, root, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "api/b/v1/b.pb.go")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stale b.pb.go: %v, want it removed", err)
	}
}

func TestBadSourceIsNamed(t *testing.T) {
	root := lay(t, map[string]string{"api/a/v1/a.proto": "syntax = \"proto3\";\nmessage A { int64 x = ; }\n"})
	err := run(t.Context(), root, false)
	if err == nil || !strings.Contains(err.Error(), "api/a/v1/a.proto:2:") {
		t.Errorf("error %v, want one that names file and line", err)
	}
}

func TestNoSource(t *testing.T) {
	root := lay(t, map[string]string{"api/README.md": "nothing here"})
	if err := run(t.Context(), root, true); err == nil {
		t.Error("an empty api/ passed; a wrong root would pass too")
	}
}
