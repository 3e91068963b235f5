package bench

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
	"time"
)

// readyPoll is how often a starting server is asked whether it is ready.
const readyPoll = 20 * time.Millisecond

// process is one server. Its methods may be called from several goroutines.
type process struct {
	name      string
	client    string // addresses of the listeners
	peer      string
	operators string
	data      string // directory
	log       string // file that its output is appended to

	mu    sync.Mutex
	cmd   *exec.Cmd     // nil while it does not run
	ended chan struct{} // closed when the process is reaped
	past  Usage         // of the processes that were killed
}

// start starts the process. It does not wait until it is ready.
func (p *process) start(binary string, environ []string, core string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("bench: server %s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("bench: log of server %s: %w", p.name, err)
	}
	cmd := exec.Command(binary, "server", "--name", p.name, "--data", p.data,
		"--listen-client", p.client, "--listen-peer", p.peer, "--listen-ops", p.operators, "--core", core)
	cmd.Args[0] = "perdure" // what the program is, whatever its file is called
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("bench: start server %s: %w; is %s the perdure binary?", p.name, err, binary), log.Close())
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // its log says how it ended
		_ = log.Close()
		p.mu.Lock()
		p.cmd = nil
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() error {
	p.mu.Lock()
	if p.cmd == nil {
		p.mu.Unlock()
		return fmt.Errorf("bench: server %s does not run", p.name)
	}
	last, err := ProcessUsage(p.cmd.Process.Pid)
	if err == nil {
		p.past.CPU += last.CPU
		p.past.Written += last.Written
		p.past.PeakRSS = max(p.past.PeakRSS, last.PeakRSS)
	}
	err = p.cmd.Process.Kill()
	ended := p.ended
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("bench: kill server %s: %w", p.name, err)
	}
	<-ended
	return nil
}

// usage returns what the server has used, the processes before this one
// included, and 0 servers if none runs.
func (p *process) usage() (Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := Usage{}
	if p.cmd != nil {
		var err error
		if u, err = ProcessUsage(p.cmd.Process.Pid); err != nil {
			return u, err
		}
	}
	u.CPU += p.past.CPU
	u.Written += p.past.Written
	u.PeakRSS = max(u.PeakRSS, p.past.PeakRSS)
	return u, nil
}

// ready waits until the server says that it is ready, or has ended.
func (p *process) ready(ctx context.Context) error {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended == nil {
		return fmt.Errorf("bench: server %s was never started", p.name)
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		why := p.ask(ctx)
		if why == "" {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("bench: server %s ended by itself; its log ends with: %s", p.name, lastLine(p.log))
		case <-ctx.Done():
			return fmt.Errorf("bench: server %s is not ready (%s): %w", p.name, why, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// ask returns what keeps the server from being ready, or "".
func (p *process) ask(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.operators+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "no answer yet"
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what came is what there is to say
	if resp.StatusCode == http.StatusOK {
		return ""
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// lastLine returns the end of a file that is worth quoting.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}
