package lint

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// pure packages run while entries are applied, or hold a deterministic core:
// equal input must give equal output on every replica and in every replay.
var pure = []string{"message", "durable", "durable/dispatch", "store", "store/statefile", "realm/catalog", "server/service"}

// isPure tells whether a file may not reach for time, chance or the outside.
// Of cluster, whose shells do I/O, only the replica's files are pure.
func isPure(s *source) bool {
	if s.test() {
		return false
	}
	core, _ := path.Match("cluster/replica*.go", s.path)
	return core || matches(s.dir(), pure)
}

// isCommand tells whether a file belongs to a program that talks to a person.
func isCommand(s *source) bool {
	return matches(s.dir(), []string{"cmd/..."}) || s.file.Name.Name == "main"
}

// impure are the imports that a pure file may not have. time itself is
// allowed: a time.Duration harms nobody. So is, in the replica, a generator of
// math/rand/v2 with a seed that came as an argument; apply has no use for one.
var impure = []string{
	"crypto/rand", "hash/maphash", "math/rand", "math/rand/v2",
	"io/ioutil", "net", "os", "os/exec", "os/signal", "syscall",
}

// A ban forbids names of one imported package.
type ban struct {
	from    string
	names   []string
	applies func(*source) bool
	instead string
}

var bans = []ban{{
	from:    "time",
	names:   []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Sleep", "Tick", "Local"},
	applies: isPure,
	instead: "replicas and replays would differ; take the time as an argument",
}, {
	from: "math/rand/v2",
	names: []string{"ExpFloat64", "Float32", "Float64", "Int", "Int32", "Int32N", "Int64", "Int64N", "IntN", "N",
		"NormFloat64", "Perm", "Shuffle", "Uint", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN"},
	applies: isPure,
	instead: "the process's own source cannot be replayed; take a seed as an argument",
}, {
	from:    "time",
	names:   []string{"Sleep"},
	applies: func(s *source) bool { return s.test() && !uses(s, "testing/synctest") },
	instead: "a real sleep; use testing/synctest, or wait for what you want to see",
}, {
	from:    "fmt",
	names:   []string{"Print", "Printf", "Println"},
	applies: func(s *source) bool { return !isCommand(s) },
	instead: "only commands own standard output; return the text, or take an io.Writer or a logger",
}, {
	from: "log/slog",
	names: []string{"Default", "SetDefault", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext",
		"Error", "ErrorContext", "Log", "LogAttrs", "With"},
	applies: func(s *source) bool { return !isCommand(s) },
	instead: "the logger comes through Options, so that tests and programs can choose it",
}, {
	from:    "log",
	names:   []string{"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Default"},
	applies: func(s *source) bool { return !isCommand(s) },
	instead: "use the *slog.Logger from Options",
}}

func uses(s *source, imp string) bool {
	for _, from := range s.imports() {
		if from == imp {
			return true
		}
	}
	return false
}

// callProblems says which rules about imports, calls and goroutines s breaks.
func callProblems(s *source) []string {
	var problems []string
	imports, isExample := s.imports(), false
	if isPure(s) {
		for _, from := range imports {
			if from == "math/rand/v2" && s.dir() == "cluster" {
				continue // its global functions are banned below
			}
			if slices.Contains(impure, from) {
				problems = append(problems, s.path+": imports "+from+": replicas and replays would differ; "+
					"the shell does this and hands the result in")
			}
		}
		slices.Sort(problems)
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			// Examples print: that is how their output is checked.
			isExample = s.test() && strings.HasPrefix(n.Name.Name, "Example")
		case *ast.GoStmt:
			if isPure(s) {
				problems = append(problems, s.at(n)+": go statement: a core runs on its caller's goroutine; "+
					"let the shell start it")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			if p := selectorProblem(s, imports[x.Name], x.Name, n.Sel.Name, isExample); p != "" {
				problems = append(problems, s.at(n)+": "+x.Name+"."+n.Sel.Name+": "+p)
			}
		}
		return true
	})
	return problems
}

