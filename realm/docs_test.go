package realm

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var yamlBlocks = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Every definition that the documentation shows is valid.
func TestDocumentedDefinitionsAreValid(t *testing.T) {
	found := 0
	for _, file := range []string{"../README.md", "../docs/realm.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range yamlBlocks.FindAllSubmatch(text, -1) {
			found++
			if _, err := Parse(file, m[1]); err != nil {
				t.Errorf("%s shows a definition that is not valid:\n%v", file, err)
			}
		}
	}
	if found < 2 {
		t.Errorf("found %d definitions; the pattern is wrong", found)
	}
}

// Every key that the parser knows has a row in the documentation.
func TestEveryKeyIsDocumented(t *testing.T) {
	code, err := os.ReadFile("parse.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../docs/realm.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := append([]string{"matcher"}, tuningKeys[:]...)
	for _, m := range regexp.MustCompile(`field\{"([a-z_]+)"`).FindAllStringSubmatch(string(code), -1) {
		keys = append(keys, m[1])
	}
	for _, key := range keys {
		if key == "realm" || key == "clusters" || key == "endpoints" {
			continue // the document itself
		}
		if !strings.Contains(string(docs), "| `"+key+"` |") {
			t.Errorf("docs/realm.md does not explain %s", key)
		}
	}
}
