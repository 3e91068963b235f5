package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named finds `package.Name` and `package.Type.Method` in ARCHITECTURE.md.
var named = regexp.MustCompile("`([a-z]+)\\.([A-Za-z]+)(?:\\.([A-Za-z]+))?`")

// TestArchitectureNamesExist keeps the walk of one message, and everything else
// that ARCHITECTURE.md names by package, true.
func TestArchitectureNamesExist(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	dirs := packageDirs(t)
	found := 0
	for _, m := range named.FindAllStringSubmatch(string(text), -1) {
		dir, ok := dirs[m[1]]
		if !ok || m[2] == "json" || m[2] == "view" {
			continue // not of this module, or the name of a data file
		}
		found++
		want := m[2]
		if m[3] != "" {
			want += "." + m[3]
		}
		if !declared(t, dir)[want] {
			t.Errorf("ARCHITECTURE.md names %s, which %s does not declare", m[0], dir)
		}
	}
	if found < 20 {
		t.Errorf("only %d names were looked up; the walk should name more, or the pattern is wrong", found)
	}
}

// packageDirs maps the last element of a package's path to its folder.
func packageDirs(t *testing.T) map[string]string {
	dirs := map[string]string{}
	for _, pattern := range []string{"../../*/doc.go", "../../*/*/doc.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			dirs[filepath.Base(filepath.Dir(f))] = filepath.Dir(f)
		}
	}
	return dirs
}

// declared returns the functions, types and methods (as Type.Method) of a folder.
func declared(t *testing.T, dir string) map[string]bool {
	names := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					name = receiver(d.Recv.List[0].Type) + "." + name
				}
				names[name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok {
						names[ts.Name.Name] = true
					}
				}
			}
		}
	}
	return names
}

// receiver is the name of a method's type, without pointer and type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
