package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/store/statefile"
)

// TestHelp holds that every command says what it is for and gives examples
// whose flags and arguments it would take. The scripts run most of them.
func TestHelp(t *testing.T) {
	p := &program{}
	each(p.root(), func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: no short description, or no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if err := checkExample(line); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), strings.TrimSpace(line), err)
			}
		}
	})
}

// TestJSONKeysAreDocumented looks for each key that -o json prints in docs/cli.md.
func TestJSONKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		complaint{}, progress{}, lineRange{}, deletion{}, holding{}, pubResult{}, messageView{}, demoReport{}, demoDurable{},
		statusView{}, serverStatusView{}, processView{}, clusterStatusView{}, serviceStatusView{}, storeStatusView{}, durableStatusView{},
		clustersView{}, clusterDone{}, planView{}, client.Change{}, client.Problem{}, devState{}, devDone{}, succession{}, versionInfo{},
		statefile.Manifest{}, statefile.Summary{}, statefile.StoreSummary{}, statefile.DurableSummary{}, statefile.Difference{}, statefile.Totals{},
		savedView{}, savedFile{}, loadedView{}, loadedStore{}, stateVerified{}, stateDiff{}, setDone{}, backupSet{}, backupCluster{}, setFile{}, importResult{}, importCheck{}, shutdownView{}, shutdownDone{},
	} {
		for field := range reflect.TypeOf(v).Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if documented := regexp.MustCompile("[`.]" + key + "(\\[\\])?[`.]"); key != "" && !documented.Match(text) {
				t.Errorf("docs/cli.md does not explain %s of %T", key, v)
			}
		}
	}
}

// checkExample parses what follows the word perdure in a line of shell.
func checkExample(line string) error {
	_, line, _ = strings.Cut(line, "perdure ")
	var args []string
	for word := range strings.FieldsSeq(line) {
		if word == "#" || word == ">" || word == "<" {
			break
		}
		args = append(args, strings.Trim(word, "'\")"))
	}
	p := &program{}
	cmd, rest, err := p.root().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestEnvironmentTwins(t *testing.T) {
	p := &program{environ: []string{"PERDURE_OUTPUT=json", "PERDURE_TIMEOUT=", "PERDURE_COUNT=7", "PERDURE_IDLE_TIMEOUT=2s"}}
	cmd, _, err := p.root().Find([]string{"sub"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{"--count", "3"}); err != nil {
		t.Fatal(err)
	}
	if err := p.fromEnvironment(cmd); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"output": "json", "timeout": "10s", "count": "3", "idle-timeout": "2s", "connect": defaultConnect,
	} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("--%s is %s, want %s", flag, got, want)
		}
	}
	for command, want := range map[string]string{
		"bench publish --connect": "PERDURE_BENCH_CONNECT", "bench publish --count": "PERDURE_BENCH_COUNT",
		"cluster save --output": "PERDURE_SAVE_OUTPUT", "cluster save --print": "PERDURE_OUTPUT", "cluster load --output": "PERDURE_OUTPUT", "cluster backup --output": "PERDURE_BACKUP_OUTPUT", "backup --output": "PERDURE_OUTPUT",
		"bench publish --output": "PERDURE_OUTPUT", "demo --count": "PERDURE_DEMO_COUNT", "demo --rate": "PERDURE_RATE",
		"dev --data": "PERDURE_DEV_DATA", "dev kill --data": "PERDURE_DEV_DATA", "server --data": "PERDURE_DATA",
		"status --connect": "PERDURE_CONNECT", "sub --count": "PERDURE_COUNT",
	} {
		words, flag, _ := strings.Cut(command, " --")
		cmd, _, err := p.root().Find(strings.Fields(words))
		if err != nil {
			t.Fatal(err)
		}
		if usage := cmd.Flags().Lookup(flag).Usage; !strings.Contains(usage, "["+want+"]") {
			t.Errorf("%s: %q does not name %s", command, usage, want)
		}
	}
	if usage := cmd.Flags().Lookup("idle-timeout").Usage; !strings.Contains(usage, "[PERDURE_IDLE_TIMEOUT]") {
		t.Errorf("--idle-timeout: %q does not name its variable", usage)
	}
}

// A variable of a flag that may be repeated has a list.
func TestEnvironmentLists(t *testing.T) {
	for value, want := range map[string][]string{
		"main-1,main-2": {"main-1", "main-2"}, "main-1": {"main-1"}, `"a,b",c`: {"a,b", "c"}, "": {},
	} {
		p := &program{environ: []string{"PERDURE_SERVICE=" + value}}
		cmd, _, err := p.root().Find([]string{"cluster", "save"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.fromEnvironment(cmd); err != nil {
			t.Fatal(err)
		}
		got, err := cmd.Flags().GetStringArray("service")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", value, got, err, want)
		}
	}
	for _, args := range [][]string{{"cluster", "suspend", "main"}, {"cluster", "save", "main"}, {"cluster", "backup", "main"}} {
		var errs strings.Builder
		code := run(t.Context(), args, strings.NewReader(""), io.Discard, &errs, []string{"PERDURE_ALL=true"})
		if code != exitUsage || !strings.Contains(errs.String(), "PERDURE_ALL=true is in the environment") {
			t.Errorf("%q: %d: %s", args, code, &errs)
		}
	}
	var errs strings.Builder
	if code := run(t.Context(), []string{"cluster", "save", "main"}, strings.NewReader(""), io.Discard, &errs, []string{`PERDURE_SERVICE="a`}); code != exitUsage || !strings.Contains(errs.String(), "environment: PERDURE_SERVICE: ") {
		t.Errorf("%d: %s", code, &errs)
	}
}
