package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// startPatience is how long a child may take to say its first line.
const startPatience = 30 * time.Second

// A Child is a running process that this one started. Its methods are called by
// one goroutine.
type Child struct {
	cmd   *exec.Cmd
	stdin io.Closer // its end tells the child to end, too
	stop  bool
}

// Start runs this program with args and output going to log. What it writes to
// standard output comes from the pipe that Line reads.
func Start(log io.Writer, args ...string) (*Child, *bufio.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = log
	cmd.SysProcAttr = attributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start %s: %w", args[0], err), stdin.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return &Child{cmd: cmd, stdin: stdin}, bufio.NewReader(stdout), nil
}

// Line reads the first line that a child says: that it is ready, or where. It
// waits for it, until ctx ends or patience does.
func Line(ctx context.Context, out *bufio.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	said := make(chan answer, 1)
	go func() {
		line, err := out.ReadString('\n')
		said <- answer{strings.TrimSpace(line), err}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("waited %v", startPatience))
	defer cancel()
	select {
	case a := <-said:
		if a.err != nil {
			return "", fmt.Errorf("a server ended before it was ready; what it said is above: %w", a.err)
		}
		return a.line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("a server does not become ready: %w", context.Cause(ctx))
	}
}

// PID returns the process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Stop kills the child and waits until it is gone. A second call does nothing.
func (c *Child) Stop() {
	if c.stop {
		return
	}
	c.stop = true
	_ = c.cmd.Process.Kill() // it may have ended already
	_ = c.cmd.Wait()         // killed, as it says
	_ = c.stdin.Close()
}

// Follow ends this process when its parent closes our standard input, or dies.
// A child calls it first.
func Follow() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
