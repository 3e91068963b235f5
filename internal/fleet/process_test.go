package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fenceVariable names the servers that say that they may have forgotten.
const fenceVariable = "FLEET_TEST_FENCED"

// TestMain lets the test's own program be the servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "server" {
		pretend(os.Args)
		return
	}
	os.Exit(m.Run())
}

// pretend answers operators, until it is told to stop.
func pretend(args []string) {
	value := func(flag string) string { return args[slices.Index(args, flag)+1] }
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		err := http.ListenAndServe(value("--listen-ops"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if strings.Contains(os.Getenv(fenceVariable), value("--name")) {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, "service x of cluster y: it may have forgotten entries")
			}
		}))
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}()
	<-stop
}

// startFleet starts three servers, some of them fenced, and ends them with the
// test. The error is what waiting for them says.
func startFleet(t *testing.T, fenced string) (*Fleet, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ports, err := FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	f := New(self, append(os.Environ(), fenceVariable+"="+fenced), t.TempDir(), ports)
	t.Cleanup(f.Kill)
	for _, n := range f.Nodes {
		n.Died = func(n *Node, how string) { t.Errorf("%s %s, and nobody meant it", n.Name, how) }
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return f, f.StartAll(ctx)
}

func TestLife(t *testing.T) {
	f, err := startFleet(t, "")
	if err != nil {
		t.Fatal(err)
	}
	state := func(n *Node, want string) {
		t.Helper()
		if got, pid := n.State(); got != want || (pid == 0) != (want == Stopped) {
			t.Errorf("%s is %s, process %d; want %s", n.Name, got, pid, want)
		}
	}
	one, two := f.Nodes[0], f.Nodes[1]
	state(one, Running)
	if err := f.Start(one); !errors.Is(err, ErrRunning) {
		t.Errorf("start of what runs: %v", err)
	}
	if err := one.Resume(); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resume of what runs: %v", err)
	}
	for _, do := range []struct {
		what func() error
		then string
	}{{one.Pause, Paused}, {one.Resume, Running}, {one.Kill, Stopped}, {func() error { return f.Start(one) }, Running}} {
		if err := do.what(); err != nil {
			t.Errorf("towards %s: %v", do.then, err)
		}
		state(one, do.then)
	}
	if err := f.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := two.Pause(); err != nil { // it stops gracefully all the same
		t.Error(err)
	}
	f.Stop(t.Context())
	for _, n := range f.Nodes {
		state(n, Stopped)
	}
	if err := two.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "s2 ended by itself") {
		t.Errorf("it was killed, not stopped: %v", err)
	}
}

func TestFenced(t *testing.T) {
	for _, tc := range []struct {
		fenced string
		least  int // the others may be given up before they answer
		most   bool
	}{{"s2", 1, false}, {"s1,s3", 1, true}} {
		_, err := startFleet(t, tc.fenced)
		var found *FencedServers
		if !errors.As(err, &found) || len(found.Fenced) < tc.least || found.Most != tc.most {
			t.Errorf("%s are fenced: %v", tc.fenced, err)
			continue
		}
		if text := found.Error(); !strings.Contains(text, "is up and takes no part: service x of cluster y") {
			t.Errorf("%s are fenced: %q", tc.fenced, text)
		}
	}
}
