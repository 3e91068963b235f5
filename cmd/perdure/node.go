package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The states of a node.
const (
	nodeRunning = "running"
	nodePaused  = "paused"
	nodeStopped = "stopped"
)

// readyPoll is how often a starting server is asked whether it is ready.
const readyPoll = 50 * time.Millisecond

var (
	errRunning   = errors.New("it is running already")
	errStopped   = errors.New("it is not running")
	errNotPaused = errors.New("it is not paused")
)

// node is one server process that this process owns: started, watched and
// stopped here, and never outliving us. Its methods may be called from several
// goroutines.
type node struct {
	name   string
	client string // addresses of the listeners
	peer   string
	ops    string
	data   string // directory
	log    string // file that its output is appended to

	mu struct {
		sync.Mutex
		cmd     *exec.Cmd     // nil while it does not run
		ended   chan struct{} // closed when the process is reaped
		meant   bool          // we ended it
		paused  bool
		verdict string // how it ended
	}
	died func(n *node, how string) // called when it ended and nobody meant it
}

// start starts the process. It does not wait until it is ready.
func (n *node) start(self string, environ []string, core string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd != nil {
		return fmt.Errorf("%s: %w", n.name, errRunning)
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", n.name, err)
	}
	cmd := exec.Command(self, "server", "--name", n.name, "--data", n.data,
		"--listen-client", n.client, "--listen-peer", n.peer, "--listen-ops", n.ops, "--core", core)
	cmd.Args[0] = "perdure"
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", n.name, err), log.Close())
	}
	n.mu.cmd, n.mu.ended = cmd, make(chan struct{})
	n.mu.meant, n.mu.paused, n.mu.verdict = false, false, ""
	go n.reap(cmd, n.mu.ended, log)
	return nil
}

// reap waits for the process and closes ended. It owns log.
func (n *node) reap(cmd *exec.Cmd, ended chan struct{}, log io.Closer) {
	err := cmd.Wait()
	how := "ended by itself"
	if err != nil {
		how = "ended: " + err.Error()
	}
	_ = log.Close()
	n.mu.Lock()
	n.mu.cmd, n.mu.verdict, n.mu.paused = nil, how, false
	meant := n.mu.meant
	n.mu.Unlock()
	close(ended)
	if !meant && n.died != nil {
		n.died(n, how)
	}
}

// state returns the state and, while it runs, the process id.
func (n *node) state() (state string, pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.mu.cmd == nil:
		return nodeStopped, 0
	case n.mu.paused:
		return nodePaused, n.mu.cmd.Process.Pid
	}
	return nodeRunning, n.mu.cmd.Process.Pid
}

// signal sends a signal and returns the channel that ends with the process.
// meant says that the process is to end of it.
func (n *node) signal(s syscall.Signal, meant bool) (<-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd == nil {
		return nil, fmt.Errorf("%s: %w", n.name, errStopped)
	}
	n.mu.meant = n.mu.meant || meant
	if err := n.mu.cmd.Process.Signal(s); err != nil {
		return nil, fmt.Errorf("signal %s: %w", n.name, err)
	}
	switch s {
	case syscall.SIGSTOP:
		n.mu.paused = true
	case syscall.SIGCONT:
		n.mu.paused = false
	}
	return n.mu.ended, nil
}

// resume lets a paused process go on.
func (n *node) resume() error {
	if state, _ := n.state(); state == nodeRunning {
		return fmt.Errorf("%s: %w", n.name, errNotPaused)
	}
	_, err := n.signal(syscall.SIGCONT, false)
	return err
}

// kill ends the process with SIGKILL and waits until it is gone.
func (n *node) kill() error {
	ended, err := n.signal(syscall.SIGKILL, true)
	if err != nil {
		return err
	}
	<-ended
	return nil
}

// stop ends the process gracefully, and with SIGKILL when ctx ends. It does
// nothing if the process does not run.
func (n *node) stop(ctx context.Context) {
	ended, err := n.signal(syscall.SIGTERM, true)
	if err != nil {
		return
	}
	_, _ = n.signal(syscall.SIGCONT, true) // a paused process hears nothing else
	select {
	case <-ended:
	case <-ctx.Done():
		_ = n.kill()
	}
}

// ready waits until the server says that it is ready. It fails early if the
// process ends, or if nothing but fencing keeps the server from being ready: a
// *fencedError.
func (n *node) ready(ctx context.Context) error {
	n.mu.Lock()
	running, ended := n.mu.cmd != nil, n.mu.ended
	n.mu.Unlock()
	if !running {
		return n.obituary()
	}
	var problems []string
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		var ok bool
		if ok, problems = askReady(ctx, n.ops); ok {
			return nil
		}
		if fencedOnly(problems) {
			return &fencedError{n.name, problems}
		}
		select {
		case <-ended:
			return n.obituary()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s; its log is %s: %w", n.name, strings.Join(problems, "; "), n.log, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// obituary says how the process ended, with its last words.
func (n *node) obituary() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Errorf("%s %s; its log %s ends with: %s", n.name, n.mu.verdict, n.log, lastLine(n.log))
}

// askReady asks the operators' listener at address once, and returns what keeps
// the server from being ready, a line each.
func askReady(ctx context.Context, address string) (ok bool, problems []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false, []string{err.Error()}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, []string{"no answer yet"}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			problems = append(problems, line)
		}
	}
	return resp.StatusCode == http.StatusOK, problems
}

// lastLine returns the end of a file that is worth quoting.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	last := lines[len(lines)-1]
	// What a server says at its end has our frame, which comes once more.
	if text, ours := strings.CutPrefix(last, "perdure: "); ours {
		if i := strings.LastIndex(text, " ("); i > 0 && strings.HasSuffix(text, ")") {
			text = text[:i]
		}
		return text
	}
	return last
}
