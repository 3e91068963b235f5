package lint

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// A dep is a line of deps.txt: where a module, or a package of one, may be
// imported.
type dep struct {
	path string
	who  []string
}

func readDeps(t *testing.T) []dep {
	t.Helper()
	text, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	var deps []dep
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 3 || strings.TrimSpace(cells[2]) == "" {
			t.Fatalf("deps.txt: %q is not `path | importers | what for`", line)
		}
		var who []string
		for w := range strings.SplitSeq(cells[1], ",") {
			who = append(who, strings.TrimSpace(w))
		}
		deps = append(deps, dep{strings.TrimSpace(cells[0]), who})
	}
	return deps
}

// within tells whether an import path lies in, or is, a module or package.
func within(imp, top string) bool { return imp == top || strings.HasPrefix(imp, top+"/") }

// depProblem says what is wrong with dir importing imp, or "".
func depProblem(deps []dep, dir, imp string, test bool) string {
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") || strings.HasPrefix(imp, module) {
		return "" // the standard library, or ours
	}
	var best dep
	for _, d := range deps {
		if within(imp, d.path) && len(d.path) > len(best.path) {
			best = d
		}
	}
	switch {
	case best.path == "":
		return dir + " imports " + imp + ", which is not in internal/lint/deps.txt"
	case matches(dir, best.who) || test && matches("tests", best.who):
		return ""
	default:
		return dir + " imports " + imp + "; deps.txt allows that for " + strings.Join(best.who, ", ") + " only"
	}
}

func TestDependencies(t *testing.T) {
	deps := readDeps(t)
	for _, p := range mustPackages(t) {
		for _, imp := range p.Imports {
			if problem := depProblem(deps, p.dir(), imp, false); problem != "" {
				t.Error(problem)
			}
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			if problem := depProblem(deps, p.dir(), imp, true); problem != "" {
				t.Errorf("%s (in a test)", problem)
			}
		}
	}
}

// TestDirectRequires compares the reviewed list with go.mod.
func TestDirectRequires(t *testing.T) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(text, &mod); err != nil {
		t.Fatal(err)
	}
	direct, required := make(map[string]bool), make(map[string]bool)
	for _, r := range mod.Require {
		required[r.Path] = true
		if !r.Indirect {
			direct[r.Path] = true
		}
	}
	listed := make(map[string]bool)
	for _, d := range readDeps(t) {
		m := d.path
		for !required[m] && strings.Contains(m, "/") {
			m = path.Dir(m) // a package's line counts for its module
		}
		if !required[m] {
			t.Errorf("deps.txt lists %s, which go.mod does not require; remove the line", d.path)
			continue
		}
		if !direct[m] && len(direct) > 0 { // a go.mod that nobody tidied yet has none
			t.Errorf("deps.txt lists %s, which go.mod requires only indirectly; run go mod tidy, or remove the line", d.path)
		}
		listed[m] = true
	}
	for m := range direct {
		if !listed[m] {
			t.Errorf("go.mod requires %s, which deps.txt does not list; have it reviewed", m)
		}
	}
}

// TestClientIsLight keeps what a user of the client links to gRPC, protobuf
// and little else.
func TestClientIsLight(t *testing.T) {
	present := false
	for _, p := range mustPackages(t) {
		present = present || p.dir() == "client"
	}
	if !present {
		return // there is nothing to weigh
	}
	out, err := goList("-deps", "./client")
	if err != nil {
		t.Fatal(err)
	}
	for imp := range strings.Lines(string(out)) {
		imp = strings.TrimSpace(imp)
		for _, heavy := range []string{
			"github.com/cockroachdb", "go.etcd.io/raft", "github.com/spf13", "github.com/prometheus",
			"github.com/goccy", "github.com/santhosh-tekuri", "testing",
			module + "store", module + "cluster", module + "server", module + "realm", module + "durable",
		} {
			if within(imp, heavy) {
				t.Errorf("client reaches %s; its users would link it too", imp)
			}
		}
	}
}

func TestDependenciesSeePlantedImports(t *testing.T) {
	deps := readDeps(t)
	for _, tc := range []struct {
		dir, imp string
		test, ok bool
	}{
		{"message", "encoding/binary", false, true},
		{"cluster", "go.etcd.io/raft/v3", false, true},
		{"cluster/raftlog", "go.etcd.io/raft/v3/raftpb", false, true},
		{"server", "go.etcd.io/raft/v3", false, false},
		{"server/service", "go.etcd.io/raft/v3/raftpb", false, false},
		{"cluster/raftlog", "github.com/cockroachdb/pebble/v2", false, true},
		{"server", "github.com/cockroachdb/pebble/v2", false, false},
		{"server", "github.com/cockroachdb/pebble/v2/vfs", true, true},
		{"server", "github.com/cockroachdb/pebble/v2/vfs", false, false},
		{"server/service", "google.golang.org/grpc", false, false},
		{"client", "google.golang.org/grpc/codes", false, true},
		{"cmd/perdure", "github.com/spf13/viper", false, false},
		{"server", "github.com/spf13/cobra", false, false},
		{"message", "example.com/new", false, false},
		{"message", "pgregory.net/rapid", true, true},
		{"message", "pgregory.net/rapid", false, false},
	} {
		if problem := depProblem(deps, tc.dir, tc.imp, tc.test); (problem == "") != tc.ok {
			t.Errorf("%s importing %s (test %v): %q, want allowed %v", tc.dir, tc.imp, tc.test, problem, tc.ok)
		}
	}
}
