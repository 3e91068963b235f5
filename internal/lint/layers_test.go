package lint

import (
	"strings"
	"testing"
)

// layers lists every package, bottom first, with what it may import from this
// module. A package without a line fails: give it a place here first. x/...
// stands for x and everything below it. Tests may import more, within what the
// compiler allows; but see testOnly.
var layers = []layer{
	{"api/perdure/v1", nil},
	{"api/peer/v1", nil},
	{"api/state/v1", nil},
	{"internal/fleet", nil},
	{"internal/flights", nil},
	{"internal/lint", nil},
	{"internal/wholefile", nil},

	{"message", nil},
	{"message/portable", of("message")},
	{"realm", of("message")},
	{"realm/catalog", of("realm", "api/state/v1")},
	{"durable", of("message")},
	{"durable/dispatch", of("durable", "message")},
	{"store", of("message", "durable", "realm", "store/statefile", "api/state/v1")},
	{"store/statefile", of("message", "durable")},
	{"store/pages", nil},

	{"cluster", nil},
	{"cluster/journal", nil},
	{"cluster/raftlog", of("cluster", "cluster/journal")},
	{"cluster/peer", of("cluster", "api/peer/v1")},
	{"cluster/clustertest", of("cluster")},

	// One persistence service as a deterministic object: the glue between the
	// state machine, dispatch and the replica.
	{"server/service", of("cluster", "store", "store/statefile", "durable", "durable/dispatch", "message", "api/perdure/v1")},
	{"server", of("api/...", "message", "realm/...", "durable/...", "store/...", "cluster/...", "server/...", "internal/wholefile")},

	{"client", of("api/perdure/v1", "message")},
	{"bench", of("client", "message", "internal/fleet")},
	{"cmd/perdure", of("server", "store/statefile", "realm", "client", "bench", "message/...", "api/perdure/v1", "internal/fleet", "internal/flights", "internal/wholefile")},

	{"integration/...", of("api/...", "message", "realm/...", "durable/...", "store/...", "cluster/...", "server/...",
		"client", "bench", "internal/flights", "integration/...")},
}

// testOnly packages hold harnesses. Only tests and integration import them, so
// that no testing code is linked into the program.
var testOnly = []string{"cluster/clustertest"}

type layer struct {
	dir string
	may []string
}

func of(dirs ...string) []string { return dirs }

// place finds the line of a package.
func place(dir string) (layer, bool) {
	for _, l := range layers {
		if matches(dir, []string{l.dir}) {
			return l, true
		}
	}
	return layer{}, false
}

// layerProblems says what is wrong with one package's imports.
func layerProblems(p pkg) []string {
	dir := p.dir()
	l, listed := place(dir)
	if !listed {
		return []string{dir + " has no place in layers; give it a line in internal/lint/layers_test.go"}
	}
	var problems []string
	for _, imp := range p.Imports {
		own, ok := strings.CutPrefix(imp, module)
		if !ok {
			continue
		}
		if !matches(own, l.may) {
			problems = append(problems, dir+" imports "+own+", which is not below it; "+
				"declare the interface where it is used, or move the code down")
			continue
		}
		if matches(own, testOnly) && !matches(dir, []string{"integration/..."}) {
			problems = append(problems, dir+" imports "+own+" outside its tests; harnesses stay out of the program")
		}
	}
	return problems
}

func TestLayers(t *testing.T) {
	all := mustPackages(t)
	for _, p := range all {
		for _, problem := range layerProblems(p) {
			t.Error(problem)
		}
	}
}

func TestLayersSeePlantedImports(t *testing.T) {
	for _, tc := range []struct {
		dir, imports string
		problems     int
	}{
		{"message", "encoding/binary", 0},
		{"message", module + "realm", 1},
		{"durable", module + "message", 0},
		{"durable", module + "durable/dispatch", 1},
		{"client", module + "store", 1},
		{"cluster/raftlog", module + "cluster", 0},
		{"cluster/raftlog", module + "api/state/v1", 1},
		{"server", module + "cluster/clustertest", 1},
		{"integration/sim", module + "cluster/clustertest", 0},
		{"server", module + "client", 1},
		{"nowhere", "fmt", 1},
	} {
		got := layerProblems(pkg{ImportPath: module + tc.dir, Imports: []string{tc.imports}})
		if len(got) != tc.problems {
			t.Errorf("%s importing %s: %q, want %d problems", tc.dir, tc.imports, got, tc.problems)
		}
	}
}
