package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
)

// importRig is a server with a store, and what a durable of it gets.
type importRig struct {
	fleet *fleet.Fleet
	sub   *client.Subscription
}

func newImportRig(t *testing.T) *importRig {
	t.Helper()
	ports, err := fleet.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := (&program{}).newFleet(t.TempDir(), ports)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Kill)
	c, err := client.Connect(t.Context(), f.Connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(c) })
	if _, err := c.Admin().ApplyRealm(t.Context(), []byte(defaultRealm(f.Nodes)), "the default realm"); err != nil {
		t.Fatal(err)
	}
	r := &importRig{fleet: f}
	if r.sub, err = c.Subscribe(t.Context(), "default", client.Durable("d")); err != nil {
		t.Fatal(err)
	}
	return r
}

// args are those of an import of a file.
func (r *importRig) args(file string, more ...string) []string {
	return append([]string{"store", "import", "main", "default", file, "--connect", r.fleet.Connect()}, more...)
}

// want receives n messages that are numbered from 0 on.
func (r *importRig) want(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		d, err := r.sub.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := d.Message()
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := m.Get("n"); v.String() != fmt.Sprint(i) || int(d.ID()) != i+1 {
			t.Fatalf("message %d has id %v and is %s", i, d.ID(), m.AppendTyped(nil))
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
}

// numberedLines are n messages as JSON Lines or CSV, with something to make them
// long.
func numberedLines(n int, csv bool) string {
	var b strings.Builder
	fill := strings.Repeat("x", 200)
	if csv {
		b.WriteString("n:int64,_body\n")
	}
	for i := range n {
		if csv {
			fmt.Fprintf(&b, "%d,\"%s\n\"\n", i, fill)
		} else {
			fmt.Fprintf(&b, "{\"fields\":{\"n\":%d},\"body\":\"%s\"}\n", i, fill)
		}
	}
	return b.String()
}

// lines are the whole lines of a file, such as the session file of an import: tests
// stop it by them, not by time.
func lines(t *testing.T, name string) int {
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte{'\n'})
}

// TestImportKilled kills an import with -9 again and again, and starts it again:
// every message is stored once, in order.
func TestImportKilled(t *testing.T) {
	for _, ext := range []string{"jsonl", "csv"} {
		t.Run(ext, func(t *testing.T) {
			r := newImportRig(t)
			file := filepath.Join(t.TempDir(), "input."+ext)
			const n = 20_000
			if err := os.WriteFile(file, []byte(numberedLines(n, ext == "csv")), 0o600); err != nil {
				t.Fatal(err)
			}
			self, err := exec.LookPath("perdure")
			if err != nil {
				t.Fatal(err)
			}
			kills, began := 0, lines(t, file+".import")
			for tries := 1; ; tries++ {
				cmd := exec.CommandContext(t.Context(), self, r.args(file)...)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				err := watch(t, cmd, ended, func() bool { return tries <= 5 && lines(t, file+".import") > began+7*tries })
				if err == nil {
					if !strings.Contains(out.String(), "imported ") {
						t.Errorf("it says %s", out.String())
					}
					break
				}
				if cmd.ProcessState.ExitCode() != -1 {
					t.Fatalf("ended with %v: %s", err, out.String())
				}
				kills++
				began = lines(t, file+".import")
			}
			if _, err := os.Stat(file + ".import"); !os.IsNotExist(err) {
				t.Errorf("the session file is there: %v", err)
			}
			t.Logf("killed %d times", kills)
			r.want(t, n)
		})
	}
}

// watch kills cmd as soon as now says so, and returns how it ended.
func watch(t *testing.T, cmd *exec.Cmd, ended <-chan error, now func() bool) error {
	for {
		select {
		case err := <-ended:
			return err
		default:
		}
		if now() {
			if err := cmd.Process.Kill(); err != nil && !strings.Contains(err.Error(), "finished") {
				t.Error(err)
			}
			return <-ended
		}
	}
}

