package realm_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/realm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update and look at the difference", err)
	}
	if got != string(want) {
		t.Errorf("%s differs\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// documents yields the definitions in a directory of testdata.
func documents(t *testing.T, dir string, test func(t *testing.T, file string, data []byte)) {
	t.Helper()
	files, err := filepath.Glob("testdata/" + dir + "/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data:", err)
	}
	for _, file := range files {
		if ext := filepath.Ext(file); ext != ".yaml" && ext != ".json" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			test(t, filepath.Base(file), data)
		})
	}
}

// Every message of every bad definition, word for word.
func TestParseProblems(t *testing.T) {
	documents(t, "bad", func(t *testing.T, file string, data []byte) {
		r, err := realm.Parse(file, data)
		var problems *realm.Problems
		if !errors.As(err, &problems) {
			t.Fatalf("got %v, want *Problems", err)
		}
		if r != nil {
			t.Error("a realm came with the error")
		}
		for _, p := range *problems {
			if p.Line < 1 || p.Column < 1 || p.File != file || p.Path == "" {
				t.Errorf("problem without place: %#v", p)
			}
			if !strings.Contains(p.Message, "; ") {
				t.Errorf("does not say what to do: %s", p)
			}
		}
		golden(t, "testdata/bad/"+file+".golden", err.Error()+"\n")
	})
}

// What good definitions become, defaults filled in, and the warnings.
func TestParseGood(t *testing.T) {
	documents(t, "good", func(t *testing.T, file string, data []byte) {
		r, err := realm.Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		text, err := realm.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.Write(text)
		for _, w := range r.Warnings() {
			b.WriteString("# " + w.String() + "\n")
		}
		golden(t, "testdata/good/"+file+".golden", b.String())

		again, err := realm.Parse("again", text)
		if err != nil {
			t.Fatalf("the canonical document does not parse: %v", err)
		}
		if d := realm.Diff(r, again); len(d) > 0 {
			t.Errorf("the canonical document means something else: %v", d)
		}
		if d := realm.Diff(again, r); len(d) > 0 {
			t.Errorf("the canonical document means something else: %v", d)
		}
	})
}
