package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/fleet"
)

// trigger is a writer that calls do once when it has seen text.
type trigger struct {
	text string
	do   func()

	mu   sync.Mutex
	seen strings.Builder
	once sync.Once
}

func (w *trigger) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Write(b)
	if strings.Contains(w.seen.String(), w.text) {
		w.once.Do(w.do)
	}
	return len(b), nil
}

func (w *trigger) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.String()
}

// TestServerStopsGracefully runs a server that is told to stop when it says
// that it is ready.
func TestServerStopsGracefully(t *testing.T) {
	ports, err := fleet.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{}
	f, err := p.newFleet(t.TempDir(), ports)
	if err != nil {
		t.Fatal(err)
	}
	n := f.Nodes[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &trigger{text: "server s1 is ready: clients " + n.Client, do: cancel}
	var log strings.Builder
	code := run(ctx, []string{"server", "--name", n.Name, "--data", n.Data, "--core", n.Name + "=" + n.Peer, "--log-format", "json",
		"--listen-client", n.Client, "--listen-peer", n.Peer, "--listen-ops", n.Ops}, strings.NewReader(""), out, &log, nil)
	if code != exitOK || !strings.HasSuffix(out.String(), "operators http://"+n.Ops+"\n") {
		t.Errorf("ended with %d, said %q, logged %s", code, out, log.String())
	}
	if !strings.Contains(log.String(), `"msg":"stopping"`) {
		t.Errorf("no JSON that it stops in the log: %s", log.String())
	}
}

// TestDemoInterrupted shows that Ctrl-C leaves nothing behind.
func TestDemoInterrupted(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := &trigger{text: "publishing", do: cancel}
	code := run(ctx, []string{"demo"}, strings.NewReader(""), io.Discard, errs, nil)
	if code != exitFailed || !strings.Contains(errs.String(), "perdure: interrupted (INTERRUPTED)") {
		t.Errorf("ended with %d: %s", code, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDemoFailed shows that a failure keeps what explains it.
func TestDemoFailed(t *testing.T) {
	dir := t.TempDir()
	cause := errors.New("server s2 ended")
	err := demoFailed(t.Context(), dir, demoOptions{}, cause)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

// TestServerTellsWhyItEnded starts a server that cannot be one; what keeps it from
// starting is in the error of whoever waits for it.
func TestServerTellsWhyItEnded(t *testing.T) {
	p := &program{}
	dir := t.TempDir()
	f, err := p.newFleet(dir, []int{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	n := f.Nodes[0]
	ended := make(chan string, 1)
	n.Died = func(_ *fleet.Node, how string) { ended <- how }
	n.Data = filepath.Join(dir, "missing", "data")
	if err := f.Start(n); err != nil {
		t.Fatal(err)
	}
	if how := <-ended; how != "ended: exit status 1" {
		t.Errorf("it %s", how)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = n.Ready(ctx)
	if err == nil || !strings.Contains(err.Error(), "cannot create") {
		t.Errorf("ready says %v, without the last line of its log", err)
	}
}
