package harness

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Exec runs a server with any arguments, and more in its environment, until it
// ends, which must be within ten seconds. It returns the exit code and what the
// server said.
func Exec(t testing.TB, environ []string, args ...string) (code int, output string) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "exec")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd, _, err := command(args, out)
	if err == nil {
		cmd.Env = append(cmd.Env, environ...)
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	if !late.Stop() {
		t.Fatalf("a server with %q still ran after 10 s; it said:\n%s", args, text)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}
