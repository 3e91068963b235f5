package lint

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestEveryReasonIsDocumented compares docs/errors.md with the enum Reason, both
// ways.
func TestEveryReasonIsDocumented(t *testing.T) {
	find := func(file, pattern string) []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	proto := find("../../api/perdure/v1/perdure.proto", `(?m)^  REASON_([A-Z_]+) = `)
	proto = slices.DeleteFunc(proto, func(n string) bool { return n == "UNSPECIFIED" })
	docs := find("../../docs/errors.md", "(?m)^\\| `([A-Z_]+)` \\|")
	if len(proto) < 30 {
		t.Fatalf("found %d reasons in the proto; the pattern is wrong", len(proto))
	}
	for _, n := range proto {
		if !slices.Contains(docs, n) {
			t.Errorf("docs/errors.md does not explain %s", n)
		}
	}
	for _, n := range docs {
		if !slices.Contains(proto, n) {
			t.Errorf("docs/errors.md explains %s, which does not exist", n)
		}
	}
}
