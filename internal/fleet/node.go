package fleet

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
	Running = "running"
	Paused  = "paused"
	Stopped = "stopped"
)

// readyPoll is how often a starting server is asked whether it is ready.
const readyPoll = 20 * time.Millisecond

// What errors of a Node are.
var (
	ErrRunning   = errors.New("it is running already")
	ErrStopped   = errors.New("it is not running")
	ErrNotPaused = errors.New("it is not paused")
)

// Node is one server process that this process owns: started, watched and
// stopped here, and never outliving us. Its methods may be called from several
// goroutines.
type Node struct {
	Name   string
	Client string // addresses of the listeners
	Peer   string
	Ops    string
	Data   string // directory
	Log    string // file that its output is appended to
	// Died is called when it ended and nobody meant it. It may be nil.
	Died func(n *Node, how string)

	mu struct {
		sync.Mutex
		cmd     *exec.Cmd     // nil while it does not run
		ended   chan struct{} // closed when the process is reaped
		meant   bool          // we ended it
		paused  bool
		verdict string // how it ended
	}
}

// start starts the process. It does not wait until it is ready.
func (n *Node) start(binary string, environ []string, core string, more []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd != nil {
		return fmt.Errorf("%s: %w", n.Name, ErrRunning)
	}
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", n.Name, err)
	}
	args := []string{"server", "--name", n.Name, "--data", n.Data,
		"--listen-client", n.Client, "--listen-peer", n.Peer, "--listen-ops", n.Ops, "--core", core}
	cmd := exec.Command(binary, append(args, more...)...)
	cmd.Args[0] = "perdure" // what the program is, whatever its file is called
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w; is %s the perdure binary?", n.Name, err, binary), log.Close())
	}
	n.mu.cmd, n.mu.ended = cmd, make(chan struct{})
	n.mu.meant, n.mu.paused, n.mu.verdict = false, false, ""
	go n.reap(cmd, n.mu.ended, log)
	return nil
}

// reap waits for the process and closes ended. It owns log.
func (n *Node) reap(cmd *exec.Cmd, ended chan struct{}, log io.Closer) {
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
	if !meant && n.Died != nil {
		n.Died(n, how)
	}
}

// State returns the state and, while it runs, the process id.
func (n *Node) State() (state string, pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.mu.cmd == nil:
		return Stopped, 0
	case n.mu.paused:
		return Paused, n.mu.cmd.Process.Pid
	}
	return Running, n.mu.cmd.Process.Pid
}

// signal sends a signal and returns the channel that ends with the process.
// meant says that the process is to end of it.
func (n *Node) signal(s syscall.Signal, meant bool) (<-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd == nil {
		return nil, fmt.Errorf("%s: %w", n.Name, ErrStopped)
	}
	n.mu.meant = n.mu.meant || meant
	if err := n.mu.cmd.Process.Signal(s); err != nil {
		return nil, fmt.Errorf("signal %s: %w", n.Name, err)
	}
	switch s {
	case syscall.SIGSTOP:
		n.mu.paused = true
	case syscall.SIGCONT:
		n.mu.paused = false
	}
	return n.mu.ended, nil
}

// Pause stops the process where it stands, until Resume.
func (n *Node) Pause() error {
	_, err := n.signal(syscall.SIGSTOP, false)
	return err
}

// Resume lets a paused process go on.
func (n *Node) Resume() error {
	if state, _ := n.State(); state == Running {
		return fmt.Errorf("%s: %w", n.Name, ErrNotPaused)
	}
	_, err := n.signal(syscall.SIGCONT, false)
	return err
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (n *Node) Kill() error {
	ended, err := n.signal(syscall.SIGKILL, true)
	if err != nil {
		return err
	}
	<-ended
	return nil
}

// Stop ends the process gracefully, and with SIGKILL when ctx ends. It does
// nothing if the process does not run.
func (n *Node) Stop(ctx context.Context) {
	ended, err := n.signal(syscall.SIGTERM, true)
	if err != nil {
		return
	}
	_, _ = n.signal(syscall.SIGCONT, true) // a paused process hears nothing else
	select {
	case <-ended:
	case <-ctx.Done():
		_ = n.Kill()
	}
}

// Ready waits until the server says that it is ready. It fails early if the
// process ends, or if nothing but fencing keeps the server from being ready: a
// *FencedError.
func (n *Node) Ready(ctx context.Context) error {
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
		if ok, problems = AskReady(ctx, n.Ops); ok {
			return nil
		}
		if fencedOnly(problems) {
			return &FencedError{n.Name, problems}
		}
		select {
		case <-ended:
			return n.obituary()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s; its log is %s: %w", n.Name, strings.Join(problems, "; "), n.Log, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// obituary says how the process ended, with its last words.
func (n *Node) obituary() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.verdict == "" {
		return fmt.Errorf("%s was never started", n.Name)
	}
	return fmt.Errorf("%s %s; its log %s ends with: %s", n.Name, n.mu.verdict, n.Log, LastLine(n.Log))
}

// AskReady asks the operators' listener at address once, and returns what keeps
// the server from being ready, a line each. Suspended clusters do not count.
func AskReady(ctx context.Context, address string) (ok bool, problems []string) {
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
	suspended := false
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case saysSuspended(line):
			suspended = true
		case line != "":
			problems = append(problems, line)
		}
	}
	return resp.StatusCode == http.StatusOK || suspended && len(problems) == 0, problems
}

// LastLine returns the end of a file that is worth quoting.
func LastLine(path string) string {
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
