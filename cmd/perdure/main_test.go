package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this binary be perdure when it is called by that name, as the
// scripts do, and as perdure does when it starts servers.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"perdure": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[runningDevs] = new([]*devProcess)
			states, err := filepath.Abs("../../store/statefile/testdata")
			e.Setenv("STATES", states)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     codeCommand,
			"dev":      devCommand,
			"stop-dev": stopDevCommand,
			"examples": examplesCommand,
			"keys":     keysCommand,
			"await":    awaitCommand,
		},
	})
}

// codeCommand runs a command that must end with a code: code 2 perdure nonsense.
func codeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("ended with %d, want %d", got, want)
	}
}

// devProcess is the dev that a script runs in the background.
type devProcess struct {
	cmd    *exec.Cmd
	output io.ReadCloser
}

// devCommand starts perdure dev with its files in a directory, on free ports,
// and goes on when it says that it is ready: dev DIR args... What it prints is in
// DIR-dev.out and DIR-dev.log.
func devCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: dev DIR args...")
	}
	dir := ts.MkAbs(args[0])
	path, err := exec.LookPath("perdure")
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"dev", "--port-base", "0", "--data", dir}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	log, err := os.Create(filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"-dev.log"))
	ts.Check(err)
	cmd.Stderr = log
	output, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Check(log.Close())
	p := &devProcess{cmd, output}
	running := ts.Value(runningDevs).(*[]*devProcess)
	*running = append(*running, p)
	ts.Defer(func() {
		_ = p.cmd.Process.Kill() // it may have ended as it should
		_ = p.cmd.Wait()
	})
	lines := bufio.NewScanner(output)
	said := ""
	for lines.Scan() {
		said += lines.Text() + "\n"
		// The last of what it prints when it is ready.
		if strings.HasPrefix(lines.Text(), "Ctrl-C stops") {
			ts.Check(os.WriteFile(strings.TrimSuffix(log.Name(), ".log")+".out", []byte(said), 0o600))
			state, err := readDevState(dir)
			ts.Check(err)
			ts.Setenv("PERDURE_CONNECT", state.Connect)
			ts.Setenv("PERDURE_DEV_DATA", dir)
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return
		}
	}
	text, _ := os.ReadFile(log.Name())
	ts.Fatalf("dev ended before it was ready: %s", text)
}

// runningDevs is the key of a script's devs: a *[]*devProcess.
const runningDevs = "running devs"

// stopDevCommand ends the last dev of the script the way Ctrl-C does.
func stopDevCommand(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.Value(runningDevs).(*[]*devProcess)
	if neg || len(args) != 0 || len(*running) == 0 {
		ts.Fatalf("usage: stop-dev, after dev")
	}
	last := len(*running) - 1
	p := (*running)[last]
	*running = (*running)[:last]
	ts.Check(p.cmd.Process.Signal(syscall.SIGINT))
	if err := p.cmd.Wait(); err != nil {
		ts.Fatalf("dev ended with %v", err)
	}
}

// examplesCommand runs, by a shell, every example in the help of commands.
func examplesCommand(ts *testscript.TestScript, neg bool, args []string) {
	p := &program{}
	for _, name := range args {
		cmd, _, err := p.root().Find(strings.Split(name, " "))
		ts.Check(err)
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			ts.Logf("> %s", line)
			if err := ts.Exec("bash", "-c", line); err != nil {
				ts.Fatalf("example of %s: %s: %v", name, line, err)
			}
		}
	}
}

// keysCommand compares the paths of all keys of a JSON document with a file.
func keysCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keys stdout FILE")
	}
	var document any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &document))
	got, want := strings.Join(keyPaths("", document), "\n"), strings.TrimSpace(ts.ReadFile(args[1]))
	if got != want {
		ts.Fatalf("keys are:\n%s\nwant:\n%s", got, want)
	}
}

// keyPaths returns the paths of all keys below v, sorted.
func keyPaths(path string, v any) []string {
	var list []string
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			list = append(list, strings.TrimPrefix(path+"."+key, "."))
			list = append(list, keyPaths(path+"."+key, inner)...)
		}
	case []any:
		for _, inner := range v {
			list = append(list, keyPaths(path+"[]", inner)...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// awaitCommand runs a command again and again until it prints what a text says:
// await TEXT command args... It asks at most a thousand times.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await TEXT command args...")
	}
	for range 1000 {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
	}
	ts.Fatalf("%s never printed %q", strings.Join(args[1:], " "), args[0])
}

// output runs perdure in this process.
func output(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs, []string{"HOME=" + t.TempDir()})
	return code, out.String(), errs.String()
}
