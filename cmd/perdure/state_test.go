package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/perdure/perdure/store/statefile"
)

// TestManifestIsShownSafely: what a file says it is, before anybody checked that,
// does not speak to the terminal.
func TestManifestIsShownSafely(t *testing.T) {
	const evil = "main\x1b]0;x\a\r\u009b2J\u202e\n"
	m := &statefile.Manifest{Cluster: evil, Summary: statefile.Summary{StateHash: evil, Stores: []statefile.StoreSummary{
		{Name: evil, Durables: []statefile.DurableSummary{{Name: evil, Kind: evil}}},
	}}}
	var out bytes.Buffer
	p := &program{stdout: &out}
	p.printManifest(m)
	text := out.String()
	for _, c := range text {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Fatalf("%q is in %q", c, text)
		}
	}
	if n := strings.Count(text, `\x1b]0;x\a\r`); n != 6 { // a store's name is shown twice
		t.Errorf("it is shown %d times in %q", n, text)
	}
	if got := shown("Größe-1"); got != "Größe-1" {
		t.Errorf("a name became %s", got)
	}
}
