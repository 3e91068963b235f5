package child

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestMain lets the test's own program be a child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "be a child" {
		Follow()
		_, _ = fmt.Fprintln(os.Stdout, "ready")
		select {}
	}
	os.Exit(m.Run())
}

func startChild(t *testing.T) *Child {
	t.Helper()
	c, out, err := Start(os.Stderr, "be a child")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := Line(t.Context(), out); line != "ready" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return c
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

func TestStop(t *testing.T) {
	c := startChild(t)
	c.Stop()
	if !gone(c.PID()) {
		t.Errorf("process %d is still there", c.PID())
	}
	c.Stop()
}

func TestChildFollowsItsParent(t *testing.T) {
	c := startChild(t)
	if err := c.stdin.Close(); err != nil { // what the end of this process would do
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil { // it ends by itself, in order
		t.Error(err)
	}
}

func TestUnderGoRun(t *testing.T) {
	ctx, leave := UnderGoRun(t.Context())
	if err := ctx.Err(); err != nil { // whoever started this test is alive
		t.Error(err)
	}
	leave()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