// selectorProblem judges x.name, where from is the import path of x if x is a
// package.
func selectorProblem(s *source, from, x, name string, isExample bool) string {
	for _, b := range bans {
		if b.from == from && slices.Contains(b.names, name) && b.applies(s) && !(isExample && (from == "fmt" || from == "log")) {
			return b.instead
		}
	}
	isTesting := slices.Contains([]string{"t", "b", "f", "tb"}, x) && from == ""
	switch {
	case isTesting && s.test() && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name):
		return "a skipped test shows nothing; make it run everywhere, or remove it"
	case isTesting && s.test() && name == "Parallel" && s.dir() == "integration/sim":
		return "seeds draw from the process's one random reader; run several processes instead"
	}
	return ""
}

func TestCalls(t *testing.T) {
	for _, s := range mustSources(t) {
		if s.generated {
			continue
		}
		for _, problem := range callProblems(s) {
			t.Error(problem)
		}
	}
}

func TestCallsSeePlantedCode(t *testing.T) {
	for _, tc := range []struct {
		name, path, code string
		problems         int
	}{
		{"clock in a core", "store/apply.go", `import "time"; var _ = time.Now()`, 1},
		{"clock as a value", "durable/dispatch/loop.go", `import "time"; var clock = time.Now`, 1},
		{"renamed clock", "store/apply.go", `import tm "time"; func f() { <-tm.After(1) }`, 1},
		{"duration in a core", "store/apply.go", `import "time"; var _ = time.Second`, 0},
		{"clock in a shell", "server/publish.go", `import "time"; var _ = time.Now()`, 0},
		{"clock in the replica", "cluster/replica_ready.go", `import "time"; var _ = time.Now()`, 1},
		{"clock in the host", "cluster/host.go", `import "time"; var _ = time.Now()`, 0},
		{"clock in a core's test", "store/apply_test.go", `import "time"; var _ = time.Now()`, 0},
		{"chance in a core", "durable/pending.go", `import _ "math/rand/v2"`, 1},
		{"seeded chance in the replica", "cluster/replica.go", `import "math/rand/v2"; var r = rand.New(rand.NewPCG(1, 2))`, 0},
		{"global chance in the replica", "cluster/replica.go", `import "math/rand/v2"; var r = rand.Int64N(5)`, 1},
		{"file in a core", "server/service/service.go", `import _ "os"`, 1},
		{"file below the state machine", "store/pages/pages.go", `import _ "os"`, 0},
		{"goroutine in a core", "store/apply.go", `func f() { go f() }`, 1},
		{"goroutine in a shell", "cluster/host.go", `func f() { go f() }`, 0},
		{"sleep in a test", "cluster/host_test.go", `import "time"; func f() { time.Sleep(1) }`, 1},
		{"sleep in a bubble", "cluster/host_test.go", `import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, 0},
		{"print in a library", "realm/plan.go", `import "fmt"; func f() { fmt.Println() }`, 1},
		{"print in a command", "cmd/perdure/pub.go", `import "fmt"; func f() { fmt.Println() }`, 0},
		{"print in an example", "client/example_test.go", `import "fmt"; func ExampleF() { fmt.Println() }`, 0},
		{"print in a test", "client/client_test.go", `import "fmt"; func TestF() { fmt.Println() }`, 1},
		{"format in a library", "realm/plan.go", `import "fmt"; var _ = fmt.Sprint()`, 0},
		{"package logger", "server/server.go", `import "log/slog"; var _ = slog.Default()`, 1},
		{"own logger", "server/server.go", `import "log/slog"; func f(l *slog.Logger) { l.Info("x") }`, 0},
		{"skip", "store/apply_test.go", `import "testing"; func TestF(t *testing.T) { t.Skip() }`, 1},
		{"a reader's skip", "message/read_test.go", `func f(r interface{ Skip() }) { r.Skip() }`, 0},
		{"parallel seeds", "integration/sim/sim_test.go", `import "testing"; func TestF(t *testing.T) { t.Parallel() }`, 1},
		{"parallel elsewhere", "store/apply_test.go", `import "testing"; func TestF(t *testing.T) { t.Parallel() }`, 0},
	} {
		s, err := parse(tc.path, []byte("package x; "+tc.code))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := callProblems(s); len(got) != tc.problems {
			t.Errorf("%s: %q, want %d problems", tc.name, got, tc.problems)
		}
	}
}