// TestImportInterrupted stops an import while it waits for its input, and goes on
// with the same command.
func TestImportInterrupted(t *testing.T) {
	r := newImportRig(t)
	session := filepath.Join(t.TempDir(), "session")
	text := numberedLines(2000, false)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer input.Close()
	ended := make(chan int, 1)
	stderr := trigger{text: "\n", do: func() {}}
	go func() {
		ended <- run(ctx, r.args("-", "--session", session), stdin, new(bytes.Buffer), &stderr, nil)
	}()
	half := strings.Index(text, `{"fields":{"n":1500}`)
	if _, err := input.WriteString(text[:half]); err != nil {
		t.Fatal(err)
	}
	for lines(t, session) < 5 { // two batches are confirmed
		select {
		case code := <-ended:
			t.Fatalf("ended with %d: %s", code, stderr.String())
		default:
		}
	}
	stop()
	if code := <-ended; code != exitFailed {
		t.Errorf("ended with %d", code)
	}
	for _, want := range []string{"perdure: interrupted (INTERRUPTED)\n", "the first ", "  go on with: perdure store import main default - --connect "} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in\n%s", want, stderr.String())
		}
	}
	// Something else under the same session is refused.
	var out, other bytes.Buffer
	if code := run(t.Context(), r.args("-", "--session", session), strings.NewReader("{}\n"+text), &out, &other, nil); code != exitFailed ||
		!strings.Contains(other.String(), "it is not what it was") && !strings.Contains(other.String(), "is not what it was: its first") {
		t.Errorf("ended with %d: %s", code, other.String())
	}
	if code := run(t.Context(), r.args("-", "--session", session), strings.NewReader(text), &out, &other, nil); code != exitOK ||
		!strings.Contains(out.String(), "were there from the run before") {
		t.Errorf("ended with %d: %s %s", code, out.String(), other.String())
	}
	r.want(t, 2000)
}

// TestImportWithoutItsSession goes on after the store has forgotten the session.
func TestImportWithoutItsSession(t *testing.T) {
	r := newImportRig(t)
	file := filepath.Join(t.TempDir(), "input.jsonl")
	text := numberedLines(1000, false)
	wrong := strings.Index(text, `{"fields":{"n":900}`)
	if err := os.WriteFile(file, []byte(text[:wrong]+"{\"wrong\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	if code := run(t.Context(), r.args(file), nil, &out, &stderr, nil); code != exitFailed ||
		!strings.Contains(stderr.String(), "input.jsonl:901:2: ") || !strings.Contains(stderr.String(), "(INVALID_ARGUMENT)\n") {
		t.Fatalf("ended with %d: %s", code, stderr.String())
	}
	// The session becomes one that never was.
	session, err := os.ReadFile(file + ".import")
	if err != nil {
		t.Fatal(err)
	}
	session = bytes.Replace(session, []byte(`"session":`), []byte(`"session":77`), 1)
	for name, content := range map[string][]byte{file + ".import": session, file: []byte(text)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stderr.Reset()
	if code := run(t.Context(), r.args(file), nil, &out, &stderr, nil); code != exitFailed ||
		!strings.Contains(stderr.String(), "are stored; go on behind what is stored with --again, or remove the file to begin anew (SESSION_UNKNOWN)") {
		t.Errorf("ended with %d: %s", code, stderr.String())
	}
	stderr.Reset()
	if code := run(t.Context(), r.args(file, "--again"), nil, &out, &stderr, nil); code != exitOK {
		t.Fatalf("ended with %d: %s", code, stderr.String())
	}
	r.want(t, 1000)
}

// namesWhile notes which files of a directory there are while something is written.
type namesWhile struct {
	dir   string
	wrote bool
	names []string
}

func (w *namesWhile) Write(b []byte) (int, error) {
	w.wrote = true
	entries, err := os.ReadDir(w.dir)
	for _, e := range entries {
		w.names = append(w.names, e.Name())
	}
	return len(b), err
}

// TestExportLeavesNothing: whoever ends an export where it prints, as a pipe does that
// nobody reads, finds no file of it. An import that published nothing leaves none, and
// what a suspended cluster refuses is not the line's fault.
func TestExportLeavesNothing(t *testing.T) {
	r := newImportRig(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	file := filepath.Join(t.TempDir(), "a.jsonl")
	if err := os.WriteFile(file, []byte(numberedLines(5, false)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := output(t, "", "cluster", "suspend", "main", "--connect", r.fleet.Connect()); code != exitOK {
		t.Fatal(stderr)
	}
	code, _, stderr := output(t, "", r.args(file, "--timeout", "1s")...)
	if code == exitOK || !strings.Contains(stderr, "cluster main is suspended") || strings.Contains(stderr, "a.jsonl:1") {
		t.Errorf("ended with %d: %s", code, stderr)
	}
	if _, err := os.Stat(file + ".import"); !os.IsNotExist(err) {
		t.Errorf("nothing was published, and there is a session file: %v", err)
	}
	if code, _, stderr := output(t, "", "cluster", "resume", "main", "--connect", r.fleet.Connect()); code != exitOK {
		t.Fatal(stderr)
	}
	if code, _, stderr := output(t, "", r.args(file)...); code != exitOK {
		t.Fatal(stderr)
	}
	var out namesWhile
	out.dir = dir
	var errs strings.Builder
	if code := run(t.Context(), []string{"store", "export", "main", "default", "--connect", r.fleet.Connect()}, strings.NewReader(""), &out, &errs, nil); code != exitOK || !out.wrote {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
	if len(out.names) > 0 {
		t.Errorf("while it prints there are %q", out.names)
	}
}
