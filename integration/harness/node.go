package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Node is one server of a fleet: its addresses, its directory and, while it
// runs, its process. Its methods may be called from several goroutines.
type Node struct {
	Name   string
	Client string // addresses of the listeners
	Peer   string
	Ops    string
	Data   string // directory
	Log    string // file, of all its processes

	t    testing.TB
	core string

	mu struct {
		sync.Mutex
		cmd    *exec.Cmd // nil while it does not run
		stdin  io.Closer
		ended  chan struct{} // closed when the process is reaped
		meant  bool          // the test ended it, or expects its end
		paused bool
		exit   error
	}
}

// Args are the arguments that the node is started with.
func (n *Node) Args() []string {
	return []string{"--name", n.Name, "--data", n.Data, "--core", n.core,
		"--listen-client", n.Client, "--listen-peer", n.Peer, "--listen-ops", n.Ops}
}

// Start starts the process. It does not wait until it is ready.
func (n *Node) Start() {
	n.t.Helper()
	n.StartWith()
}

// StartWith is Start with more arguments; of a flag that comes twice the last
// counts.
func (n *Node) StartWith(more ...string) {
	n.t.Helper()
	if err := n.start(append(n.Args(), more...)); err != nil {
		n.t.Fatalf("start %s: %v", n.Name, err)
	}
}

func (n *Node) start(args []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd != nil {
		return errors.New("it is running")
	}
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd, stdin, err := command(args, log)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}
	ended := make(chan struct{})
	n.mu.cmd, n.mu.stdin, n.mu.ended = cmd, stdin, ended
	n.mu.meant, n.mu.paused, n.mu.exit = false, false, nil
	go n.reap(cmd, ended, log)
	return nil
}

// command is this binary as a server.
func command(args []string, output *os.File) (*exec.Cmd, io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PERDURE_") // what is meant for the tests is not meant for servers
	}), serverVariable+"=1")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = childAttributes()
	stdin, err := cmd.StdinPipe()
	return cmd, stdin, err
}

// reap waits for the process. It owns log.
func (n *Node) reap(cmd *exec.Cmd, ended chan struct{}, log io.Closer) {
	err := cmd.Wait()
	_ = log.Close()
	n.mu.Lock()
	n.mu.cmd, n.mu.exit, n.mu.paused = nil, err, false
	meant := n.mu.meant
	n.mu.Unlock()
	if !meant {
		n.t.Errorf("server %s ended by itself: %v", n.Name, err)
	}
	close(ended)
}

// Running tells whether there is a process.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.cmd != nil
}

// signal sends a signal and returns the channel that ends with the process, nil
// if it does not run. meant says that the process is to end of it.
func (n *Node) signal(s syscall.Signal, meant bool) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd == nil {
		return nil
	}
	n.mu.meant = n.mu.meant || meant
	_ = n.mu.cmd.Process.Signal(s) // it may have ended: ended says so
	switch s {
	case syscall.SIGSTOP:
		n.mu.paused = true
	case syscall.SIGCONT:
		n.mu.paused = false
	}
	return n.mu.ended
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (n *Node) Kill() {
	if ended := n.signal(syscall.SIGKILL, true); ended != nil {
		<-ended
	}
}

// Pause stops the process with SIGSTOP: it does nothing, and its sockets stay.
func (n *Node) Pause() { n.signal(syscall.SIGSTOP, false) }

// Resume lets a paused process go on.
func (n *Node) Resume() { n.signal(syscall.SIGCONT, false) }

// Stop ends the process with SIGTERM and waits for it. It must end with 0.
func (n *Node) Stop() {
	n.t.Helper()
	ended := n.signal(syscall.SIGTERM, true)
	if ended == nil {
		return
	}
	select {
	case <-ended:
		n.mu.Lock()
		err := n.mu.exit
		n.mu.Unlock()
		if err != nil {
			n.t.Errorf("stop %s: %v", n.Name, err)
		}
	case <-time.After(stopPatience + 5*time.Second):
		n.signal(syscall.SIGQUIT, true) // its log gets what every goroutine does
		<-ended
		n.t.Errorf("stop %s: still running after %v", n.Name, stopPatience+5*time.Second)
	}
}

// Wipe removes what is in the data directory of a server that does not run.
func (n *Node) Wipe() {
	n.t.Helper()
	if n.Running() {
		n.t.Fatalf("wipe %s: it is running", n.Name)
	}
	if err := os.RemoveAll(n.Data); err != nil {
		n.t.Fatalf("wipe %s: %v", n.Name, err)
	}
}

// Readyz asks the server whether it is ready, and if not, why.
func (n *Node) Readyz(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Ops+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s", n.Name, strings.TrimSpace(string(text)))
	}
	return nil
}

// Ready waits until the server is ready.
func (n *Node) Ready() {
	n.t.Helper()
	Await(n.t, time.Minute, "server "+n.Name+" to be ready", func(ctx context.Context) error {
		if !n.Running() {
			return errors.New("it does not run")
		}
		return n.Readyz(ctx)
	})
}

// LogText is what the server has logged, all its processes together.
func (n *Node) LogText() string {
	text, err := os.ReadFile(n.Log)
	if err != nil {
		return ""
	}
	return string(text)
}

// Memory is how many bytes of memory the process has to itself, 0 if it does not run
// or the system does not say.
func (n *Node) Memory() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.cmd == nil {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.mu.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// DiskBytes is what the data directory takes on the disk, with what files have
// reserved.
func (n *Node) DiskBytes() int64 {
	return n.files(func(info os.FileInfo) int64 {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return st.Blocks * 512
		}
		return info.Size()
	})
}

// FileBytes is what is in the files of the data directory.
func (n *Node) FileBytes() int64 { return n.files(os.FileInfo.Size) }

func (n *Node) files(size func(os.FileInfo) int64) (total int64) {
	_ = filepath.WalkDir(n.Data, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files go while a server runs
		}
		if info, err := d.Info(); err == nil {
			total += size(info)
		}
		return nil
	})
	return total
}
