package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of the main module with a slash, root its folder.
const (
	module = "github.com/perdure/perdure/"
	root   = "../.."
)

// A pkg is what go list says about one package of the main module.
type pkg struct {
	ImportPath, Name, Doc              string
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
	Error                              *struct{ Err string }
}

// dir returns the package's folder below the root, which is its name in every
// table of this package.
func (p pkg) dir() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages lists the main module once for all tests.
var packages = sync.OnceValues(func() ([]pkg, error) {
	out, err := goList("-e", "-json=ImportPath,Name,Doc,Imports,TestImports,XTestImports,GoFiles,Error", "./...")
	if err != nil {
		return nil, err
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if p.Error != nil && len(p.GoFiles) == 0 {
			continue // a folder with tests only, or with nothing to build here
		}
		all = append(all, p)
	}
})

// goList runs go list in the root.
func goList(args ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// A source is one Go file, parsed.
type source struct {
	path      string // below the root, with slashes
	lines     int
	generated bool
	file      *ast.File
	fset      *token.FileSet
}

func (s *source) dir() string { return path.Dir(s.path) }
func (s *source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) imports() map[string]string {
	names := make(map[string]string) // local name to import path
	for _, spec := range s.file.Imports {
		from, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(from)
		if strings.HasPrefix(name, "v") && len(name) == 2 {
			name = path.Base(path.Dir(from)) // math/rand/v2 is rand
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = from
	}
	return names
}

// at says where a node stands, as editors understand it.
func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

// parse reads one file; name is its path below the root.
func parse(name string, content []byte) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &source{
		path: name, file: file, fset: fset,
		lines:     bytes.Count(content, []byte("\n")),
		generated: ast.IsGenerated(file),
	}, nil
}

// sources parses every Go file of the repository once, nested modules and
// tests included.
var sources = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != root && (strings.HasPrefix(base, ".") || base == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), content)
		if err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
})

func mustPackages(t *testing.T) []pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustSources(t *testing.T) []*source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file found: the root is wrong, and every rule would pass")
	}
	return all
}

// matches tells whether a folder is meant by one of the patterns: its own name,
// or x/... for x and everything below it.
func matches(dir string, patterns []string) bool {
	for _, p := range patterns {
		top, deep := strings.CutSuffix(p, "/...")
		if dir == p || deep && (dir == top || strings.HasPrefix(dir, top+"/")) {
			return true
		}
	}
	return false
}
