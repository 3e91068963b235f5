package lint

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// What a file and an interface may hold. At 400 lines ask whether two nouns
// would read better; at 600 there is no question left.
const (
	maxLines   = 600
	maxMethods = 8
)

// forbiddenNames say nothing about what a package provides.
var forbiddenNames = []string{
	"base", "common", "constant", "constants", "controller", "handler", "handlers", "helper", "helpers", "impl",
	"manager", "misc", "shared", "types", "util", "utils",
}

// shapeProblems says where s is too long, its package badly named, or an
// interface of it too wide.
func shapeProblems(s *source) []string {
	var problems []string
	if s.lines > maxLines {
		problems = append(problems, fmt.Sprintf("%s has %d lines, more than %d; split it by noun", s.path, s.lines, maxLines))
	}
	for _, name := range []string{strings.TrimSuffix(s.file.Name.Name, "_test"), path.Base(s.dir())} {
		if slices.Contains(forbiddenNames, name) {
			problems = append(problems, s.path+": package name "+name+" says nothing; name what it provides")
			break
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if in, ok := spec.Type.(*ast.InterfaceType); ok && in.Methods != nil {
			own := 0
			for _, m := range in.Methods.List {
				own += len(m.Names) // embedded interfaces have none
			}
			if own > maxMethods {
				problems = append(problems, fmt.Sprintf("%s: interface %s has %d methods, more than %d; "+
					"the user of it declares what it calls", s.at(spec), spec.Name.Name, own, maxMethods))
			}
		}
		return true
	})
	return problems
}

func TestShape(t *testing.T) {
	for _, s := range mustSources(t) {
		if s.generated {
			continue
		}
		for _, problem := range shapeProblems(s) {
			t.Error(problem)
		}
	}
}

// TestPackageComments asks go list, which sees what go doc sees: a comment cut
// off from its package clause by a blank line does not count.
func TestPackageComments(t *testing.T) {
	for _, p := range mustPackages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + path.Base(p.dir()) + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: go doc shows %q; begin the comment in doc.go with %q and leave no blank line after it",
				p.dir(), p.Doc, want)
		}
	}
}

func TestShapeSeesPlantedCode(t *testing.T) {
	wide := "package x; type I interface { A(); B(); C(); D(); E(); F(); G(); H(); J() }"
	for _, tc := range []struct {
		name, path, code string
		problems         int
	}{
		{"fine", "store/apply.go", "package store", 0},
		{"too long", "store/apply.go", "package store" + strings.Repeat("\n", maxLines+1), 1},
		{"just not too long", "store/apply.go", "package store" + strings.Repeat("\n", maxLines), 0},
		{"named util", "store/util/x.go", "package util", 1},
		{"in a folder named common", "common/x.go", "package fine", 1},
		{"wide interface", "cluster/host.go", wide, 1},
		{"narrow with embedded", "cluster/host.go", strings.Replace(wide, "J()", "error", 1), 0},
	} {
		s, err := parse(tc.path, []byte(tc.code))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := shapeProblems(s); len(got) != tc.problems {
			t.Errorf("%s: %q, want %d problems", tc.name, got, tc.problems)
		}
	}
}
